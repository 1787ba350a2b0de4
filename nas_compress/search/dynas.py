"""Bi-level search: predictors choose what is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nas_compress.search.generational import check_counts
from nas_compress.search.guided import GuidedSearch
from nas_compress.search.opening import opening
from nas_compress.search.problem import SearchProblem
from nas_compress.search.trial import Trial
from nas_compress.space.search_space import IntMatrix

OPENING = 10
"""Architectures measured before predictors are trusted, or the population where that is smaller."""

INNER_POPULATION, INNER_GENERATIONS = 100, 15
"""Size of the search on predictions between two measured batches."""

SHARE, GROWTH = 10, 25
"""A batch is at most a tenth and at least a twenty-fifth of what is measured: early measurements teach most, and
long searches shall not refit all the time."""


class DyNAS(GuidedSearch):
    """Measures a batch, fits a predictor per metric, searches on the predictions, measures the best, and so on.

    The first batch is an `opening`. Later ones are chosen from all that an evolutionary search on the predicted
    costs, started from what is measured, has seen (of `rnsga2`: what survived): greedily, each the one that improves
    the measured front's hypervolume most. `AnalyticObjective`s are computed, never predicted.

    Source: Cummings et al., 2022, "A Hardware-Aware Framework for Accelerating Neural Architecture Search Across
    Modalities" (LINAS, the bi-level loop).

    Args:
        problem: See `SearchStrategy`.
        seed: See `SearchStrategy`.
        population: The most architectures of the opening; the inner search has at least 100 parents.
        predictor: See `GuidedSearch`.
        batch: Architectures measured between two fits, at most `population`: fewer at first (see `SHARE`), more in long
            searches (see `GROWTH`).
        algorithm: See `GuidedSearch`.
        algorithm_options: See `GuidedSearch`.
        optimism: How many standard deviations of the predictor candidates are taken to be better than predicted.
    """

    def __init__(
        self,
        problem: SearchProblem,
        *,
        seed: int = 42,
        population: int = 50,
        predictor: str | Mapping[str, str] | None = None,
        batch: int = 10,
        algorithm: str = "nsga2",
        algorithm_options: Mapping[str, Any] | None = None,
        optimism: float = 0.0,
    ) -> None:
        check_counts(batch=batch)
        super().__init__(
            problem,
            seed=seed,
            population=population,
            predictor=predictor,
            algorithm=algorithm,
            algorithm_options=algorithm_options,
        )
        self.batch, self.optimism = min(batch, population), optimism
        rows = opening(self.space, OPENING, self.rng)
        self._ends, self._opening, self._survivors = rows[:-OPENING], rows[-OPENING:], rows[:0]

    def _generation(self, told: Sequence[Trial]) -> IntMatrix:
        self._learn(told)
        wanted = min(OPENING, self.population) - len(self._rows)
        if len(ends := self._claim(self._ends)):
            return ends
        if wanted > 0:
            return self._ask_for(self._opening, wanted)
        if not self._fit():
            return self._draw(self.batch)
        n = max(min(self.batch, len(self._rows) // SHARE), len(self._rows) // GROWTH, 1)
        size = max(INNER_POPULATION, self.population)
        start = np.unique(np.vstack([self._rows, self._survivors]), axis=0)
        rows, costs, excess, survivors = self._evolve(size, INNER_GENERATIONS, start, self.optimism)
        self._survivors = rows[:size]
        if self.algorithm == "rnsga2":  # what survived is near the reference points, what else was seen is not
            rows, costs, excess = rows[:survivors], costs[:survivors], excess[:survivors]
        rows, costs, excess = self._unseen(rows, costs, excess)
        return self._ask_for(rows[self._improving(n, costs, excess)], n)
