from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

from nas_compress.search import operators, pareto
from nas_compress.search.age import GeometrySurvival
from nas_compress.search.directions import directions
from nas_compress.search.operators import Duplicates, Genes, RandomReset
from nas_compress.space import Dimension, SearchSpace, depth_conditions

SPACE = SearchSpace(
    "blocks",
    (Dimension.uniform("k", (3, 5, 7), 4), Dimension.uniform("d", (1, 2, 3, 4)), Dimension.uniform("r", (8,))),
    depth_conditions("d", ("k",), [4]),
)
GENES = Genes(SPACE)


@given(st.integers(0, 1000))
def test_rounding_gives_canonical_rows_of_anything(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(1, 3, size=(9, 5))
    x[0, 0], x[1, 1], x[2, 2] = np.nan, np.inf, -np.inf
    rows = GENES.rounded(x)
    assert rows.shape == (9, 6)
    assert ((rows >= 0) & (rows < SPACE.cardinalities)).all()
    assert (rows * SPACE.active(rows) == rows).all()
    assert (GENES.rows(GENES.spread(rows, rng)) == rows).all()


def test_reset_changes_the_given_share_of_genes_to_other_values() -> None:
    x = np.zeros((4000, 5), dtype=np.int64)
    y = RandomReset(GENES, 0.3)._do(None, x, random_state=np.random.default_rng(0))
    assert (y != x).mean() == pytest.approx(0.3, abs=0.02)
    assert {tuple(np.unique(y[:, g])) for g in range(4)} == {(0, 1, 2)}
    assert set(np.unique(y[:, 4])) == {0, 1, 2, 3}


def test_duplicates_are_those_of_canonical_form() -> None:
    deep, shallow, same, other = [0, 1, 0, 0, 1], [0, 1, 0, 0, 0], [0, 2, 1, 0, 0], [1, 2, 1, 0, 0]
    offspring = Population.new(X=np.array([deep, shallow, same, other]))
    assert [one.X.tolist() for one in Duplicates(GENES).do(offspring)] == [deep, shallow, other]
    assert [one.X.tolist() for one in Duplicates(GENES).do(offspring, Population.new(X=np.array([same])))] == [
        deep,
        other,
    ]


def tournament(selection: object, pairs: list[list[int]], excess: list[float], **data: list[float]) -> list[int]:
    population = Population.new(X=np.zeros((len(excess), 1)), F=np.array(data.pop("F", excess))[:, None])
    for i, one in enumerate(population):
        one.CV = np.array([excess[i]])
        one.data |= {key: values[i] for key, values in data.items()}
    winners = selection.func_comp(population, np.array(pairs), random_state=np.random.default_rng(0))
    return winners[:, 0].tolist()


def test_crowded_tournament() -> None:
    won = tournament(
        operators.crowded_tournament(),
        [[0, 1], [1, 0], [1, 2], [2, 1], [2, 3], [3, 4]],
        excess=[0, 0, 0, 0.5, 0.7],
        rank=[0, 1, 1, np.nan, np.nan],
        crowding=[0.1, 0.2, np.inf, np.nan, np.nan],
    )
    assert won == [0, 0, 2, 2, 2, 3]


def test_niche_tournament() -> None:
    won = tournament(
        operators.niche_tournament(),
        [[0, 1], [1, 2], [2, 1]] + [[0, 3]] * 50,
        excess=[0, 0, 0, 0],
        niche=[1, 1, 1, 2],
        rank=[0, 1, 1, 5],
        dist_to_niche=[9, 0.5, 0.2, 0],
    )
    assert won[:3] == [0, 2, 2]
    assert set(won[3:]) == {0, 3}


def test_cost_tournament() -> None:
    assert tournament(operators.cost_tournament(), [[0, 1], [1, 0], [1, 2]], [0, 0, 0.1], F=[2.0, 1.0, 0.0]) == [
        1,
        1,
        1,
    ]


@given(st.integers(1, 5), st.integers(1, 40))
def test_directions(m: int, n: int) -> None:
    points = directions(m, n)
    assert points.shape == (n, m)
    assert (points >= 0).all()
    assert np.allclose(points.sum(axis=1), 1)
    if m > 1:
        assert len(np.unique(points.round(9), axis=0)) == n
    if n >= m:
        assert {int(np.argmax(p)) for p in points if p.max() == 1} == set(range(m))


def test_directions_are_spread_evenly() -> None:
    points = directions(3, 50)  # a lattice of 45 points has a spacing of sqrt(2) / 8
    distances = np.linalg.norm(points[:, None] - points[None], axis=2) + 9 * np.eye(50)
    assert distances.min() > 0.7 * np.sqrt(2) / 8


def survive(costs: np.ndarray, n: int, excess: np.ndarray | None = None) -> Population:
    excess = np.zeros(len(costs)) if excess is None else excess
    population = Population.new(X=np.arange(len(costs))[:, None], F=costs, G=excess[:, None])
    problem = Problem(n_var=1, n_obj=costs.shape[1], n_ieq_constr=1)
    return GeometrySurvival().do(problem, population, n_survive=n, random_state=np.random.default_rng(0))


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 4), st.integers(1, 30), st.booleans())
def test_age_keeps_whole_fronts_first(seed: int, size: int, m: int, n: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    costs = rng.integers(0, 4, (size, m)).astype(float) if ties else rng.random((size, m))
    kept = survive(costs, min(n, size))
    indices = kept.get("X")[:, 0]
    ranks = pareto.ranks(costs)
    assert len(set(indices)) == min(n, size)
    assert sorted(ranks[indices]) == sorted(ranks)[: len(indices)]
    assert not np.isnan(kept.get("crowding").astype(float)).any()


def sphere(n: int, seed: int) -> np.ndarray:
    """Return points of the unit sphere, its ends and its middle first: all are as close to the ideal, in the 2-norm."""
    points = np.vstack([np.eye(3), np.ones((1, 3)), np.random.default_rng(seed).dirichlet([1, 1, 1], n)])
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def test_age_keeps_the_ends_and_spreads() -> None:
    def least_gaps(points: np.ndarray) -> float:
        distances = np.linalg.norm(points[:, None] - points[None], axis=2) + 9 * np.eye(len(points))
        return float(distances.min(axis=1).mean())

    for seed in range(3):
        points = sphere(300, seed)
        kept = survive(points, 30).get("X")[:, 0]
        assert {0, 1, 2} <= set(kept)
        assert least_gaps(points[kept]) > 1.3 * least_gaps(points[4:34])


def test_age_puts_excess_behind() -> None:
    costs = np.array([[0.0, 0.0], [1.0, 2.0], [2.0, 1.0], [0.5, 0.5]])
    assert set(survive(costs, 3, np.array([5.0, 0, 0, 1.0])).get("X")[:, 0]) == {1, 2, 3}


def test_age_agrees_with_pymoo() -> None:
    """Where all points are equally close to the ideal: pymoo divides by the proximity of the other point of a pair."""
    pytest.importorskip("numba", reason="pymoo's AGE-MOEA needs numba")
    from pymoo.algorithms.moo.age import AGEMOEASurvival

    for seed in range(5):
        points = sphere(60, seed)
        population = Population.new(X=np.arange(64)[:, None], F=points)
        theirs = AGEMOEASurvival().do(Problem(n_var=1, n_obj=3), population, n_survive=20).get("X")[:, 0]
        assert set(theirs) == set(survive(points, 20).get("X")[:, 0])


def test_crowded_tournament_prefers_what_nsga2_ranks_first() -> None:
    rng = np.random.default_rng(0)
    population = Population.new(X=np.arange(30)[:, None], F=rng.random((30, 2)))
    population = RankAndCrowding().do(Problem(n_var=1, n_obj=2), population, n_survive=30, random_state=rng)
    pairs = rng.integers(0, 30, (200, 2))
    winners = operators.crowded_tournament().func_comp(population, pairs, random_state=rng)[:, 0]
    rank = population.get("rank").astype(int)
    assert (rank[winners] == rank[pairs].min(axis=1)).all()
