"""Spaces in which some dimensions follow from others, so that only these are searched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nas_compress.errors import ArchitectureError, ConfigError
from nas_compress.space.architecture import Architecture, Value
from nas_compress.space.search_space import FloatMatrix, IntMatrix, SearchSpace


@dataclass(frozen=True)
class Coupling:
    """A dimension whose genes follow from those of another one.

    Attributes:
        dimension: The dimension that follows (`"e"`).
        leader: The dimension that it follows (`"d"`).
        slots: For each of its genes, the slot of the leader.
        values: Pairs of the leader's value and the one that goes with it.
    """

    dimension: str
    leader: str
    slots: tuple[int, ...]
    values: tuple[tuple[Value, Value], ...]


class CoupledSpace(SearchSpace):
    """The part of a space in which some dimensions follow from others.

    Its genes are those of the other dimensions alone, so searches vary nothing that follows; architectures come in the
    published form with all dimensions.

    Args:
        name: Name of the space.
        full: The space with all dimensions, each free.
        couplings: What follows from what.

    Attributes:
        full: As given.
        couplings: As given.

    Raises:
        ConfigError: A coupling does not fit the space.
    """

    def __init__(self, name: str, full: SearchSpace, couplings: Iterable[Coupling]) -> None:
        self.full = full
        self.couplings = tuple(couplings)
        followers = {c.dimension for c in self.couplings}
        kept = [d for d in full.dimensions if d.name not in followers]
        super().__init__(name, kept, [c for c in full.conditions if c.gene[0] not in followers])
        number = {gene: i for i, gene in enumerate(full.gene_names)}
        self._kept = [number[gene] for gene in self.gene_names]
        self._following: list[int] = []
        self._leaders: list[int] = []
        self._table = np.zeros((0, int(self.cardinalities.max())), dtype=np.int64)
        for coupling in self.couplings:
            self._couple(coupling, number)

    def _couple(self, coupling: Coupling, number: Mapping[str, int]) -> None:
        """Add a table of choices by the leader's choice for each gene of a coupling."""
        choices = {d.name: d.choices for d in self.full.dimensions}
        own, leader = coupling.dimension, coupling.leader
        text = f"space {self.name!r}: the coupling of {own!r} to {leader!r}"
        if own not in choices or leader not in {d.name for d in self.dimensions}:
            raise ConfigError(f"{text} is about dimensions that the space lacks, or that follow themselves")
        if len(coupling.slots) != len(choices[own]) or not set(coupling.slots) <= set(range(len(choices[leader]))):
            raise ConfigError(f"{text} wants a slot of {leader!r} for each of {len(choices[own])} genes")
        values, names = dict(coupling.values), self.gene_names
        for i, slot in enumerate(coupling.slots):
            row = np.zeros((1, self._table.shape[1]), dtype=np.int64)
            for choice, value in enumerate(choices[leader][slot]):
                if value not in values or values[value] not in choices[own][i]:
                    raise ConfigError(f"{text} has no legal value of {own}[{i}] for {leader}[{slot}] = {value!r}")
                row[0, choice] = choices[own][i].index(values[value])
            self._table = np.vstack([self._table, row])
            self._following.append(number[f"{own}[{i}]"])
            self._leaders.append(names.index(f"{leader}[{slot}]"))

    def expand(self, encoded: IntMatrix) -> IntMatrix:
        """Return the same architectures encoded in the full space, shape (n, genes of `full`), in canonical form."""
        rows = np.zeros((len(encoded), len(self.full.cardinalities)), dtype=np.int64)
        rows[:, self._kept] = encoded
        rows[:, self._following] = self._table[np.arange(len(self._following)), encoded[:, self._leaders]]
        return self.full.canonical(rows)

    def decode(self, encoded: IntMatrix) -> list[Architecture]:
        """Return the canonical architectures with all dimensions; see the base class."""
        return self.full.decode(self.expand(encoded))

    def values(self, encoded: IntMatrix) -> dict[str, FloatMatrix]:
        """Return the values of all dimensions; see the base class."""
        return self.full.values(self.expand(encoded))

    def encode(self, architectures: Sequence[Architecture]) -> IntMatrix:
        """Return choice indices of the free genes; see the base class.

        Raises:
            ArchitectureError: An architecture does not fit the full space, or not the couplings.
        """
        rows = self.full.encode(architectures)
        encoded: IntMatrix = rows[:, self._kept]
        for row, gene in np.argwhere(rows != self.expand(encoded))[:1]:
            following = self._following.index(gene)
            wanted = self.full.decode(self.expand(encoded[[row]]))[0]
            leader = self.gene_names[self._leaders[following]]
            text = f"{_at(architectures[row], self.full.gene_names[gene])} does not go with {_at(wanted, leader)}"
            raise ArchitectureError(f"{text} in space {self.name!r}: {_at(wanted, self.full.gene_names[gene])} does")
        return encoded

    def restrict(self, allowed: Mapping[str, Iterable[Value] | Value], name: str | None = None) -> CoupledSpace:
        """Return the part of this space in which free genes take the given values alone; see the base class."""
        for key in allowed:
            for coupling in self.couplings:
                if key.partition("[")[0] == coupling.dimension:
                    own, leader = coupling.dimension, coupling.leader
                    raise ConfigError(f"space {self.name!r}: {own!r} follows from {leader!r}; restrict {leader!r}")
        reduced = super().restrict(allowed, name)
        return CoupledSpace(reduced.name, self.full.restrict(allowed), self.couplings)

    def describe(self) -> dict[str, object]:
        """Return the space as plain data; see the base class."""
        couplings = {c.dimension: [c.leader, list(c.slots), [list(pair) for pair in c.values]] for c in self.couplings}
        return {**super().describe(), "couplings": couplings}


def _at(architecture: Architecture, gene: str) -> str:
    """Return the text `"e[3] = 6"`."""
    dimension, _, slot = gene.partition("[")
    return f"{gene} = {architecture[dimension][int(slot[:-1])]!r}"
