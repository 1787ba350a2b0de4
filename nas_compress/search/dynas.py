"""Bi-level search: predictors choose what is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nas_compress.objectives.base import AnalyticObjective, Objective
from nas_compress.predictors import predictors
from nas_compress.search import pareto
from nas_compress.search.base import Trial
from nas_compress.search.evolution import Evolution
from nas_compress.search.generational import GenerationalSearch
from nas_compress.space import Architecture, SearchSpace
from nas_compress.space.search_space import FloatMatrix, IntMatrix

OPENING = 20
"""Architectures measured before predictors are trusted, or the population where that is smaller."""

INNER_GENERATIONS = 30
"""Generations of the inner NSGA-II between two measured batches."""

GROWTH = 25
"""A batch is never smaller than this part of what is measured, so that long searches do not refit all the time."""

ONE_HOT_WEIGHT = 0.35
"""Scale of the one-hot features next to the ordinal ones, which carry most of what a few measurements can tell."""


class DyNAS(GenerationalSearch):
    """Measures a batch, fits a predictor per objective, searches on the predictions, measures the best, and so on.

    The first batch holds the smallest, the largest and random architectures. Later ones are chosen from all that
    an NSGA-II on the predicted objectives, started from what is measured, has seen: greedily, each the one that
    improves the measured front's hypervolume most. `AnalyticObjective`s are computed, never predicted.

    Source: Cummings et al., 2022, "A Hardware-Aware Framework for Accelerating Neural Architecture Search Across
    Modalities" (LINAS, the bi-level loop).

    Args:
        space: See `SearchStrategy`.
        objectives: See `SearchStrategy`.
        seed: See `SearchStrategy`.
        population: Number of parents in the inner search, and the most architectures in the first batch.
        first: See `SearchStrategy`.
        predictor: Name in `nas_compress.predictors.predictors`.
        batch: Architectures measured between two fits; small ones waste fewest measurements.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        *,
        seed: int = 42,
        population: int = 50,
        first: Sequence[Architecture] = (),
        predictor: str = "gp",
        batch: int = 10,
    ) -> None:
        super().__init__(space, objectives, seed=seed, population=population, first=first)
        self.predictor = predictors.get(predictor)
        self.batch = min(batch, population)
        self._rows: IntMatrix = np.empty((0, len(space.cardinalities)), dtype=np.int64)
        self._measured: FloatMatrix = np.empty((0, len(self.objectives)))

    def _generation(self, told: Sequence[Trial]) -> IntMatrix:
        self._rows = np.vstack([self._rows, self.space.encode([t.architecture for t in told])])
        self._measured = np.vstack([self._measured, self._costs(told)])
        corners = self._claim(self.space.encode([self.space.smallest(), self.space.largest()]))
        missing = max(2, min(OPENING, self.population)) - len(self._rows) - len(corners)
        if len(corners) or missing > 0:
            return np.vstack([corners, self._draw(max(0, missing))])
        return self._promising(max(self.batch, len(self._rows) // GROWTH))

    def _promising(self, n: int) -> IntMatrix:
        """Claim the `n` architectures that the predictors promise most of; random ones fill what is lacking."""
        rows, costs = self._search(self._model())
        front = self._measured[pareto.non_dominated(self._measured)]
        best = pareto.greedy_improvement(costs, front, pareto.reference_point(self._measured), n)
        order = np.concatenate([best, np.argsort(pareto.ranks(costs), kind="stable")])
        chosen = self._claim(rows[order], n)
        return np.vstack([chosen, self._draw(n - len(chosen))])

    def _model(self) -> Callable[[IntMatrix], FloatMatrix]:
        """Return a function from encoded architectures, shape (n, genes), to costs, shape (n, objectives)."""
        features = self._features(self._rows)
        predicted = {
            i: self.predictor().fit(features, self._measured[:, i])
            for i, objective in enumerate(self.objectives)
            if not isinstance(objective, AnalyticObjective)
        }

        def costs(rows: IntMatrix) -> FloatMatrix:
            features, matrix = self._features(rows), np.empty((len(rows), len(self.objectives)))
            for i, objective in enumerate(self.objectives):
                if isinstance(objective, AnalyticObjective):
                    values = objective.compute(self.space.decode(rows))
                    matrix[:, [i]] = pareto.costs(values, [objective.direction])
                else:
                    matrix[:, i] = predicted[i].predict(features)[0]
            return matrix

        return costs

    def _features(self, rows: IntMatrix) -> FloatMatrix:
        features = self.space.encoded_features(rows)
        features[:, np.count_nonzero(self.space.cardinalities > 1) :] *= ONE_HOT_WEIGHT
        return features

    def _search(self, model: Callable[[IntMatrix], FloatMatrix]) -> tuple[IntMatrix, FloatMatrix]:
        """Run NSGA-II on the model; return every architecture it saw, none claimed before, and its costs."""
        evolution = Evolution(self.space, len(self.objectives), self.population, self.rng, set(self._seen))
        evolution.select(self._rows, model(self._rows))
        rows, costs = [self._rows[:0]], [self._measured[:0]]
        for _ in range(INNER_GENERATIONS):
            bred = evolution.breed(self.population)
            if not len(bred):
                break
            rows.append(bred)
            costs.append(model(bred))
            evolution.select(bred, costs[-1])
        return np.vstack(rows), np.vstack(costs)
