from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from nas_compress.constraints import Constraint
from nas_compress.errors import InfeasibleError
from nas_compress.objectives.base import AnalyticObjective
from nas_compress.search import SearchProblem
from nas_compress.search.feasible import SMALL, Feasible
from nas_compress.search.problem import Limits
from nas_compress.space import Architecture, Dimension, SearchSpace, depth_conditions

SMALL_SPACE = SearchSpace(
    "small",
    (Dimension.uniform("k", (3, 5, 7), 4), Dimension.uniform("d", (1, 2, 3, 4))),
    depth_conditions("d", ("k",), [4]),
)
LARGE_SPACE = SearchSpace("large", (Dimension.uniform("k", (0, 1, 2, 3), 30),))


class Total(AnalyticObjective):
    name, direction, unit, column = "total", "minimize", "", ""

    def compute(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        return np.array([float(sum(a["k"])) for a in architectures])


def feasible(space: SearchSpace, limit: Constraint, seed: int = 0) -> Feasible:
    return Feasible(space, Limits(SearchProblem(space, [Total()], [limit])), np.random.default_rng(seed))


def totals(space: SearchSpace, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    return Total().compute(space.decode(rows))


def test_a_small_space_gives_all_that_keep_the_limit() -> None:
    assert SMALL_SPACE.size() <= SMALL
    everything = np.array(list(SMALL_SPACE.enumerate()))
    expected = {row.tobytes() for row in everything[totals(SMALL_SPACE, everything) <= 10]}
    found = feasible(SMALL_SPACE, Constraint("total", "<=", 10.0)).draw(1000, set())
    assert {row.tobytes() for row in found} == expected
    assert len(found) == len(expected)


def test_what_was_seen_is_not_drawn() -> None:
    near = feasible(SMALL_SPACE, Constraint("total", "<=", 10.0))
    everything = near.draw(1000, set())
    seen = {row.tobytes() for row in everything[:-2]}
    assert len(near.draw(1000, seen)) == 2


@pytest.mark.parametrize(("limit", "rare"), [(45.0, False), (3.0, True)])
def test_a_large_space_gives_many_even_where_random_draws_give_none(limit: float, rare: bool) -> None:
    random = np.random.default_rng(9).integers(0, 4, size=(100_000, 30))
    assert rare == (not (totals(LARGE_SPACE, random) <= limit).any())
    near = feasible(LARGE_SPACE, Constraint("total", "<=", limit))
    found = near.draw(50, set())
    assert len({row.tobytes() for row in found}) >= 50
    assert (totals(LARGE_SPACE, found) <= limit).all()
    assert (LARGE_SPACE.canonical(found) == found).all()


def test_the_only_one_in_10_to_the_18_is_found() -> None:
    near = feasible(LARGE_SPACE, Constraint("total", "<=", 0.0))
    assert near.draw(5, set()).tolist() == [[0] * 30]


def test_a_limit_that_nothing_keeps_names_the_closest() -> None:
    with pytest.raises(InfeasibleError, match="meets total < 0; the closest found has total 0"):
        feasible(LARGE_SPACE, Constraint("total", "<", 0.0))


class Narrow(Total):
    """Sums of squares that single genes change much: evolution on the excess gets stuck beside a narrow range."""

    def compute(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        return self.compute_encoded(LARGE_SPACE, LARGE_SPACE.encode(architectures))

    def compute_encoded(self, space: SearchSpace, encoded: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.asarray(encoded @ WEIGHTS, dtype=np.float64)


WEIGHTS = np.random.default_rng(1).integers(10**6, 10**7, size=30)
MIDDLE = int(1.5 * WEIGHTS.sum())


def narrow(width: int, seed: int, low: int = MIDDLE) -> Feasible:
    limits = [Constraint("total", ">=", float(low)), Constraint("total", "<=", float(low + width))]
    return Feasible(LARGE_SPACE, Limits(SearchProblem(LARGE_SPACE, [Narrow()], limits)), np.random.default_rng(seed))


@pytest.mark.parametrize("seed", [0, 1])
def test_what_many_random_draws_find_is_not_called_infeasible(seed: int) -> None:
    found = narrow(1500, seed).draw(3, set())
    assert len(found) == 3 and ((found @ WEIGHTS >= MIDDLE) & (found @ WEIGHTS <= MIDDLE + 1500)).all()


def test_a_narrow_range_supplies_as_many_as_are_wanted() -> None:
    near, seen = narrow(20_000, 3), set[bytes]()
    for _ in range(4):
        found = near.draw(30, seen)
        assert len({row.tobytes() for row in found} - seen) == 30
        seen |= {row.tobytes() for row in found}


def test_the_same_seed_finds_the_same() -> None:
    once, again = (narrow(1500, 0).draw(3, set()).tolist() for _ in range(2))
    assert once == again


def test_the_message_tells_what_was_tried_and_how_close_it_came() -> None:
    with pytest.raises(InfeasibleError, match=r"found in [\d,]{6,} tries meets .*; the closest found has total \d{9}$"):
        narrow(0, 0, low=MIDDLE)
    with pytest.raises(
        InfeasibleError, match=r"no architecture of space 'small' meets .*; the closest found has total 3"
    ):
        feasible(SMALL_SPACE, Constraint("total", "<", 0.0))
