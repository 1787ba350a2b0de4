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
    for space, closest in ((SMALL_SPACE, "total 3"), (LARGE_SPACE, "total 0")):
        with pytest.raises(InfeasibleError, match=f"meets total < 0; the closest found has {closest}"):
            feasible(space, Constraint("total", "<", 0.0))
