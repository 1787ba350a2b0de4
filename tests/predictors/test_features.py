from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nas_compress.objectives.base import AnalyticObjective
from nas_compress.predictors.features import COMPUTED_WEIGHT, Features
from nas_compress.space import Architecture, Dimension, SearchSpace, mobilenet_space

SPACE = mobilenet_space("blocks", stages=3)


class Macs(AnalyticObjective):
    name, direction, unit, column = "macs", "minimize", "", ""

    def compute(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        return np.array([1.0 + np.dot(a["e"], np.square(a["ks"])) for a in architectures])


class Nothing(Macs):
    name = "nothing"

    def compute(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        return np.zeros(len(architectures))


def draw(n: int, seed: int = 0) -> NDArray[np.int64]:
    return SPACE.encode(SPACE.sample(np.random.default_rng(seed), n))


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_unused_genes_make_no_difference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, SPACE.cardinalities, size=(4, len(SPACE.cardinalities)))
    other = np.where(SPACE.active(rows), rows, rng.integers(0, SPACE.cardinalities, size=rows.shape))
    features = Features(SPACE)
    assert np.array_equal(features(rows), features(other))


def test_features_tell_architectures_apart() -> None:
    rows = np.unique(draw(500), axis=0)
    assert len(np.unique(Features(SPACE)(rows), axis=0)) == len(rows)


def test_a_level_is_the_sum_of_the_ranks_of_a_dimension_or_of_a_stage() -> None:
    rows, features = draw(20), Features(SPACE)
    genes = int(np.count_nonzero(SPACE.cardinalities > 1))
    ordinal = SPACE.encoded_features(rows)[:, :genes]
    found = features(rows)
    kernels = ordinal[:, :12].sum(axis=1) / np.sqrt(12)
    second_stage = ordinal[:, 4:8].sum(axis=1) / 2
    for expected in (kernels, second_stage):
        assert any(np.allclose(column, expected) for column in found.T)


def test_computed_quantities_and_depth_run_from_0_to_1() -> None:
    ends = SPACE.encode([SPACE.smallest(), SPACE.largest()])
    plain, more = Features(SPACE)(ends), Features(SPACE, [Macs(), Nothing()])(ends)
    assert more.shape[1] == plain.shape[1] + 2  # what is not positive is left out
    assert np.allclose(more[:, -4:] / COMPUTED_WEIGHT, [[0] * 4, [1] * 4])


def test_the_depth_is_the_number_of_active_genes() -> None:
    rows = draw(50)
    depth, found = SPACE.active(rows).sum(axis=1), Features(SPACE)(rows)[:, -2]
    ends = SPACE.active(SPACE.encode([SPACE.smallest(), SPACE.largest()])).sum(axis=1)
    assert np.allclose(found / COMPUTED_WEIGHT, np.log(depth / ends[0]) / np.log(ends[1] / ends[0]))


def test_kinds_have_no_rank_and_are_counted() -> None:
    space = SearchSpace("cells", (Dimension.uniform("op", range(4), 6, ordered=False),))
    rows = np.random.default_rng(0).integers(0, 4, size=(50, 6))
    found = Features(space)(rows)
    for op in range(4):
        count = (rows == op).sum(axis=1) / np.sqrt(6)
        assert any(np.allclose(column, count) for column in found.T)
    swapped = np.array([2, 0, 3, 1])[rows]  # other names for the same kinds: the same distances

    def distances(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(((x[:, None] - x[None]) ** 2).sum(axis=2))

    assert np.allclose(distances(found), distances(Features(space)(swapped)))


def test_quantities_that_the_ends_do_not_tell_apart_count_where_they_vary() -> None:
    space = SearchSpace("cells", (Dimension.uniform("op", range(4), 6, ordered=False),))

    class Middling(Macs):
        def compute(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
            return np.array([1.0 + sum(v in (1, 2) for v in a["op"]) for a in architectures])

    rows = np.random.default_rng(0).integers(0, 4, size=(50, 6))
    plain, more = Features(space)(rows), Features(space, [Middling()])(rows)
    assert more.shape[1] == plain.shape[1] + 2
    added = more[:, -2:] / COMPUTED_WEIGHT
    assert 0 <= added.min() < 0.1 and 0.9 < added.max() <= 1.1


def test_a_space_of_one_has_rows_without_features() -> None:
    space = SearchSpace("one", (Dimension.uniform("k", (3,), 2),))
    assert Features(space)(np.zeros((3, 2), dtype=np.int64)).shape == (3, 0)


def test_names_may_have_brackets() -> None:
    plain, bracketed = (
        SearchSpace("own", [Dimension(name, ((1, 2, 3),) * 2) for name in names])
        for names in (("a", "b"), ("stage[0]", "stage[1]]"))
    )
    rows = plain.encode(plain.sample(np.random.default_rng(0), 9))
    assert np.array_equal(Features(bracketed)(rows), Features(plain)(rows))
