"""The distinct blocks of a super-network, found without going through all of its architectures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nas_compress.errors import ConfigError

if TYPE_CHECKING:
    from nas_compress.space import SearchSpace
    from nas_compress.supernets.base import Block, Supernet

Row = NDArray[np.int64]

MOST_COMBINATIONS = 20_000
MOST_BLOCKS = 3000
"""Measuring so many takes an hour on a good machine: whole sub-networks are then the cheaper way."""

SAMPLES = 500
_PIECE = 1000


def distinct_blocks(
    supernet: Supernet, space: SearchSpace, rng: np.random.Generator, samples: int = SAMPLES
) -> dict[str, Block]:
    """Return the distinct blocks of a space by key, in the order in which they run in the largest architecture.

    Around a few architectures (the largest, the smallest, and those that one gene makes longer or shorter), every gene
    is changed by itself, which shows the genes that each position in the sequence of blocks depends on; then all
    combinations of the values of these genes are gone through, position by position. Architectures drawn at random
    show whether that was all: around one with an unseen block the same is done.

    Args:
        supernet: Names the blocks of an architecture.
        space: The architectures: the super-network's space, or a part of it.
        rng: Draws the architectures of the check.
        samples: How many to draw.

    Raises:
        ConfigError: There are too many distinct blocks for a table.
    """
    survey = _Survey(supernet, space)
    survey.look_around(space.encode([space.largest(), space.smallest()]))
    drawn = space.canonical(rng.integers(0, space.cardinalities, size=(samples, len(space.cardinalities))))
    for row in drawn:
        if any(block.key not in survey.found for block in survey.blocks(row[None])[0]):
            survey.look_around(row[None])
    return survey.found


class _Survey:
    """The blocks found so far.

    Args:
        supernet: Names the blocks of an architecture.
        space: The architectures.
    """

    def __init__(self, supernet: Supernet, space: SearchSpace) -> None:
        self._supernet = supernet
        self._space = space
        self._seen: set[bytes] = set()
        self.found: dict[str, Block] = {}

    def blocks(self, rows: Row) -> list[list[Block]]:
        """Return the blocks of canonical encoded architectures, shape (n, genes)."""
        return [self._supernet.blocks(architecture) for architecture in self._space.decode(rows)]

    def look_around(self, rows: Row) -> None:
        """Find the blocks around architectures, and around those of another length that are one gene away."""
        others = [row for start in rows for row in self._look_at(start)]
        for row in others:
            self._look_at(row)

    def _look_at(self, start: Row) -> list[Row]:
        """Find all blocks in the positions of one architecture; return its neighbours of other lengths."""
        if start.tobytes() in self._seen:
            return []
        self._seen.add(start.tobytes())
        sequence = self.blocks(start[None])[0]
        self._add(sequence)
        genes: list[set[int]] = [set() for _ in sequence]
        others = []
        for gene, row in self._neighbours(start):
            blocks = self.blocks(row[None])[0]
            if len(blocks) != len(sequence):
                others.append(row)
                continue
            for position, (block, before) in enumerate(zip(blocks, sequence, strict=True)):
                if block.key != before.key:
                    genes[position].add(gene)
        for group in dict.fromkeys(tuple(sorted(each)) for each in genes if each):
            self._combine(start, group)
        return others

    def _neighbours(self, start: Row) -> Iterator[tuple[int, Row]]:
        """Yield the architectures that differ in one gene that is used, with its number."""
        active = self._space.active(start[None])[0]
        for gene in np.flatnonzero(active & (self._space.cardinalities > 1)):
            for value in range(int(self._space.cardinalities[gene])):
                if value != start[gene]:
                    row = start.copy()
                    row[gene] = value
                    yield int(gene), self._space.canonical(row[None])[0]

    def _combine(self, start: Row, genes: Sequence[int]) -> None:
        """Add the blocks of all combinations of the values of some genes, the others staying as they are."""
        counts = [int(self._space.cardinalities[gene]) for gene in genes]
        if prod(counts) > MOST_COMBINATIONS:
            names = ", ".join(self._space.gene_names[gene] for gene in genes)
            raise ConfigError(
                f"a block of {self._supernet.name!r} depends on {names}: {prod(counts):,} combinations are too many "
                "for a table; restrict the space, or learn from whole sub-networks (build-lut --learned 100)"
            )
        combinations = np.array(list(product(*map(range, counts))), dtype=np.int64).reshape(-1, len(genes))
        for first in range(0, len(combinations), _PIECE):
            piece = combinations[first : first + _PIECE]
            rows = np.repeat(start[None], len(piece), axis=0)
            rows[:, list(genes)] = piece
            for sequence in self.blocks(self._space.canonical(rows)):
                self._add(sequence)

    def _add(self, sequence: Sequence[Block]) -> None:
        for block in sequence:
            self.found.setdefault(block.key, block)
        if len(self.found) > MOST_BLOCKS:
            raise ConfigError(
                f"{self._supernet.name!r} has more than {MOST_BLOCKS:,} distinct blocks, too many for a table; "
                "restrict the space, or learn from whole sub-networks (build-lut --learned 100)"
            )
