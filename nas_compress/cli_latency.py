"""The command line's commands on latency."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from nas_compress import console
from nas_compress.backends import Precision
from nas_compress.errors import ConfigError

if TYPE_CHECKING:
    from nas_compress.latency.predictor import LatencyPredictor
    from nas_compress.latency.table import LatencyTable
    from nas_compress.space import Value
    from nas_compress.supernets.base import Supernet


def build_lut(
    supernet: Annotated[str, typer.Argument(help="The super-network: a name of `nas-compress list supernets`.")],
    out: Annotated[Path, typer.Option(help="The table, a file of JSON lines; one that is there is gone on with.")],
    backend: Annotated[str, typer.Option(help="A name of `nas-compress list backends`.")] = "onnxruntime",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Inputs per forward pass.")] = 1,
    precision: Annotated[str, typer.Option(help="fp32, or bf16 where the backend can.")] = "fp32",
    isolated: Annotated[
        bool | None, typer.Option(help="Measure in a process of its own, threads pinned to cores.")
    ] = None,
    restrict: Annotated[
        list[str] | None, typer.Option(help="Legal values of a dimension or gene, such as r=160,192; may be repeated.")
    ] = None,
    subnets: Annotated[
        int | None, typer.Option(min=0, help="Whole sub-networks to measure, for calibration; 20 by default.")
    ] = None,
    learned: Annotated[
        int | None, typer.Option(min=10, help="Measure so many whole sub-networks and no blocks, to learn from.")
    ] = None,
    sweeps: Annotated[int | None, typer.Option(min=1, help="How often each is measured; 4 by default.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sub-networks and of the order.")] = 0,
    classes: Annotated[
        int | None, typer.Option(min=1, help="Outputs of the network, if the data has a number of its own.")
    ] = None,
) -> None:
    """Measure a latency table of a super-network on this machine, for searches that predict latency.

    It holds every distinct block of the space and some whole sub-networks; with --learned, whole sub-networks alone.
    Started again, it goes on where it was interrupted.
    """
    from nas_compress.latency.build import SUBNETS, build_table
    from nas_compress.latency.meter import LatencyMeter
    from nas_compress.supernets import load_supernet, replay_of

    if replay_of(supernet) is not None:
        raise ConfigError(f"SUPERNET: {supernet!r} has no network to measure, only values from published tables")
    if threads > (cores := os.cpu_count() or 1):
        raise ConfigError(f"--threads: {threads} is more than this machine's {cores} CPU cores")
    if learned is not None and subnets is not None:
        raise ConfigError("--subnets: does not go with --learned, which is the number of sub-networks without blocks")
    allowed = _restriction(restrict or [])
    meter = LatencyMeter(
        backend, batch_size=batch, threads=threads, precision=cast(Precision, precision), isolated=isolated
    )
    net = load_supernet(supernet, trained=False, num_classes=classes, seed=0)
    space = net.space.restrict(allowed) if allowed else net.space
    with console.table_progress() as progress:
        table = build_table(
            out,
            net,
            space,
            meter,
            blocks=learned is None,
            subnets=next(count for count in (learned, subnets, SUBNETS) if count is not None),
            sweeps=sweeps,
            seed=seed,
            progress=progress,
        )
    meter.close()
    _show(net, table)
    console.say(f"table: {out}")


def _restriction(texts: Sequence[str]) -> dict[str, list[Value]]:
    """Return the values of each gene or dimension that is restricted."""
    allowed: dict[str, list[Value]] = {}
    for name, values in map(_allowed, texts):
        if name in allowed:
            raise ConfigError(f"--restrict: {name!r} is given twice; write all its values at once, as in r=160,192")
        allowed[name] = values
    return allowed


def _allowed(text: str) -> tuple[str, list[Value]]:
    """Return a gene or dimension and its values, of `r=160,192`."""
    import yaml

    name, _, values = text.partition("=")
    try:
        found = [yaml.safe_load(value) for value in values.split(",")]
    except yaml.YAMLError:
        found = []
    if not (name.strip() and found and all(isinstance(value, int | float | str) for value in found)):
        raise ConfigError(f"--restrict: {text!r} is not of the form r=160,192")
    return name.strip(), found


def _show(net: Supernet, table: LatencyTable) -> None:
    """Print what a table holds, and how well latency is predicted from it."""
    noise = f"; single measurements scatter by {100 * table.noise:.2g} %" if table.noise == table.noise else ""
    console.say(f"{len(table.blocks)} blocks, {len(table.subnets)} whole sub-networks{noise}")
    for label, predictor in _predictors(net, table):
        console.say(f"{label}; error: {predictor.describe()['error']}")


def _predictors(net: Supernet, table: LatencyTable) -> list[tuple[str, LatencyPredictor]]:
    from nas_compress.latency.learned import FEWEST_SUBNETS, LearnedLatency
    from nas_compress.latency.lookup_table import LookupTable

    found: list[tuple[str, LatencyPredictor]] = []
    if table.blocks:
        lookup = LookupTable(net, table)
        found.append((str(lookup.plane), lookup))
    if len(table.subnets) >= FEWEST_SUBNETS:
        found.append(("learned from the sub-networks", LearnedLatency(net, table)))
    return found
