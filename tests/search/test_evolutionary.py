from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pymoo.algorithms.moo.moead import MOEAD, ParallelMOEAD
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.algorithms.moo.sms import SMSEMOA
from pymoo.algorithms.moo.spea2 import SPEA2
from pymoo.algorithms.soo.nonconvex.cmaes import CMAES
from pymoo.algorithms.soo.nonconvex.de import DE
from pymoo.algorithms.soo.nonconvex.pattern import PatternSearch
from pymoo.algorithms.soo.nonconvex.pso import PSO
from pymoo.core.algorithm import Algorithm
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling
from pymoo.util.ref_dirs import get_reference_directions

from nas_compress.constraints import Constraint
from nas_compress.errors import ConfigError
from nas_compress.objectives.base import AnalyticObjective, Measurement, Objective
from nas_compress.search import SearchProblem, SearchStrategy, Trial, pareto, strategies
from nas_compress.search.algorithms import ALGORITHMS
from nas_compress.search.evolutionary import Evolutionary
from nas_compress.space import Architecture, Dimension, SearchSpace, depth_conditions

SPACE = SearchSpace(
    "blocks",
    (Dimension.uniform("k", (3, 5, 7), 12), Dimension.uniform("d", (2, 3, 4), 3)),
    depth_conditions("d", ("k",), [4, 4, 4]),
)
CORNERS = [SPACE.smallest(), SPACE.largest()]


class Quality(Objective):
    name, direction, unit, column = "acc", "maximize", "%", ""

    def measure(self, subnet: Any, architecture: Architecture) -> Measurement:
        raise AssertionError("a strategy never measures")


class Cost(AnalyticObjective):
    name, direction, unit, column = "cost", "minimize", "", ""

    def compute(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        return np.array([float(np.square(a["k"]).sum()) for a in architectures])


def value(a: Architecture) -> dict[str, float]:
    """Early blocks gain most from width: what is cheapest for its quality is known, and rare by chance."""
    gain = sum(np.sqrt(k) * (1.5 - i / 12) for i, k in enumerate(a["k"]))
    return {"acc": 100 * (1 - float(np.exp(-gain / 15))), "cost": float(np.square(a["k"]).sum())}


def problem(objectives: int = 2, **options: Any) -> SearchProblem:
    return SearchProblem(SPACE, [Quality(), Cost()][:objectives], **options)


Answer = Callable[[Architecture], dict[str, float]]


def run(strategy: SearchStrategy, budget: int, answer: Answer = value) -> list[Architecture]:
    asked: list[Architecture] = []
    names = [o.name for o in strategy.problem.metrics]
    while len(asked) < budget and (batch := strategy.ask(budget - len(asked))):
        strategy.tell([Trial(a, {name: answer(a)[name] for name in names}) for a in batch])
        asked += batch
    return asked


def reached(asked: Sequence[Architecture], objectives: int) -> float:
    """Return what a search is judged by: hypervolume, or the best quality."""
    if objectives == 1:
        return max(value(a)["acc"] for a in asked)
    costs = np.array([[-value(a)["acc"], value(a)["cost"]] for a in asked])
    return pareto.hypervolume(costs, [-value(CORNERS[0])["acc"], value(CORNERS[1])["cost"]])


@pytest.mark.parametrize("name", ALGORITHMS)
def test_better_than_random(name: str) -> None:
    m = strategies.entry(name).info.get("objectives", 2)
    for seed in (0, 1):
        found = run(strategies.get(name)(problem(m), seed=seed, population=20), 240)
        by_chance = run(strategies.get("random")(problem(m), seed=seed, population=20), 240)
        assert reached(found, m) > reached(by_chance, m)


@pytest.mark.parametrize("name", ["nsga2", "moead", "cmaes"])
def test_what_comes_up_again_costs_nothing(name: str) -> None:
    """A space of 36 is exhausted with 36 evaluations although algorithms keep proposing the best."""
    space = SPACE.restrict({"k": (3, 5), "d": 2})
    space = space.restrict({f"k[{i}]": 3 for i in (4, 5, 8, 9)})
    m = strategies.entry(name).info.get("objectives", 2)
    strategy = strategies.get(name)(SearchProblem(space, [Quality(), Cost()][:m]), population=4)
    asked = run(strategy, 1000)
    assert len(asked) == len(set(asked)) == space.size() == 4


def test_the_algorithm_is_told_how_far_a_limit_is_broken_without_measuring() -> None:
    limit = Constraint("cost", "<=", 120.0)
    asked = run(strategies.get("nsga2")(problem(constraints=[limit], first=CORNERS), population=10), 150)
    assert all(value(a)["cost"] <= 120 for a in asked if a not in CORNERS)
    assert len(set(asked)) == 150


def test_reference_points_are_in_natural_units() -> None:
    """R-NSGA-II asks for cheaper or for better architectures, as its point says."""
    mean = {}
    for corner in CORNERS:
        strategy = strategies.get("rnsga2")(problem(), population=16, references=[value(corner)])
        mean[corner] = np.mean([value(a)["cost"] for a in run(strategy, 250)[-60:]])
    assert mean[CORNERS[0]] < mean[CORNERS[1]] - 50


def test_reference_points_want_every_objective() -> None:
    with pytest.raises(ConfigError, match=r"references\[1\]: .* wants a number for each of acc, cost"):
        strategies.get("rnsga2")(problem(), references=[{"acc": 70.0, "cost": 1.0}, {"acc": 70.0}])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("rnsga2", {"foo": 1}, "'rnsga2' has no option 'foo'; it takes crossover, mutation, references, epsilon"),
        ("nsga2", {"mutaton": 0.1}, r"did you mean 'mutation'\?\); it takes crossover, mutation$"),
        ("cmaes", {"crossover": 0.9}, "'cmaes' has no option 'crossover'; it takes step"),
        ("age", {"crossover": "often"}, "crossover: 'often' is no number"),
        ("moead", {"neighbours": 2.5}, "neighbours: 2.5 is no whole number"),
        ("rnsga2", {"epsilon": None}, "epsilon: None is no number"),
    ],
)
def test_options_that_an_algorithm_does_not_take_are_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        strategies.get(name)(problem(1 if name == "cmaes" else 2), **options)


def test_a_users_algorithm_object_takes_no_options() -> None:
    with pytest.raises(ConfigError, match="'NSGA2' has no option 'mutation'; it takes none but its own"):
        Evolutionary(problem(), algorithm=NSGA2(pop_size=12), mutation=0.1)


INTEGER = {
    "sampling": IntegerRandomSampling(),
    "crossover": SBX(vtype=float, repair=RoundingRepair()),
    "mutation": PM(vtype=float, repair=RoundingRepair()),
}
OWN: dict[str, tuple[int, Callable[[], Algorithm]]] = {
    "real-valued NSGA-II": (2, lambda: NSGA2(pop_size=12)),
    "integer NSGA-II": (2, lambda: NSGA2(pop_size=12, **INTEGER)),
    "NSGA-III": (2, lambda: NSGA3(get_reference_directions("das-dennis", 2, n_partitions=11))),
    "SPEA2": (2, lambda: SPEA2(pop_size=12)),
    "SMS-EMOA": (2, lambda: SMSEMOA(pop_size=12)),
    "MOEA/D": (2, lambda: ParallelMOEAD(get_reference_directions("das-dennis", 2, n_partitions=11))),
    "MOEA/D, one by one": (2, lambda: MOEAD(get_reference_directions("das-dennis", 2, n_partitions=11))),
    "DE": (1, lambda: DE(pop_size=12)),
    "PSO": (1, lambda: PSO(pop_size=12)),
    "CMA-ES": (1, CMAES),
    "pattern search": (1, PatternSearch),
}


@pytest.mark.parametrize("own", OWN)
def test_a_users_algorithm_object(own: str) -> None:
    m, make = OWN[own]
    algorithm = make()
    before = set(algorithm.__dict__), algorithm.is_initialized
    limit = Constraint("acc", ">=", 60.0)
    one = run(Evolutionary(problem(m, constraints=[limit]), algorithm=algorithm, seed=1, population=12), 60)
    assert len(set(one)) == 60
    assert [SPACE.canonicalize(a) for a in one] == one
    assert (set(algorithm.__dict__), algorithm.is_initialized) == before
    again = run(Evolutionary(problem(m, constraints=[limit]), algorithm=algorithm, seed=1, population=12), 60)
    assert again == one


def test_a_users_algorithm_searches() -> None:
    found = run(Evolutionary(problem(), algorithm=NSGA2(pop_size=20)), 240)
    assert reached(found, 2) > reached(run(strategies.get("random")(problem()), 240), 2)


@pytest.mark.parametrize(
    "algorithm", [PSO(), NSGA3(get_reference_directions("das-dennis", 3, n_partitions=3))], ids=["PSO", "NSGA3"]
)
def test_a_users_algorithm_that_does_not_fit(algorithm: Algorithm) -> None:
    with pytest.raises(ConfigError, match=rf"pymoo's {type(algorithm).__name__} does not run on 2 objectives"):
        Evolutionary(problem(), algorithm=algorithm)
