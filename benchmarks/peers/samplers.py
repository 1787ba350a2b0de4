"""optuna's samplers."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from peers.run import Evaluations, PeerRun, Problem, quiet


def optuna_sampler(
    problem: Problem, metrics: Sequence[str], population: int, budget: int, seed: int, *, sampler: str
) -> PeerRun:
    """Search with an optuna sampler, one categorical parameter per gene.

    Args:
        problem: What to search.
        metrics: Its objectives.
        population: The population of the NSGA-II sampler; all else is left at optuna's defaults.
        budget: Number of evaluations.
        seed: Seed of the sampler.
        sampler: Name of the sampler's class.
    """
    optuna = importlib.import_module("optuna")
    options = {"population_size": population} if sampler == "NSGAIISampler" else {}
    space, evaluations = problem.space, Evaluations(problem, metrics)
    genes = [(name, range(n)) for name, n in zip(space.gene_names, space.cardinalities.tolist(), strict=True) if n > 1]
    rows = [space.gene_names.index(name) for name, _ in genes]

    def objective(trial: Any) -> tuple[float, ...]:
        encoded = np.zeros((1, len(space.gene_names)), dtype=np.int64)
        encoded[0, rows] = [trial.suggest_categorical(name, choices) for name, choices in genes]
        return tuple(map(float, evaluations(space.decode(encoded))[0]))

    with quiet(seed):
        chosen = getattr(optuna.samplers, sampler)(seed=seed, **options)
        study = optuna.create_study(sampler=chosen, directions=evaluations.directions)
        study.optimize(objective, n_trials=budget)
    return evaluations.finish(budget)
