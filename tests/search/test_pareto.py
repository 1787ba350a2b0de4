from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from nas_compress.search import pareto

points = st.integers(1, 3).flatmap(
    lambda m: arrays(np.float64, st.tuples(st.integers(1, 12), st.just(m)), elements=st.integers(0, 5).map(float))
)


def dominates(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    return bool((a <= b).all() and (a < b).any())


def test_costs_flip_what_is_maximised() -> None:
    assert pareto.costs([[70.0, 3.0], [60.0, 2.0]], ["maximize", "minimize"]).tolist() == [[-70, 3], [-60, 2]]
    assert pareto.costs([], ["maximize", "minimize"]).shape == (0, 2)


@given(points)
def test_non_dominated_is_the_definition(costs: NDArray[np.float64]) -> None:
    expected = [not any(dominates(b, a) for b in costs) for a in costs]
    assert pareto.non_dominated(costs).tolist() == expected


@given(points)
def test_ranks_peel_fronts(costs: NDArray[np.float64]) -> None:
    left, rank = np.arange(len(costs)), 0
    expected = np.empty(len(costs), dtype=int)
    while len(left):
        front = pareto.non_dominated(costs[left])
        expected[left[front]] = rank
        left, rank = left[~front], rank + 1
    # Repeats of a point may be given later ranks; every other point has the definition's.
    ranks = pareto.ranks(costs)
    _, groups = np.unique(costs, axis=0, return_inverse=True)
    for group in range(groups.max() + 1):
        assert ranks[groups.ravel() == group].min() == expected[groups.ravel() == group].min()


def test_no_points() -> None:
    none = np.empty((0, 2))
    assert pareto.non_dominated(none).shape == pareto.ranks(none).shape == (0,)
    assert pareto.hypervolume(none, [1.0, 1.0]) == 0


def test_hypervolume_of_known_points() -> None:
    assert pareto.hypervolume(np.array([[1.0, 3.0], [2.0, 1.0], [9.0, 0.0]]), [4.0, 4.0]) == 7.0
    assert pareto.hypervolume(np.array([[1.0], [3.0]]), [4.0]) == 3.0


@given(points)
def test_hypervolume_is_inclusion_exclusion(costs: NDArray[np.float64]) -> None:
    costs = costs[:6]
    reference = np.full(costs.shape[1], 6.0)
    expected = 0.0
    for size in range(1, len(costs) + 1):
        for subset in combinations(costs, size):
            expected -= (-1) ** size * float(np.prod(reference - np.max(subset, axis=0)))
    assert pareto.hypervolume(costs, reference) == pytest.approx(expected)


@given(points)
def test_reference_point_is_beyond_all(costs: NDArray[np.float64]) -> None:
    assert (pareto.reference_point(costs) > costs.max(axis=0)).all()


@given(points, points, st.integers(0, 6))
def test_greedy_improvement_is_plain_greedy(a: NDArray[np.float64], b: NDArray[np.float64], n: int) -> None:
    m = min(a.shape[1], b.shape[1])
    candidates, front, reference = a[:, :m], b[:, :m], np.full(m, 5.5)
    volume, reached = pareto.hypervolume(front, reference), front
    chosen = pareto.greedy_improvement(candidates, front, reference, n)
    assert len(set(chosen.tolist())) == len(chosen) <= n
    for i in chosen:
        best = max(pareto.hypervolume(np.vstack([reached, c]), reference) for c in candidates)
        reached = np.vstack([reached, candidates[i]])
        assert pareto.hypervolume(reached, reference) == best > volume
        volume = best
    if len(chosen) < n:
        assert pareto.hypervolume(np.vstack([reached, candidates]), reference) == volume
