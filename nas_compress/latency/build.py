"""Building a latency table: every distinct block, and some whole sub-networks, measured in sweeps."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas_compress.errors import ConfigError, EvaluationError
from nas_compress.latency.blocks import distinct_blocks
from nas_compress.latency.coverage import Finished
from nas_compress.latency.meter import LatencyMeter, Prepared
from nas_compress.latency.table import EMPTY, LatencyTable, TableFile, block_item, check_table, read_table
from nas_compress.objectives.timing import TimingSettings
from nas_compress.space import Architecture

if TYPE_CHECKING:
    from torch import nn

    from nas_compress.space import SearchSpace
    from nas_compress.supernets.base import Inputs, Supernet

SUBNETS = 20
SWEEPS = 4
WHOLE = "a whole sub-network"
"""The label of what is no block."""

KEPT_BYTES = 5 * 10**8
KEPT_SHARE = 20
"""Networks are kept between sweeps, ready to run, up to so many bytes of weights, none that takes more than a twentieth
of the room left (blocks, rather than whole sub-networks); the others are built again."""

SWEEP_SETTINGS = TimingSettings(warmup=3, min_runs=10, max_runs=1000, budget_s=0.05, tolerance=0.002)
"""How long one measurement of one sweep takes: short, as the machine's speed changes from second to second."""

Progress = Callable[[int, int, str], None]
"""Takes the number of measurements made, that of all, and what was measured last."""


@dataclass(frozen=True)
class _Item:
    """What is measured: a block or a whole sub-network.

    Attributes:
        name: What stands for it in the table.
        label: Its name, for messages.
        build: Returns it.
        example: Returns its inputs for a batch size.
    """

    name: Architecture
    label: str
    build: Callable[[], nn.Module]
    example: Callable[[int], Inputs]


def build_table(
    path: str | os.PathLike[str],
    supernet: Supernet,
    space: SearchSpace,
    meter: LatencyMeter,
    *,
    blocks: bool = True,
    subnets: int = SUBNETS,
    sweeps: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> LatencyTable:
    """Measure the distinct blocks of a space and some of its sub-networks, or go on where that was interrupted.

    All are measured once a sweep, in an order drawn anew, so that what slows the machine for a while slows a part of
    the measurements of each, and shows (`drift.without_drift`). A larger space, more sub-networks or more sweeps add to
    a table that is there.

    Args:
        path: The file.
        supernet: Its weights do not matter.
        space: The super-network's space, or a part of it.
        meter: What measures.
        blocks: Whether blocks are measured; without, the table is for a learned predictor.
        subnets: Whole sub-networks to measure, drawn at random, with the largest and the smallest.
        sweeps: How often each is measured; by default `SWEEPS`, and once where the backend takes long to build.
        seed: Seed of the sub-networks and the orders.
        progress: Called before the first measurement, then after each.

    Returns:
        The table as the file holds it now.

    Raises:
        ArchiveError: The file was measured on something else, or cannot be written.
        ConfigError: There are too many distinct blocks for a table, nothing to measure, or a number is out of range.
        EvaluationError: The backend cannot take a block.
    """
    if sweeps is None:
        sweeps = 1 if meter.backend.slow_build else SWEEPS
    _check(blocks, subnets, sweeps)
    path, shelf, conditions = Path(path), _Shelf(meter), table_conditions(supernet, meter)
    check_table(path, conditions)
    items = [*(_blocks(supernet, space, seed) if blocks else []), *_subnets(supernet, space, subnets, seed)]
    with TableFile(path, conditions) as file:
        order = _order(len(items), sweeps, seed)
        if progress is not None:
            left = sum(not file.has(items[number].name, sweep) for sweep, number in order)
            progress(0, len(order), _outlook(items, sweeps, left))
        for done, (sweep, number) in enumerate(order, start=1):
            item = items[number]
            if not file.has(item.name, sweep):
                stats = shelf.measure(item)
                file.add(item.name, sweep, stats.cpu_ms if meter.threads == 1 else stats.median_ms, stats)
            if progress is not None:
                progress(done, len(order), f"sweep {sweep + 1} of {sweeps}, {item.label}")
        file.finish(Finished.of(space, blocks, subnets))
    return read_table(path)


def _check(blocks: bool, subnets: int, sweeps: int) -> None:
    for name, value, least in (("subnets", subnets, 0), ("sweeps", sweeps, 1)):
        if value < least:
            raise ConfigError(f"a latency table: {name} = {value} is out of range; allowed: {least} and more")
    if not blocks and subnets < 1:
        raise ConfigError("a latency table wants blocks or sub-networks, got neither")


def _outlook(items: Sequence[_Item], sweeps: int, left: int) -> str:
    """Return what is to be measured, and how long that takes if building the networks takes no time."""
    labels = [item.label for item in items]
    subnets, blocks = labels.count(WHOLE), len(labels) - labels.count(WHOLE) - labels.count(EMPTY)
    seconds = left * SWEEP_SETTINGS.budget_s
    time = f"at least {seconds:.0f} s to measure" if seconds < 120 else f"at least {seconds / 60:.0f} min to measure"
    return f"{blocks} blocks, {subnets} sub-networks, {sweeps} sweeps: {time if left else 'all is measured'}"


def table_conditions(supernet: Supernet, meter: LatencyMeter) -> dict[str, Any]:
    """Return what the measurements of a table depend on: the super-network's configuration, and the meter's."""
    return {"supernet": supernet.describe(), **meter.describe()}


def random_subnets(space: SearchSpace, count: int, seed: int) -> list[Architecture]:
    """Return distinct architectures: the largest, the smallest, then random ones; fewer where there are no more."""
    rng, wanted = np.random.default_rng(seed), min(count, space.size())
    found = dict.fromkeys([space.largest(), space.smallest()])
    while len(found) < wanted:
        found |= dict.fromkeys(space.sample(rng, wanted))
    return list(found)[:count]


def _subnets(supernet: Supernet, space: SearchSpace, count: int, seed: int) -> list[_Item]:
    def item(architecture: Architecture) -> _Item:
        return _Item(
            architecture,
            WHOLE,
            lambda: supernet.extract(architecture),
            lambda batch: supernet.example_input(batch, architecture),
        )

    return [item(architecture) for architecture in random_subnets(space, count, seed)]


def _blocks(supernet: Supernet, space: SearchSpace, seed: int) -> list[_Item]:
    found = distinct_blocks(supernet, space, np.random.default_rng(seed))
    items = [_Item(block_item(key), key, block.build, block.example) for key, block in found.items()]
    return [_Item(block_item(EMPTY), EMPTY, _empty, _one_number), *items]


def _empty() -> nn.Module:
    from torch import nn

    return nn.ReLU().eval()


def _one_number(batch: int) -> Inputs:
    import torch

    return torch.ones(batch, 1)


def _order(items: int, sweeps: int, seed: int) -> list[tuple[int, int]]:
    """Return the sweep and the item of each measurement."""
    orders = (np.random.default_rng([seed, sweep]).permutation(items) for sweep in range(sweeps))
    return [(sweep, int(number)) for sweep, order in enumerate(orders) for number in order]


class _Shelf:
    """Measures items, and keeps them ready for the next sweep as far as there is room.

    Args:
        meter: What measures.
    """

    def __init__(self, meter: LatencyMeter) -> None:
        self._meter = meter
        self._kept: dict[Architecture, Prepared] = {}
        self._bytes = 0

    def measure(self, item: _Item) -> Any:
        try:
            return self._meter.time(self._kept.get(item.name) or self._prepare(item), SWEEP_SETTINGS)
        except EvaluationError as error:
            raise EvaluationError(f"{item.label}: {error}") from error

    def _prepare(self, item: _Item) -> Prepared:
        module = item.build()
        prepared = self._meter.prepare(module, item.example(self._meter.batch_size))
        size = sum(parameter.nbytes for parameter in module.parameters())
        if size * KEPT_SHARE <= KEPT_BYTES - self._bytes:
            self._kept[item.name] = prepared
            self._bytes += size
        return prepared
