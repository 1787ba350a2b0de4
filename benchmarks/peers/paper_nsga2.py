"""pymoo's NSGA-II as the paper sets it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas_compress.space import SearchSpace
from peers.run import Evaluations, PeerRun, Problem


def paper_nsga2(problem: Problem, metrics: Sequence[str], population: int, budget: int, seed: int) -> PeerRun:
    """Search with pymoo's NSGA-II, set as the paper sets it (section 4.1).

    A gene mutates with probability 1 / population, crossover has probability 0.9, and offspring that differ in
    unused genes alone are duplicates. The operators are those that pymoo publishes for integers: simulated binary
    crossover and polynomial mutation of index 3, rounded.
    """
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.duplicate import DefaultDuplicateElimination
    from pymoo.core.problem import Problem as PymooProblem
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    space, evaluations = problem.space, Evaluations(problem, metrics)
    bounds = {"xl": 0, "xu": space.cardinalities - 1, "n_var": len(space.cardinalities)}
    replayed = PymooProblem(n_obj=len(metrics), vtype=int, **bounds)
    replayed._evaluate = lambda x, out, *_, **__: out.update(F=evaluations.costs(x))
    algorithm = NSGA2(
        pop_size=population,
        sampling=IntegerRandomSampling(),
        crossover=SBX(prob=0.9, eta=3.0, vtype=float, repair=RoundingRepair()),
        mutation=PM(prob=1.0, prob_var=1 / population, eta=3.0, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=DefaultDuplicateElimination(func=lambda pop: _used(space, pop.get("X"))),
    )
    minimize(replayed, algorithm, ("n_gen", math.ceil(budget / population)), seed=seed, copy_algorithm=False)
    return evaluations.finish(budget)


def _used(space: SearchSpace, encoded: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return choice indices with unused genes at 0, shape (n, genes)."""
    return encoded * space.active(encoded)
