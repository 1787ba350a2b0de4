from __future__ import annotations

import numpy as np
import pytest
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding
from pymoo.operators.survival.rank_and_crowding.metrics import calc_crowding_distance

from nas_compress.search import operators, pareto
from nas_compress.search.evolver import Evolver
from nas_compress.search.nsga2 import NSGA2Evolver
from nas_compress.search.pymoo_evolution import PymooEvolution
from nas_compress.space import mobilenet_space

SPACE = mobilenet_space("blocks", stages=4)


def costs_of(rows: np.ndarray) -> np.ndarray:
    """Return two costs in conflict that unused genes play no part in."""
    used = SPACE.active(rows)
    quality = np.log1p((rows * used * (1 + np.arange(rows.shape[1]) % 5)).sum(axis=1))
    return np.column_stack([-quality, (np.square(rows + 1) * used).sum(axis=1)])


@pytest.mark.parametrize("seed", range(5))
def test_the_fittest_are_those_that_pymoo_keeps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    costs, excess = rng.random((60, 2)), np.where(rng.random(60) < 0.4, rng.random(60), 0.0)
    feasible = np.flatnonzero(excess == 0)
    rank = dict(zip(feasible.tolist(), pareto.ranks(costs[feasible]).tolist(), strict=True))
    fronts = {r: [i for i in rank if rank[i] == r] for r in rank.values()}
    distance = {i: d for front in fronts.values() for i, d in zip(front, pareto.crowding(costs[front]), strict=True)}

    def fitness(chosen: np.ndarray) -> np.ndarray:
        """Two ends of a front are equals: which one is kept is a matter of chance."""
        return np.array(sorted((excess[i], rank.get(i, 0), -distance.get(i, 0.0)) for i in chosen.tolist()))

    for n in (10, 25, 50):
        everyone = Population.new(X=np.arange(60)[:, None], F=costs, G=excess[:, None])
        problem = Problem(n_var=1, n_obj=2, n_ieq_constr=1)
        kept = RankAndCrowding().do(problem, everyone, n_survive=n, random_state=rng).get("X")[:, 0]
        assert fitness(pareto.fittest(costs, excess, n)) == pytest.approx(fitness(kept.astype(int)))


def test_crowding_is_pymoos_on_a_front() -> None:
    costs = np.random.default_rng(0).random((40, 2))
    front = costs[pareto.non_dominated(costs)]
    inside = np.isfinite(pareto.crowding(front))
    theirs = calc_crowding_distance(front)
    assert pareto.crowding(front)[inside] == pytest.approx(len(front[0]) * theirs[inside])
    assert not np.isfinite(theirs[~inside]).any()


def test_fittest_of_nothing_and_of_fewer_than_wanted() -> None:
    assert len(pareto.fittest(np.empty((0, 2)), np.empty(0), 3)) == 0
    assert set(pareto.fittest(np.ones((2, 2)), np.zeros(2), 3)) == {0, 1}


def evolve(evolver: Evolver, generations: int) -> float:
    for _ in range(generations):
        evolver.tell(costs_of(evolver.ask()))
    front = evolver.population()[1]
    return pareto.hypervolume(front, costs_of(SPACE.encode([SPACE.smallest(), SPACE.largest()])).max(axis=0))


def test_as_good_as_pymoos() -> None:
    def pymoo(genes: operators.Genes, objectives: int, size: int, *_: object) -> NSGA2:
        mating = operators.mating(genes, operators.crowded_tournament())
        return NSGA2(pop_size=size, mating=mating, survival=RankAndCrowding())

    ours = [evolve(NSGA2Evolver(SPACE, 2, 30, np.random.default_rng(s)), 25) for s in range(6)]
    theirs = [evolve(PymooEvolution(SPACE, 2, 30, np.random.default_rng(s), pymoo), 25) for s in range(6)]
    assert np.mean(ours) == pytest.approx(np.mean(theirs), rel=0.03)


def test_offspring_are_canonical_and_differ_from_parents_and_one_another() -> None:
    evolver = NSGA2Evolver(SPACE, 2, 20, np.random.default_rng(0))
    for _ in range(15):
        rows = evolver.ask()
        parents = {row.tobytes() for row in evolver.population()[0]}
        keys = {row.tobytes() for row in rows}
        assert len(keys) == len(rows) and not keys & parents
        assert (rows * SPACE.active(rows) == rows).all()
        evolver.tell(costs_of(rows))
