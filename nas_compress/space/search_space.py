"""The set of architectures of a super-network: sampling, canonical form, exact size, encoding, features."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_compress.errors import ArchitectureError, ConfigError, suggest
from nas_compress.space.architecture import Architecture, Value
from nas_compress.space.dimension import Condition, Dimension

INACTIVE: Value = 0
"""Stands in an inactive gene of a canonical architecture, as in published tables."""

IntMatrix = NDArray[np.int64]
FloatMatrix = NDArray[np.float64]


class SearchSpace:
    """Elastic dimensions, and which of their genes are inactive when.

    Genes are numbered dimension after dimension. An encoded architecture is a row of choice indices; inactive
    genes are encoded as index 0 and read `INACTIVE` in the canonical architecture, so that architectures that
    differ in unused genes alone are one.

    Args:
        name: Name of the space, for messages and records.
        dimensions: The elastic dimensions.
        conditions: Which genes depend on which others.
    """

    def __init__(self, name: str, dimensions: Sequence[Dimension], conditions: Iterable[Condition] = ()) -> None:
        self.name = name
        self.dimensions = tuple(dimensions)
        self.conditions = tuple(conditions)
        self._check_construction()
        self._offsets = dict(
            zip((d.name for d in self.dimensions), np.cumsum([0, *(d.slots for d in self.dimensions)]), strict=False)
        )
        self._choices = [_array(values) for d in self.dimensions for values in d.choices]
        self._values: list[list[Value]] = [choices.tolist() for choices in self._choices]
        self._controllers = {self._index(c.gene): (self._index(c.controller), c.at_least) for c in self.conditions}
        self._order = self._activation_order()

    def _check_construction(self) -> None:
        """Raise `ConfigError` unless dimensions have names of their own and conditions are about their genes."""
        slots = {d.name: d.slots for d in self.dimensions}
        if len(slots) < len(self.dimensions):
            raise ConfigError(
                f"space {self.name!r}: two dimensions have one name ({', '.join(d.name for d in self.dimensions)})"
            )
        genes = [c.gene for c in self.conditions]
        texts = {d.name for d in self.dimensions if any(isinstance(v, str) for values in d.choices for v in values)}
        if text := next((c.controller[0] for c in self.conditions if c.controller[0] in texts), None):
            raise ConfigError(f"space {self.name!r}: {text} holds texts, and so cannot control other genes")
        for name, slot in (*genes, *(c.controller for c in self.conditions)):
            if not 0 <= slot < slots.get(name, 0):
                raise ConfigError(f"space {self.name!r}: a condition is about {name}[{slot}], which the space lacks")
        if twice := next((gene for gene in genes if genes.count(gene) > 1), None):
            raise ConfigError(f"space {self.name!r}: {twice[0]}[{twice[1]}] has two controllers; one is allowed")

    # -- genes ---------------------------------------------------------------------------------------------

    @cached_property
    def gene_names(self) -> tuple[str, ...]:
        """Names of all genes, `"ks[0]"` and so on."""
        return tuple(f"{d.name}[{slot}]" for d in self.dimensions for slot in range(d.slots))

    @cached_property
    def ordered(self) -> NDArray[np.bool_]:
        """Whether a gene's values are ordered, shape (genes,); see `Dimension.ordered`."""
        return np.repeat([d.ordered for d in self.dimensions], [d.slots for d in self.dimensions])

    @cached_property
    def cardinalities(self) -> IntMatrix:
        """Number of legal values of each gene, shape (genes,)."""
        return np.array([len(c) for c in self._choices], dtype=np.int64)

    @cached_property
    def choice_values(self) -> FloatMatrix:
        """The legal values of each gene, in order, shape (genes, most choices), filled up with NaN; numbers alone."""
        table = np.full((len(self._choices), int(self.cardinalities.max())), np.nan)
        for row, values in zip(table, self._choices, strict=True):
            row[: len(values)] = values
        return table

    def _index(self, gene: tuple[str, int]) -> int:
        return int(self._offsets[gene[0]]) + gene[1]

    def _activation_order(self) -> list[int]:
        """Return the conditional genes, controllers before what they control."""
        depth: dict[int, int] = {}

        def level(gene: int, seen: tuple[int, ...] = ()) -> int:
            if gene in seen:
                raise ConfigError(f"space {self.name!r}: the conditions of {self.gene_names[gene]} form a cycle")
            if gene not in self._controllers:
                return 0
            if gene not in depth:
                depth[gene] = 1 + level(self._controllers[gene][0], (*seen, gene))
            return depth[gene]

        return sorted(self._controllers, key=level)

    def active(self, encoded: IntMatrix) -> NDArray[np.bool_]:
        """Return which genes are used, shape (n, genes), for encoded architectures of that shape."""
        mask = np.ones(encoded.shape, dtype=bool)
        for genes, controllers, least in self._levels:
            mask[:, genes] = mask[:, controllers] & (encoded[:, controllers] >= least)
        return mask

    @cached_property
    def _levels(self) -> list[tuple[list[int], list[int], list[int]]]:
        """Conditional genes, their controllers and the least choices of these; level by level, controllers first."""
        levels: list[tuple[list[int], list[int], list[int]]] = []
        level_of: dict[int, int] = {}
        for gene in self._order:
            controller, at_least = self._controllers[gene]
            level_of[gene] = level = level_of.get(controller, -1) + 1
            if level == len(levels):
                levels.append(([], [], []))
            least = int(np.searchsorted(self._choices[controller], at_least))
            for part, value in zip(levels[level], (gene, controller, least), strict=True):
                part.append(value)
        return levels

    def canonical(self, encoded: IntMatrix) -> IntMatrix:
        """Return encoded architectures, shape (n, genes), with index 0 in every inactive gene."""
        return encoded * self.active(encoded)

    def size(self) -> int:
        """Return the exact number of distinct sub-networks (genotypes that differ in unused genes are one)."""
        governed: dict[int, list[int]] = {}
        for gene, (controller, _) in self._controllers.items():
            governed.setdefault(controller, []).append(gene)

        def count(gene: int) -> int:
            children = governed.get(gene, [])
            return sum(
                prod(count(child) for child in children if value >= self._controllers[child][1])
                for value in self._choices[gene].tolist()
            )

        return prod(count(gene) for gene in range(len(self._choices)) if gene not in self._controllers)

    # -- architectures -------------------------------------------------------------------------------------

    def validate(self, architecture: Architecture) -> None:
        """Raise `ArchitectureError`, naming the gene, its value and the legal ones, unless it fits this space.

        Inactive genes may hold anything numeric: published tables fill them with zeros or with leftovers.
        """
        self.encode([architecture])

    def contains(self, architecture: Architecture) -> bool:
        """Return whether an architecture fits this space."""
        try:
            self.validate(architecture)
        except ArchitectureError:
            return False
        return True

    def canonicalize(self, architecture: Architecture) -> Architecture:
        """Return the one form shared by all architectures that describe the same sub-network."""
        return self.decode(self.encode([architecture]))[0]

    def encode(self, architectures: Sequence[Architecture]) -> IntMatrix:
        """Return choice indices, shape (n, genes); inactive genes are 0.

        Raises:
            ArchitectureError: An architecture does not fit the space.
        """
        encoded = np.zeros((len(architectures), len(self._choices)), dtype=np.int64)
        for row, architecture in enumerate(architectures):
            self._check_shape(architecture)
            values = [v for d in self.dimensions for v in architecture[d.name]]
            for gene in self._roots_first:
                if self._is_active(gene, encoded[row]):
                    encoded[row, gene] = self._choice_index(gene, values[gene])
        return encoded

    @cached_property
    def _roots_first(self) -> list[int]:
        return [g for g in range(len(self._choices)) if g not in self._controllers] + self._order

    def _is_active(self, gene: int, row: IntMatrix) -> bool:
        while gene in self._controllers:
            controller, at_least = self._controllers[gene]
            if self._choices[controller][row[controller]] < at_least:
                return False
            gene = controller
        return True

    def _check_shape(self, architecture: Architecture) -> None:
        names = [d.name for d in self.dimensions]
        for name in architecture:
            if name not in names:
                raise ArchitectureError(
                    f"space {self.name!r} has no dimension {name!r}{suggest(name, names)}; it has {', '.join(names)}"
                )
        for d in self.dimensions:
            if d.name not in architecture:
                raise ArchitectureError(f"the architecture lacks {d.name!r}, which space {self.name!r} needs")
            if len(architecture[d.name]) != d.slots:
                raise ArchitectureError(
                    f"{d.name} has {len(architecture[d.name])} values, space {self.name!r} wants {d.slots}"
                )

    def _choice_index(self, gene: int, value: Value) -> int:
        choices = self._values[gene]
        try:
            return choices.index(value)
        except ValueError:
            legal = ", ".join(map(str, choices))
            raise ArchitectureError(f"{self.gene_names[gene]} = {value!r} is not legal; allowed: {legal}") from None

    def decode(self, encoded: IntMatrix) -> list[Architecture]:
        """Return the canonical architectures of choice indices of shape (n, genes)."""
        starts = [int(self._offsets[d.name]) for d in self.dimensions]
        rows = [(d.name, start, start + d.slots) for d, start in zip(self.dimensions, starts, strict=True)]
        shifted = np.where(self.active(encoded), encoded + 1, 0).tolist()
        architectures = []
        for choices in shifted:
            values = tuple([values[i] for values, i in zip(self._decoded, choices, strict=True)])
            architectures.append(Architecture.of_rows({name: values[start:end] for name, start, end in rows}))
        return architectures

    def values(self, encoded: IntMatrix) -> dict[str, FloatMatrix]:
        """Return the values of encoded architectures by dimension, shape (n, slots) each; spaces of numbers alone.

        Inactive genes read `INACTIVE`.
        """
        values = np.where(self.active(encoded), self.choice_values[np.arange(encoded.shape[1]), encoded], INACTIVE)
        starts = list(self._offsets.values())[1:]
        return dict(zip(self._offsets, np.split(values, starts, axis=1), strict=True))

    @cached_property
    def _decoded(self) -> list[tuple[Value, ...]]:
        """Return for every gene what stands for inactive, then its values."""
        return [(INACTIVE, *values) for values in self._values]

    def sample(self, rng: np.random.Generator, n: int) -> list[Architecture]:
        """Return `n` canonical architectures, every gene drawn uniformly (repeats are possible)."""
        return self.decode(rng.integers(0, self.cardinalities, size=(n, len(self._choices))))

    def enumerate(self) -> Iterator[NDArray[np.int64]]:
        """Yield every sub-network once, as canonical choice indices of shape (genes,), in lexicographic order.

        Unconditional genes come first in that order, then conditional ones.
        """
        row = np.zeros(len(self._choices), dtype=np.int64)
        while True:
            yield row.copy()
            for position in range(len(row) - 1, -1, -1):
                gene = self._roots_first[position]
                if row[gene] + 1 < self.cardinalities[gene] and self._is_active(gene, row):
                    row[gene] += 1
                    row[self._roots_first[position + 1 :]] = 0
                    break
            else:
                return

    def smallest(self) -> Architecture:
        """Return the architecture with every gene at its lowest value."""
        return self.decode(np.zeros((1, len(self._choices)), dtype=np.int64))[0]

    def largest(self) -> Architecture:
        """Return the architecture with every gene at its highest value."""
        return self.decode((self.cardinalities - 1)[None, :])[0]

    def landmarks(self) -> list[Architecture]:
        """Return the architectures that a search measures first: the largest, to which limits may refer."""
        return [self.largest()]

    def features(self, architectures: Sequence[Architecture]) -> FloatMatrix:
        """Return predictor features, shape (n, f): an ordinal part, then a one-hot part, inactive genes all 0.

        The ordinal part holds each gene's rank scaled to (0, 1]; genes with one legal value are left out.
        """
        return self.encoded_features(self.encode(architectures))

    def encoded_features(self, encoded: IntMatrix) -> FloatMatrix:
        """Return the `features` of encoded architectures of shape (n, genes): much faster than by way of values."""
        active = self.active(encoded)
        free = np.flatnonzero(self.cardinalities > 1)
        ordinal = (encoded[:, free] + 1) / self.cardinalities[free] * active[:, free]
        one_hot = [(encoded[:, [g]] == np.arange(self.cardinalities[g])) & active[:, [g]] for g in free]
        return np.hstack([ordinal, *one_hot]).astype(np.float64)

    def restrict(self, allowed: Mapping[str, Iterable[Value] | Value], name: str | None = None) -> SearchSpace:
        """Return the part of this space in which the named genes take the given values alone.

        Args:
            allowed: Values by dimension (`"ks"`, for all its genes) or by gene (`"ks[3]"`).
            name: Name of the new space.

        Raises:
            ConfigError: A key or a value that the space does not have.
        """
        choices = {d.name: list(d.choices) for d in self.dimensions}
        for key, wanted in allowed.items():
            values = {wanted} if isinstance(wanted, Value) else set(wanted)
            dimension, _, slot = key.partition("[")
            if dimension not in choices or (slot and key not in self.gene_names):
                known = [*choices, *self.gene_names]
                has = f"it has {', '.join(choices)}"
                raise ConfigError(f"space {self.name!r} has no gene {key!r}{suggest(key, known)}; {has}")
            for i in [int(slot[:-1])] if slot else range(len(choices[dimension])):
                full = self._values[self._index((dimension, i))]
                if not values or not values <= set(full):
                    given = sorted(values, key=_text_last)
                    raise ConfigError(f"{dimension}[{i}]: {given} is not a part of the legal values {full}")
                choices[dimension][i] = tuple(v for v in choices[dimension][i] if v in values)
        dimensions = [replace(d, choices=tuple(choices[d.name])) for d in self.dimensions]
        return SearchSpace(name or f"{self.name} (restricted)", dimensions, self.conditions)

    def describe(self) -> dict[str, object]:
        """Return the space as plain data: what a record of a search must hold to recognise it."""
        return {
            "name": self.name,
            "dimensions": {d.name: [list(c) for c in d.choices] for d in self.dimensions},
            "conditions": [[list(c.gene), list(c.controller), c.at_least] for c in self.conditions],
        }

    def __repr__(self) -> str:
        return f"SearchSpace({self.name!r}, {len(self._choices)} genes, {self.size():.3g} sub-networks)"


def _array(values: Sequence[Value]) -> NDArray[Any]:
    """Return the legal values of a gene as an array that keeps them as they are: texts and mixtures as objects."""
    alike = not any(isinstance(v, str) for v in values) and len({isinstance(v, bool) for v in values}) == 1
    return np.asarray(values) if alike else np.array(values, dtype=object)


def _text_last(value: Value) -> tuple[bool, Value]:
    return isinstance(value, str), value
