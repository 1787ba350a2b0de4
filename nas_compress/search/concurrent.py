"""ConcurrentNAS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from nas_compress.errors import ConfigError
from nas_compress.search.generational import check_counts
from nas_compress.search.guided import GuidedSearch
from nas_compress.search.problem import SearchProblem
from nas_compress.search.surrogate import predicted_metrics
from nas_compress.search.trial import Trial
from nas_compress.space.search_space import IntMatrix


class ConcurrentNAS(GuidedSearch):
    """Measures a population, trains weak predictors on all that is measured, evolves on them, measures what survives.

    The loop is Algorithm 1 of the source: a random (or warm-start) population of c architectures; then, in every
    iteration, the objectives are measured, the predictors are trained on all results, the evolutionary algorithm runs
    for J generations on the predictions, from random architectures of its own, and its last population is
    measured next. What was measured before is not measured again: the best others that the run saw take its place.

    Source: Sarah et al., 2022, "A Hardware-Aware System for Accelerating Deep Neural Network Optimization",
    section 4.5 and Algorithm 1; the predictors of section 4.3 (ridge, and SVR for BLEU).

    Args:
        problem: See `SearchStrategy`.
        seed: See `SearchStrategy`.
        population: The paper's c, also that of the inner algorithm.
        predictor: See `GuidedSearch`.
        generations: The paper's J, of the inner algorithm; "> 200" there.
        validation_only: Measured metrics that are never predicted: they play no part in the search on predictions.
            Computed ones, which may stand here too, are computed unless `predictor` names them.
        algorithm: See `GuidedSearch`.
        algorithm_options: See `GuidedSearch`.
    """

    defaults: ClassVar[Mapping[str, str]] = {"": "ridge", "bleu": "svr"}

    def __init__(
        self,
        problem: SearchProblem,
        *,
        seed: int = 42,
        population: int = 50,
        predictor: str | Mapping[str, str] | None = None,
        generations: int = 200,
        validation_only: Sequence[str] | None = None,
        algorithm: str = "nsga2",
        algorithm_options: Mapping[str, Any] | None = None,
    ) -> None:
        check_counts(generations=generations)
        self.generations = generations
        self._validation_only = set(validation_only or ())
        self._named = set() if predictor is None or isinstance(predictor, str) else set(predictor)
        _check(problem, self._validation_only, self._named)
        super().__init__(
            problem,
            seed=seed,
            population=population,
            predictor=predictor,
            algorithm=algorithm,
            algorithm_options=algorithm_options,
        )

    def _predicted(self) -> list[str]:
        wanted = self._named.union(predicted_metrics(self.problem)) - self._validation_only
        return [o.name for o in self.problem.metrics if o.name in wanted]

    def _generation(self, told: Sequence[Trial]) -> IntMatrix:
        self._learn(told)
        if len(self._seen) < self.population or not self._fit():
            return self._draw(max(1, self.population - len(self._seen)))
        rows, costs, excess, survivors = self._evolve(self.population, self.generations)
        chosen = self._claim(rows[: min(survivors, self.population)])
        missing = self.population - len(chosen)
        if not missing:
            return chosen
        rows, costs, excess = self._unseen(rows, costs, excess)
        return np.vstack([chosen, self._ask_for(rows[self._improving(missing, costs, excess)], missing)])


def _check(problem: SearchProblem, validation_only: set[str], predicted: set[str]) -> None:
    names = [o.name for o in problem.metrics]
    if both := sorted(validation_only & predicted):
        raise ConfigError(f"predictor: {both[0]!r} is among validation_only, never predicted; leave out one of them")
    for name in validation_only:
        if name not in names:
            raise ConfigError(f"validation_only: {name!r} is not among {', '.join(names)}")
