from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_compress.search.evolution import Evolution
from nas_compress.search.generational import canonical
from nas_compress.space import Dimension, SearchSpace, depth_conditions

SPACE = SearchSpace(
    "blocks",
    (Dimension.uniform("k", (3, 5, 7), 4), Dimension.uniform("d", (1, 2, 3, 4)), Dimension.uniform("r", (8,))),
    depth_conditions("d", ("k",), [4]),
)


def parents(n: int, seed: int = 0) -> np.ndarray:
    return SPACE.encode(list(dict.fromkeys(SPACE.sample(np.random.default_rng(seed), 10 * n)))[:n])


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.integers(1, 12))
def test_offspring_are_legal_canonical_and_new(seed: int, population: int) -> None:
    rows = parents(6, seed)
    seen = {row.tobytes() for row in rows}
    evolution = Evolution(SPACE, 2, population, np.random.default_rng(seed), seen)
    evolution.select(rows, np.random.default_rng(seed).random((len(rows), 2)))
    bred = evolution.breed(9)
    assert ((bred >= 0) & (bred < SPACE.cardinalities)).all()
    assert (canonical(SPACE, bred) == bred).all()
    keys = {row.tobytes() for row in bred}
    assert len(keys) == len(bred) <= 9
    assert not keys & {row.tobytes() for row in rows}
    assert len(seen) == 6 + len(bred)


def test_without_parents_nothing_is_bred() -> None:
    evolution = Evolution(SPACE, 1, 4, np.random.default_rng(0), set())
    assert evolution.breed(3).shape == (0, 6)


def test_an_exhausted_space_ends_the_breeding() -> None:
    space = SPACE.restrict({"d": 1})
    seen: set[bytes] = set()
    evolution = Evolution(space, 1, 4, np.random.default_rng(0), seen)
    evolution.select(space.encode([space.smallest()]), np.zeros((1, 1)))
    while len(evolution.breed(2)):
        pass
    assert len(seen) == space.size() == 3


def test_blocks_switched_on_may_be_of_any_kind() -> None:
    shallow = SPACE.encode([SPACE.restrict({"d": 1}).smallest()])
    kinds = set()
    for seed in range(200):
        evolution = Evolution(SPACE, 1, 4, np.random.default_rng(seed), set())
        evolution.select(shallow, np.zeros((1, 1)))
        kinds |= {int(row[1]) for row in evolution.breed(4) if row[4] > 0}
    assert kinds == {0, 1, 2}


def test_selection_improves() -> None:
    evolution = Evolution(SPACE, 1, 8, np.random.default_rng(0), set())
    rows, best = parents(8), []
    for _ in range(10):
        costs = -rows.sum(axis=1, keepdims=True).astype(float)
        best.append(costs.min())
        evolution.select(rows, costs)
        rows = evolution.breed(8)
    assert min(best) == -11  # the largest architecture
