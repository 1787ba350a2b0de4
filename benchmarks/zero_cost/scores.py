"""Scores of the networks of a problem, kept in a file so that a run goes on where the last one ended."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_compress.errors import EvaluationError
from nas_compress.proxies import score
from nas_compress.proxies.de_score import network_terms
from nas_compress.proxies.initial import Scheme, initialised
from nas_compress.proxies.scoring import FIRST_ORDER
from nas_compress.supernets.base import Inputs

SAVE_EVERY_S = 30

TERMS = ("expressivity", "complexity", "diversity", "saliency")
"""Columns of DE-Score's terms."""

ORIGINAL = "original_"
COLUMNS = (*TERMS, *(f"{ORIGINAL}{term}" for term in TERMS))
"""The same, and those of the terms as DE-NAS's original program computes them."""


@dataclass(frozen=True)
class Problem:
    """Networks with published results.

    Attributes:
        name: Of the problem.
        keys: Names of the networks, in the order in which they are scored.
        targets: Published results of each, by name, shape (n,).
        build: Returns a network by its key.
        inputs: A batch.
        labels: Its labels.
        scheme: How networks are initialised.
        family: `"cnn"`, `"vit"` or `"bert"`: which terms DE-Score has.
    """

    name: str
    keys: Sequence[str]
    targets: dict[str, NDArray[np.float64]]
    build: Callable[[str], nn.Module]
    inputs: Inputs
    labels: Tensor
    scheme: Scheme = "default"
    family: str = "cnn"

    def after(self, count: int) -> Problem:
        """Return the problem without its first networks."""
        targets = {name: values[count:] for name, values in self.targets.items()}
        return replace(self, keys=self.keys[count:], targets=targets)


class Scores:
    """What has been computed: `[value or null, CPU seconds]` by problem and settings, proxy, seed and network.

    Args:
        path: A JSON file, made if it is missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._data: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
        self._saved = time.monotonic()

    def of(self, problem: str, proxy: str, seed: int) -> dict[str, list[float | None]]:
        """Return the scores by network."""
        found: dict[str, list[float | None]] = (
            self._data.setdefault(problem, {}).setdefault(proxy, {}).setdefault(str(seed), {})
        )
        return found

    def save(self, at_once: bool = False) -> None:
        """Write the file, unless that was a moment ago."""
        if at_once or time.monotonic() - self._saved > SAVE_EVERY_S:
            scratch = self._path.with_suffix(".part")
            scratch.write_text(json.dumps(self._data))
            scratch.replace(self._path)
            self._saved = time.monotonic()


def compute(problem: Problem, name: str, proxies: Sequence[str], seeds: Sequence[int], scores: Scores) -> None:
    """Score every network with every proxy; what is there is not computed again.

    Args:
        problem: The networks.
        name: What the file calls the problem and its settings.
        proxies: Registered names, or `COLUMNS`.
        seeds: Seeds of the initial weights.
        scores: Takes them.
    """
    for key in problem.keys:
        for seed in seeds:
            missing = [proxy for proxy in proxies if key not in scores.of(name, proxy, seed)]
            if not missing:
                continue
            network = initialised(problem.build(key), seed, problem.scheme)
            for group in groups(missing):
                for proxy, value, seconds in timed(network, problem, group, seed):
                    scores.of(name, proxy, seed)[key] = [value, seconds]
            scores.save()
    scores.save(at_once=True)


def groups(names: Sequence[str]) -> list[list[str]]:
    """Return which proxies are computed together."""
    together = [name for name in names if name in FIRST_ORDER]
    return [*([together] if together else []), *([name] for name in names if name not in together)]


def timed(
    network: nn.Module, problem: Problem, names: Sequence[str], seed: int
) -> Iterator[tuple[str, float | None, float]]:
    """Yield scores, None where the network is not fit for them, and the CPU seconds they took together."""
    start = time.process_time()
    values: dict[str, float] = {}
    try:
        values = measured(network, problem, names, seed)
    except EvaluationError:
        pass
    seconds = round(time.process_time() - start, 4)
    for name in names:
        yield name, values.get(name), seconds


def measured(network: nn.Module, problem: Problem, names: Sequence[str], seed: int) -> dict[str, float]:
    """Return proxies of a network, or one column of terms."""
    (column,) = names if len(names) == 1 else ("",)
    if column not in COLUMNS:
        return score(network, problem.inputs, names, labels=problem.labels, seed=seed)
    term = column.removeprefix(ORIGINAL)
    found = network_terms(network, problem.inputs, [term], seed, original=column.startswith(ORIGINAL))
    return {column: found[term]}


def columns(scores: Scores, problem: Problem, name: str, proxy: str, seeds: Sequence[int]) -> Iterator[tuple[Any, Any]]:
    """Yield the values (NaN where there are none) and CPU seconds of each seed, shape (n,) each."""
    for seed in seeds:
        found = scores.of(name, proxy, seed)
        rows = [found.get(key, [None, None]) for key in problem.keys]
        yield tuple(
            np.array([np.nan if x is None else x for x in part], dtype=float) for part in zip(*rows, strict=True)
        )
