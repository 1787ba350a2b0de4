"""What evolutionary algorithms share here: ask and tell on encoded architectures, from known ones to begin with."""

from __future__ import annotations

import random
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from nas_compress.search import pareto
from nas_compress.search.operators import Genes
from nas_compress.search.problem import FloatVector
from nas_compress.space import SearchSpace
from nas_compress.space.search_space import FloatMatrix, IntMatrix

_SMALLEST = 4
"""Algorithms keep at least so many individuals: fewer cannot be paired, placed or adapted to."""

_PENALTY, _MOST_EXCESS = 1e3, 1e3


@dataclass(frozen=True)
class Scale:
    """Costs in parts of the range of those an algorithm began with: units and offsets make no difference to it."""

    low: FloatVector
    span: FloatVector

    @classmethod
    def of(cls, costs: FloatMatrix) -> Scale:
        """Return the scale on which costs, shape (n, objectives), n >= 1, run from 0 to 1."""
        low, span = costs.min(axis=0), np.ptp(costs, axis=0)
        size = np.where(low != 0, np.abs(low), 1.0)
        return cls(low, np.where(span > 0, span, size))

    def __call__(self, costs: ArrayLike) -> FloatMatrix:
        """Return scaled costs."""
        return np.asarray((np.asarray(costs, dtype=np.float64) - self.low) / self.span)


class Evolver(ABC):
    """A population that evolves by ask and tell; costs are minimised.

    Rows are encoded architectures, shape (n, genes). What is asked is canonical and may have been asked before. An
    individual may be told without costs (NaN): one whose excess is finite breaks a limit and competes by its excess
    alone, one whose excess is infinite has failed and is never a parent.

    Args:
        space: Where the architectures live.
        objectives: Number of costs.
        population: Number of individuals that survive; algorithms that need more keep a few more.
        rng: Makes all random choices; global generators are as they were after each call.
    """

    def __init__(self, space: SearchSpace, objectives: int, population: int, rng: np.random.Generator) -> None:
        self.space, self.objectives, self.rng = space, objectives, rng
        self.size = max(population, _SMALLEST)
        self._genes = Genes(space)
        self._asked: IntMatrix = np.empty((0, len(space.cardinalities)), dtype=np.int64)
        self._scale: Scale | None = None
        self._worst = np.ones(objectives)

    def start(self, rows: IntMatrix, costs: FloatMatrix, excess: FloatVector | None = None) -> None:
        """Begin, or begin anew, from the best of known individuals; without costs for any, from random ones.

        Args:
            rows: Canonical rows, shape (n, genes).
            costs: Shape (n, objectives).
            excess: How far each is beyond the limits, 0 where it keeps them, shape (n,); None where there are none.
        """
        excess = np.zeros(len(rows)) if excess is None else np.asarray(excess, dtype=np.float64)
        known = np.isfinite(costs).all(axis=1) & np.isfinite(excess)
        self._scale = None
        if not known.any():
            return
        rows, costs, excess = rows[known], np.asarray(costs, dtype=np.float64)[known], excess[known]
        self._scale = Scale.of(costs)
        self._worst = self._scale(costs).max(axis=0)
        best = self._best(self._scale(costs), excess)
        with isolated(self.rng):
            self._start(rows[best], costs[best], excess[best], self._scale)

    def ask(self) -> IntMatrix:
        """Return the next generation.

        Algorithms known by name always have one, of random rows if need be; a user's own may come to an end: it then
        returns no rows and wants another `start`.
        """
        if self._scale is None:
            shape = (self.size, len(self._genes.free))
            self._asked = self._genes.rows(self.rng.integers(0, self._genes.choices, size=shape))
        else:
            with isolated(self.rng):
                self._asked = self._ask()
        return self._asked

    def tell(self, costs: FloatMatrix, excess: FloatVector | None = None) -> None:
        """Take the costs, shape (n, objectives), and excess, shape (n,), of what was asked last, in its order."""
        costs = np.asarray(costs, dtype=np.float64)
        excess = np.zeros(len(costs)) if excess is None else np.asarray(excess, dtype=np.float64)
        if self._scale is None:
            self.start(self._asked, costs, excess)
        else:
            scaled = self._scale(costs)
            self._worst = np.nanmax(np.vstack([scaled, self._worst]), axis=0)
            with isolated(self.rng):
                self._tell(costs, np.where(np.isfinite(scaled), scaled, self._worst), excess)

    @abstractmethod
    def population(self) -> tuple[IntMatrix, FloatMatrix]:
        """Return the surviving individuals that keep the limits (all, if none does), each once, and their costs."""

    @abstractmethod
    def _start(self, rows: IntMatrix, costs: FloatMatrix, excess: FloatVector, scale: Scale) -> None:
        """Begin from at most `size` individuals, at least one."""

    @abstractmethod
    def _ask(self) -> IntMatrix:
        """Return the next generation as canonical rows."""

    @abstractmethod
    def _tell(self, costs: FloatMatrix, scaled: FloatMatrix, excess: FloatVector) -> None:
        """Take the costs, NaN where there are none, and the same on the scale, worst ones in place of NaN."""

    def _best(self, scaled: FloatMatrix, excess: FloatVector) -> IntMatrix:
        """Return the indices of the `size` best: less excess first, then by rank and crowding."""
        if len(scaled) <= self.size:
            return np.arange(len(scaled))
        return pareto.fittest(scaled, excess, self.size)


def penalised(scaled: FloatMatrix, excess: FloatVector) -> FloatMatrix:
    """Return scaled costs with a penalty that puts any excess behind all that keep the limits.

    Source: the idea of Deb, 2000, "An efficient constraint handling method for genetic algorithms", with a fixed step.
    """
    step = _PENALTY * (1 + np.minimum(excess, _MOST_EXCESS))
    return scaled + np.where(excess > 0, step, 0.0)[:, None]


def survivors(rows: IntMatrix, costs: FloatMatrix, excess: FloatVector) -> tuple[IntMatrix, FloatMatrix]:
    """Return distinct rows and their costs: those without excess, or all with costs if every one has some."""
    keep = np.isfinite(costs).all(axis=1)
    if (keep & (excess <= 0)).any():
        keep &= excess <= 0
    _, first = np.unique(rows[keep], axis=0, return_index=True)
    order = np.sort(first)
    return rows[keep][order], costs[keep][order]


@contextmanager
def isolated(rng: np.random.Generator) -> Iterator[None]:
    """Seed the global generators from `rng` inside, restore them after; warnings of borderline arithmetic stay inside.

    DEAP draws from numpy's global generator; a user's algorithm may.
    """
    numpy_state, python_state = np.random.get_state(), random.getstate()
    seed = int(rng.integers(2**32))
    np.random.seed(seed)
    random.seed(seed)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
