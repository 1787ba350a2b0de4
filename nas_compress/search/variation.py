"""Variation of encoded architectures: uniform crossover and random reset, which suit discrete genes."""

from __future__ import annotations

import numpy as np

from nas_compress.space import SearchSpace
from nas_compress.space.search_space import IntMatrix


def spread_unused(space: SearchSpace, rows: IntMatrix, rng: np.random.Generator) -> IntMatrix:
    """Return the rows with random values in inactive genes: a block that offspring switch on may be of any kind."""
    return np.where(space.active(rows), rows, rng.integers(0, space.cardinalities, size=rows.shape))


def crossover(mothers: IntMatrix, fathers: IntMatrix, rng: np.random.Generator, probability: float = 0.9) -> IntMatrix:
    """Return one child per pair, shape (n, genes): a mother's genes, with `probability` half of them the father's."""
    swap = (rng.random(mothers.shape) < 0.5) & (rng.random((len(mothers), 1)) < probability)
    return np.where(swap, fathers, mothers)


def random_reset(x: IntMatrix, choices: IntMatrix, rate: float, rng: np.random.Generator) -> IntMatrix:
    """Return choice indices, shape (n, genes), each given another value with probability `rate`.

    Args:
        x: The indices.
        choices: Number of values of each gene, shape (genes,); those with one value keep it.
        rate: The probability.
        rng: Makes all random choices.
    """
    step = rng.integers(1, np.maximum(choices, 2), size=x.shape)
    return np.where(rng.random(x.shape) < rate, (x + step) % choices, x)


def offspring(
    space: SearchSpace, parents: IntMatrix, n: int, rng: np.random.Generator, genes: float = 1.0
) -> IntMatrix:
    """Return `n` children of randomly paired parents, canonical, shape (n, genes); they may repeat one another.

    Args:
        space: The space.
        parents: Encoded architectures, shape (k, genes), k >= 1.
        n: How many children.
        rng: Makes all random choices.
        genes: Mean number of genes that mutate.
    """
    pairs = rng.integers(0, len(parents), size=(2, n))
    parents = spread_unused(space, parents[pairs.ravel()], rng).reshape(2, n, -1)
    rate = genes / max(1, int(np.count_nonzero(space.cardinalities > 1)))
    return space.canonical(random_reset(crossover(parents[0], parents[1], rng), space.cardinalities, rate, rng))
