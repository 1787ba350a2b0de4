"""Evolution strategies that adapt a covariance matrix, on genes laid out in the unit cube."""

from __future__ import annotations

from typing import Any

import cma  # type: ignore[import-untyped]
import moocore
import numpy as np
from deap import base  # type: ignore[import-untyped]
from deap.cma import StrategyMultiObjective  # type: ignore[import-untyped]

from nas_compress.errors import ConfigError
from nas_compress.search.evolver import Evolver, Scale, penalised, survivors
from nas_compress.search.problem import FloatVector
from nas_compress.space import SearchSpace
from nas_compress.space.search_space import FloatMatrix, IntMatrix

_LEAST_STEP = 0.1
"""Steps do not shrink below this part of a gene's range: smaller ones would not reach another choice."""


class _Continuous(Evolver):
    """Lays genes out in [0, 1]: each choice has an interval of equal width, genes may be padded with idle ones."""

    def __init__(
        self, space: SearchSpace, objectives: int, population: int, rng: np.random.Generator, *, step: float = 0.3
    ) -> None:
        super().__init__(space, objectives, population, rng)
        if not 0 < step <= 1:
            raise ConfigError(f"step: {step} is not a part of a gene's range; want more than 0 and at most 1")
        self._step = step
        self._width = max(2, len(self._genes.free))

    def _points(self, rows: IntMatrix) -> FloatMatrix:
        """Return the middle of each choice's interval, shape (n, width); unused genes are drawn at random."""
        points = np.full((len(rows), self._width), 0.5)
        free = len(self._genes.free)
        points[:, :free] = (self._genes.spread(rows, self.rng) + 0.5) / self._genes.choices
        return points

    def _rows(self, points: FloatMatrix) -> IntMatrix:
        free, choices = len(self._genes.free), self._genes.choices
        inside = np.clip(np.nan_to_num(points[:, :free]), 0, 1)
        return self._genes.rows(np.minimum((inside * choices).astype(np.int64), choices - 1))


class CMAES(_Continuous):
    """CMA-ES for one objective; the `cma` package does the work. Excess is a penalty on the cost.

    Once it has converged it begins anew around the best of its last generation.

    Source: Hansen and Ostermeier, 2001, "Completely derandomized self-adaptation in evolution strategies".

    Args:
        space: See `Evolver`.
        objectives: 1.
        population: Individuals per generation.
        rng: See `Evolver`.
        step: First standard deviation, in parts of a gene's range.
    """

    def _start(self, rows: IntMatrix, costs: FloatMatrix, excess: FloatVector, scale: Scale) -> None:
        self._known = rows, costs, excess
        self._begin()

    def _begin(self) -> None:
        """Begin, or begin anew with wide steps, around the best of the last generation."""
        rows, costs, excess = self._known
        best = np.lexsort([costs[:, 0], excess])[:1]
        options = {
            "popsize": self.size,
            "bounds": [0, 1],
            "minstd": _LEAST_STEP,
            "seed": np.nan,
            "randn": lambda *shape: self.rng.standard_normal(shape),
            "verbose": -9,
            "verb_log": 0,
        }
        self._strategy = cma.CMAEvolutionStrategy(self._points(rows[best])[0], self._step, options)

    def _ask(self) -> IntMatrix:
        if self._strategy.stop():
            self._begin()
        self._sampled = self._strategy.ask()
        return self._rows(np.array(self._sampled))

    def _tell(self, costs: FloatMatrix, scaled: FloatMatrix, excess: FloatVector) -> None:
        if np.isfinite(excess).any():
            self._known = self._asked, costs, excess
            self._strategy.tell(self._sampled, penalised(scaled, excess)[:, 0].tolist())

    def population(self) -> tuple[IntMatrix, FloatMatrix]:
        """Return the last generation, see `Evolver.population`."""
        if self._scale is None:
            return self._asked[:0], np.empty((0, self.objectives))
        return survivors(*self._known)


class _Individual(list[float]):
    """A point with what DEAP wants of it (`fitness`), and what it stands for."""

    fitness: Any
    told: tuple[IntMatrix, FloatVector, float]


class MOCMAES(_Continuous):
    """MO-CMA-ES: each parent has its own step and covariance; DEAP's strategy does the work. Excess is a penalty.

    Source: Igel, Hansen and Roth, 2007, "Covariance matrix adaptation for multi-objective optimization"; Voss, Hansen
    and Igel, 2010 (the step size).

    Args:
        space: See `Evolver`.
        objectives: See `Evolver`.
        population: Number of parents, and of offspring per generation.
        rng: See `Evolver`.
        step: First standard deviation, in parts of a gene's range.
    """

    def _start(self, rows: IntMatrix, costs: FloatMatrix, excess: FloatVector, scale: Scale) -> None:
        weights = (-1.0,) * max(2, self.objectives)
        self._fitness = type("Fitness", (base.Fitness,), {"weights": weights})
        turn = np.arange(self.size) % len(rows)
        rows, costs, excess = rows[turn], costs[turn], excess[turn]
        parents = [_Individual(x) for x in self._points(rows).tolist()]
        self._judge(parents, rows, costs, scale(costs), excess)
        self._strategy = StrategyMultiObjective(
            parents, self._step, mu=self.size, lambda_=self.size, indicator=_least_contributor
        )

    def _ask(self) -> IntMatrix:
        self._offspring = self._strategy.generate(lambda x: _Individual(np.clip(x, 0, 1).tolist()))
        return self._rows(np.array(self._offspring))

    def _tell(self, costs: FloatMatrix, scaled: FloatMatrix, excess: FloatVector) -> None:
        self._judge(self._offspring, self._asked, costs, scaled, excess)
        self._strategy.update(self._offspring)
        self._strategy.sigmas = [float(np.clip(sigma, _LEAST_STEP, 1)) for sigma in self._strategy.sigmas]

    def _judge(
        self, points: list[_Individual], rows: IntMatrix, costs: FloatMatrix, scaled: FloatMatrix, excess: FloatVector
    ) -> None:
        judged = penalised(scaled, excess)
        if self.objectives == 1:
            judged = np.hstack([judged, judged])
        for i, point in enumerate(points):
            point.fitness = self._fitness(tuple(judged[i].tolist()))
            point.told = rows[i], costs[i], float(excess[i])

    def population(self) -> tuple[IntMatrix, FloatMatrix]:
        """Return the parents, see `Evolver.population`."""
        if self._scale is None:
            return self._asked[:0], np.empty((0, self.objectives))
        rows, costs, excess = zip(*(parent.told for parent in self._strategy.parents), strict=True)
        return survivors(np.array(rows), np.array(costs), np.array(excess))


def _least_contributor(front: list[_Individual], **_: Any) -> int:
    """Return the index of the point that adds least hypervolume to a front, the reference one beyond its worst."""
    costs = -np.array([point.fitness.wvalues for point in front])
    return int(np.argmin(moocore.hv_contributions(costs, ref=costs.max(axis=0) + 1)))
