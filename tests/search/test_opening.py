from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_compress.search.opening import opening
from nas_compress.space import Dimension, SearchSpace, mobilenet_space

SPACE = mobilenet_space("blocks", stages=3)


@settings(max_examples=30)
@given(st.integers(0, 1000), st.integers(0, 40))
def test_legal_canonical_and_between_the_ends(seed: int, n: int) -> None:
    rows = opening(SPACE, n, np.random.default_rng(seed))
    assert rows.shape == (n + 2, len(SPACE.cardinalities))
    assert ((rows >= 0) & (rows < SPACE.cardinalities)).all()
    assert (SPACE.canonical(rows) == rows).all()
    assert SPACE.decode(rows[:2]) == [SPACE.smallest(), SPACE.largest()]


def test_spreads_further_than_independent_genes() -> None:
    space = SearchSpace("many", (Dimension.uniform("k", (3, 5, 7), 30), Dimension.uniform("e", (3, 4, 6), 30)))
    rng = np.random.default_rng(0)
    designed = opening(space, 40, rng)[2:, :30].mean(axis=1)
    independent = rng.integers(0, 3, size=(40, 30)).mean(axis=1)
    assert designed.std() > 3 * independent.std()
    assert designed.min() < 0.3 < 1.7 < designed.max()


def test_kinds_are_each_taken_equally_often_and_have_no_ends() -> None:
    kinds = Dimension.uniform("op", range(5), 6, ordered=False)
    rows = opening(SearchSpace("cells", (kinds,)), 10, np.random.default_rng(0))
    assert rows.shape == (10, 6)
    assert all(np.array_equal(np.bincount(gene, minlength=5), [2] * 5) for gene in rows.T)
    mixed = SearchSpace("mixed", (kinds, Dimension.uniform("width", (8, 16, 24), 2)))
    assert len(opening(mixed, 10, np.random.default_rng(0))) == 12
