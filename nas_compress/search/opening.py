"""The first architectures of a search that learns: spread over what each dimension can do."""

from __future__ import annotations

import numpy as np

from nas_compress.space import SearchSpace
from nas_compress.space.search_space import IntMatrix

CONCENTRATION = 3.0
"""How closely the genes of a dimension keep to their common level; 0 would be corners alone."""


def opening(space: SearchSpace, n: int, rng: np.random.Generator) -> IntMatrix:
    """Return the smallest and the largest architecture and `n` that are spread between them, canonical rows.

    Genes that are drawn independently average out: such architectures are all of middling size, and tell little about
    what a dimension is worth. Here every dimension of an architecture has a level of its own, from a Latin hypercube,
    and its genes are drawn around it (from a beta distribution). Genes whose values have no order take each value
    equally often; a space of such genes alone has no smallest and no largest architecture to begin with.

    Source: McKay, Beckman and Conover, 1979 (Latin hypercube sampling).
    """
    choices, ordered = space.cardinalities, space.ordered
    cells = np.column_stack([rng.permutation(n) for _ in space.dimensions]).reshape(n, len(space.dimensions))
    levels = np.repeat((cells + rng.random(cells.shape)) / max(n, 1), [d.slots for d in space.dimensions], axis=1)
    shape = CONCENTRATION * np.stack([levels, 1 - levels]) + 0.3
    drawn = np.minimum((rng.beta(shape[0], shape[1]) * choices).astype(np.int64), choices - 1)
    for gene in np.flatnonzero(~ordered):
        drawn[:, gene] = rng.permutation((np.arange(n) + rng.integers(choices[gene])) % choices[gene])
    ends = np.vstack([np.zeros_like(choices), choices - 1])[: 2 * int(ordered.any())]
    return space.canonical(np.vstack([ends, drawn]))
