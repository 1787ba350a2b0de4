"""Full search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nas_compress.search.generational import check_counts
from nas_compress.search.guided import GuidedSearch
from nas_compress.search.problem import SearchProblem
from nas_compress.search.trial import Trial
from nas_compress.space.search_space import IntMatrix

_LEAST_GOOD = 2


class FullSearch(GuidedSearch):
    """Trains predictors on random measurements, searches on them once and at length, measures what comes out.

    Source: Sarah et al., 2022, "A Hardware-Aware System for Accelerating Deep Neural Network Optimization",
    section 4.4.

    Args:
        problem: See `SearchStrategy`.
        seed: See `SearchStrategy`.
        population: That of the inner algorithm, and the number of architectures measured at a time.
        predictor: See `GuidedSearch`.
        generations: Of the inner algorithm.
        training_samples: Architectures measured before the predictors are trained, at least two of them with success;
            a warm start counts.
        algorithm: See `GuidedSearch`.
        algorithm_options: See `GuidedSearch`.
    """

    def __init__(
        self,
        problem: SearchProblem,
        *,
        seed: int = 42,
        population: int = 50,
        predictor: str | Mapping[str, str] | None = None,
        generations: int = 200,
        training_samples: int = 200,
        algorithm: str = "nsga2",
        algorithm_options: Mapping[str, Any] | None = None,
    ) -> None:
        check_counts(generations=generations, training_samples=training_samples)
        super().__init__(
            problem,
            seed=seed,
            population=population,
            predictor=predictor,
            algorithm=algorithm,
            algorithm_options=algorithm_options,
        )
        self.generations, self.training_samples = generations, training_samples
        self._samples = 0
        self._found: IntMatrix | None = None

    def _generation(self, told: Sequence[Trial]) -> IntMatrix:
        self._learn(told)
        self._samples += len(told)
        if self._found is None:
            missing = max(self.training_samples - self._samples, _LEAST_GOOD - len(self._rows))
            if missing > 0:
                return self._draw(min(missing, self.population))
            self._found = self._search()
        return self._ask_for(self._found, self.population)

    def _search(self) -> IntMatrix:
        """Return all that the search on the predictions saw, what to measure first, first."""
        self._fit()
        rows, costs, excess = self._unseen(*self._evolve(self.population, self.generations)[:3])
        survivors = min(self.population, len(rows))
        return rows[self._improving(survivors, costs, excess)]
