"""A tiny space and deterministic objectives, for tests of the search loop; no deep-learning library needed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_compress.errors import EvaluationError
from nas_compress.objectives.base import AnalyticObjective, Measurement, Objective
from nas_compress.search import SearchProblem, SearchStrategy, Trial
from nas_compress.space import Architecture, Dimension, SearchSpace, depth_conditions


def toy_space() -> SearchSpace:
    """Two stages of up to three blocks: 6,561 genotypes, 1,521 sub-networks."""
    dimensions = (Dimension.uniform("ks", (3, 5, 7), 6), Dimension.uniform("d", (1, 2, 3), 2))
    return SearchSpace("toy", dimensions, depth_conditions("d", ("ks",), [3, 3]))


def score(architecture: Architecture) -> float:
    """A smooth function of the architecture."""
    return float(sum(k * (i + 1) for i, k in enumerate(architecture["ks"])))


class Quality(Objective):
    """Percent; each call counts; architectures in `broken` fail."""

    name, direction, unit, column = "acc", "maximize", "%", "Top-1 Acc (%)"

    def __init__(self, broken: Sequence[Architecture] = (), delay: float = 0.0, conditions: Any = "toy") -> None:
        self.calls: list[Architecture] = []
        self.broken = set(broken)
        self.delay = delay
        self.conditions = conditions

    def measure(self, subnet: Any, architecture: Architecture) -> Measurement:
        assert subnet == ("built", architecture)
        self.calls.append(architecture)
        time.sleep(self.delay)
        if architecture in self.broken or architecture["ks"][0] == 0:
            raise EvaluationError("the logits are not finite")
        return Measurement(100 * (1 - np.exp(-score(architecture) / 50)), spread=0.5, provenance={"images": 100})

    def context(self) -> dict[str, Any]:
        return {"data": self.conditions}


class Speed(Objective):
    """Milliseconds; some architectures, fixed ones, give NaN."""

    name, direction, unit, column = "latency", "minimize", "ms", "Latency (ms)"

    def __init__(self, delay: float = 0.0, nan: bool = False) -> None:
        self.calls: list[Architecture] = []
        self.delay = delay
        self.nan = nan

    def measure(self, subnet: Any, architecture: Architecture) -> Measurement:
        self.calls.append(architecture)
        time.sleep(self.delay)
        if self.nan and score(architecture) % 7 == 2:
            return Measurement(float("nan"))
        return Measurement(0.1 + score(architecture) ** 0.5)


class Size(AnalyticObjective):
    """A count, with a column of its own."""

    name, direction, unit, column = "size", "minimize", "", "Size"

    def compute(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        return np.array([sum(a["ks"]) * 1000.0 for a in architectures])


class Listed(SearchStrategy):
    """Asks for the given architectures, in batches of the population, and notes what it is told."""

    def __init__(self, space: SearchSpace, asks: Sequence[Architecture], population: int = 3) -> None:
        super().__init__(SearchProblem(space, [Size()]), population=population)
        self.left = list(asks)
        self.told: list[list[Trial]] = []

    def ask(self, n: int) -> list[Architecture]:
        batch = self.left[: min(n, self.population)]
        self.left = self.left[len(batch) :]
        return batch

    def tell(self, trials: Sequence[Trial]) -> None:
        self.told.append(list(trials))


def build(architecture: Architecture) -> tuple[str, Architecture]:
    """Stand in for an extracted sub-network."""
    return "built", architecture


def distinct(n: int, seed: int = 0) -> list[Architecture]:
    """Return n distinct canonical architectures of the toy space."""
    return list(dict.fromkeys(toy_space().sample(np.random.default_rng(seed), 10 * n)))[:n]
