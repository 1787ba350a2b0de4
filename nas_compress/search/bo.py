"""Bayesian optimisation."""

from __future__ import annotations

from typing import Any

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
        batch: See `DyNAS`.
        optimism: How many standard deviations better than its mean a prediction is taken to be.
        options: Those of `DyNAS`.
    """

    def __init__(self, problem: SearchProblem, *, batch: int = 1, optimism: float = 1.0, **options: Any) -> None:
        super().__init__(problem, batch=batch, optimism=optimism, **options)
