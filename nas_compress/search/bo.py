"""Bayesian optimisation."""

from __future__ import annotations

from collections.abc import Mapping

from nas_compress.search.dynas import DyNAS
from nas_compress.search.problem import SearchProblem


class BayesianOptimization(DyNAS):
    """Bayesian optimisation with a Gaussian process: one architecture at a time, the optimistic estimate decides.

    In long searches, from 50 measurements on, it is two and more at a time (see `GROWTH` of `dynas`).

    With one objective that is GP-UCB; with several, the optimistic estimate that improves the hypervolume most, as in
    SMS-EGO.

    Source: Srinivas et al., 2010, "Gaussian Process Optimization in the Bandit Setting"; Ponweiser et al., 2008,
    "Multiobjective Optimization on a Limited Budget of Evaluations Using Model-Assisted S-Metric Selection".

    Args:
        problem: See `SearchStrategy`.
        seed: See `SearchStrategy`.
        population: See `DyNAS`.
        predictor: See `GuidedSearch`.
        batch: See `DyNAS`.
        algorithm: See `GuidedSearch`.
        optimism: How many standard deviations better than its mean a prediction is taken to be.
    """

    def __init__(
        self,
        problem: SearchProblem,
        *,
        seed: int = 42,
        population: int = 50,
        predictor: str | Mapping[str, str] | None = None,
        batch: int = 1,
        algorithm: str = "nsga2",
        optimism: float = 1.0,
    ) -> None:
        super().__init__(
            problem,
            seed=seed,
            population=population,
            predictor=predictor,
            batch=batch,
            algorithm=algorithm,
            optimism=optimism,
        )
