"""Spaces in which the numerical precision of every block group is searched along with the architecture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from nas_compress.errors import ArchitectureError, ConfigError
from nas_compress.space.architecture import Architecture, Value
from nas_compress.space.dimension import Condition, Dimension
from nas_compress.space.search_space import INACTIVE, FloatMatrix, IntMatrix, SearchSpace

PRECISION = "precision"
"""The dimension that holds the precision of each group."""

FULL = "fp32"
"""The precision of a network that is not quantized."""

By = Literal["stage", "block", "network"]
"""What has a precision of its own."""


@dataclass(frozen=True)
class Group:
    """Blocks that share a precision.

    Attributes:
        slots: Numbers of its elastic blocks, as the block genes of the space count them.
        stem: Whether what comes before the elastic blocks belongs to it.
        head: Whether what comes after them does.
    """

    slots: tuple[int, ...] = ()
    stem: bool = False
    head: bool = False


def block_dimension(space: SearchSpace) -> Dimension:
    """Return the dimension with a gene for every elastic block: the first one whose genes an elastic depth governs.

    Raises:
        ConfigError: The space has none.
    """
    governed = [condition.gene[0] for condition in space.conditions]
    found = next((d for d in space.dimensions if d.name in governed), None)
    if found is None:
        raise ConfigError(f"space {space.name!r} has no blocks of elastic depth, and so none to give a precision to")
    return found


def block_groups(space: SearchSpace, by: By) -> tuple[Group, ...]:
    """Return the groups of a space in the order in which they run, the stem first and the head last.

    Args:
        space: The space without precisions.
        by: `stage`: the blocks that one depth gene governs; blocks that none governs are alone. `block`: each block.
            `network`: all in one, stem and head included.

    Raises:
        ConfigError: The space has no elastic blocks, or `by` is none of these.
    """
    if by not in get_args(By):
        raise ConfigError(f"{PRECISION}: by = {by!r} is not allowed; allowed: {', '.join(get_args(By))}")
    blocks = block_dimension(space)
    if by == "network":
        return (Group(tuple(range(blocks.slots)), stem=True, head=True),)
    controllers = {c.gene[1]: c.controller for c in space.conditions if c.gene[0] == blocks.name}
    members: dict[object, list[int]] = {}
    for slot in range(blocks.slots):
        members.setdefault(controllers.get(slot, slot) if by == "stage" else slot, []).append(slot)
    return (Group(stem=True), *(Group(tuple(slots)) for slots in members.values()), Group(head=True))


def without_precision(architecture: Architecture) -> Architecture:
    """Return an architecture without its precisions, if it has any: the network in fp32."""
    return Architecture.of_rows({name: architecture[name] for name in architecture if name != PRECISION})


class PrecisionSpace(SearchSpace):
    """A space with one more dimension, `precision`, whose genes are the precisions of the block groups.

    The gene of a group that an elastic depth can switch off is inactive with it. The largest architecture has the
    highest precision everywhere. An architecture without the dimension is the network in fp32, so that records of
    searches without precisions read as what they are.

    Args:
        base: The space of the super-network.
        by: What has a precision of its own, see `block_groups`.
        choices: The precisions of each group, the lowest first.

    Attributes:
        base: As given.
        by: As given.
        groups: What the genes are about, in their order.

    Raises:
        ConfigError: The base has no elastic blocks, or a dimension of this name, or `choices` has another length.
    """

    def __init__(self, base: SearchSpace, by: By, choices: Sequence[tuple[Value, ...]]) -> None:
        self.base, self.by = base, by
        self.groups = block_groups(base, by)
        if len(choices) != len(self.groups):
            raise ConfigError(f"{PRECISION}: {len(choices)} rows of values, {len(self.groups)} groups want one each")
        own = Dimension(PRECISION, tuple(choices), ordered=max(map(len, choices)) <= 2)
        conditions = [*base.conditions, *_conditions(base, self.groups)]
        super().__init__(f"{base.name} with precision", [*base.dimensions, own], conditions)

    @property
    def own_genes(self) -> range:
        """Numbers of the genes of precision; those before are the base's."""
        return range(len(self.base.cardinalities), len(self.cardinalities))

    def without(self, architecture: Architecture) -> Architecture:
        """Return an architecture of the base: the same one without its precisions."""
        return without_precision(architecture)

    def bare(self, encoded: IntMatrix) -> IntMatrix:
        """Return architectures encoded in the base, shape (n, genes of the base)."""
        return encoded[:, : self.own_genes.start]

    def lowered_too(self, architectures: Sequence[Architecture]) -> list[Architecture]:
        """Return architectures, each after itself in the lowest precision everywhere; canonical, each once."""
        encoded = self.encode(architectures)
        lowest = encoded.copy()
        lowest[:, self.own_genes.start :] = 0
        return list(dict.fromkeys(self.decode(np.stack([lowest, encoded], axis=1).reshape(-1, encoded.shape[1]))))

    def landmarks(self) -> list[Architecture]:
        """Return the largest architecture in the highest and in the lowest precision, then the smallest likewise."""
        rows = np.tile(self.cardinalities - 1, (4, 1))
        rows[1::2, self.own_genes.start :] = 0
        rows[2:, : self.own_genes.start] = 0
        return list(dict.fromkeys(self.decode(self.canonical(rows))))

    def encode(self, architectures: Sequence[Architecture]) -> IntMatrix:
        """Return choice indices, shape (n, genes); see the base class.

        Raises:
            ArchitectureError: An architecture does not fit the space.
        """
        own = self.own_genes
        encoded = np.zeros((len(architectures), own.stop), dtype=np.int64)
        encoded[:, : own.start] = self.base.encode([self.without(a) for a in architectures])
        for row, architecture in zip(encoded, architectures, strict=True):
            for gene, value in zip(own, self._precisions(architecture), strict=True):
                if self._is_active(gene, row):
                    row[gene] = self._choice_index(gene, value)
        return encoded

    def _precisions(self, architecture: Architecture) -> tuple[Value, ...]:
        """Return the values of the precision genes; those of fp32 where the architecture has none."""
        values = architecture.get(PRECISION)
        if values is None:
            if not all(FULL in choices for choices in self.dimensions[-1].choices):
                reason = f"which space {self.name!r} needs, as not every group may be in {FULL}"
                raise ArchitectureError(f"the architecture lacks {PRECISION!r}, {reason}")
            return (FULL,) * len(self.groups)
        if len(values) != len(self.groups):
            raise ArchitectureError(
                f"{PRECISION} has {len(values)} values, space {self.name!r} wants {len(self.groups)}"
            )
        return values

    def decode(self, encoded: IntMatrix) -> list[Architecture]:
        """Return the canonical architectures; see the base class."""
        own = self.own_genes
        active = self.active(encoded)[:, own.start :]
        rows = [
            tuple(self._values[g][i] if on else INACTIVE for g, i, on in zip(own, row, mask, strict=True))
            for row, mask in zip(encoded[:, own.start :].tolist(), active.tolist(), strict=True)
        ]
        bare = self.base.decode(self.bare(encoded))
        return [Architecture.of_rows({**a, PRECISION: row}) for a, row in zip(bare, rows, strict=True)]

    def values(self, encoded: IntMatrix) -> dict[str, FloatMatrix]:
        """Return the values of the base's dimensions, which are what costs depend on; see the base class."""
        return self.base.values(self.bare(encoded))

    def restrict(self, allowed: Mapping[str, Iterable[Value] | Value], name: str | None = None) -> PrecisionSpace:
        """Return the part of this space in which the named genes take the given values alone; see the base class."""
        own = {key: values for key, values in allowed.items() if key.partition("[")[0] == PRECISION}
        rest = {key: values for key, values in allowed.items() if key not in own}
        precisions = SearchSpace(self.name, [self.dimensions[-1]]).restrict(own).dimensions[0]
        base = self.base.restrict(rest, self.base.name) if rest else self.base
        reduced = PrecisionSpace(base, self.by, precisions.choices)
        reduced.name = name or f"{self.name} (restricted)"
        return reduced

    def describe(self) -> dict[str, object]:
        """Return the space as plain data; see the base class."""
        return {**self.base.describe(), **super().describe()}


def with_precision(space: SearchSpace, by: By, values: Sequence[Value]) -> PrecisionSpace:
    """Return a space in which every group has the same precisions to choose from, the lowest first in `values`."""
    return PrecisionSpace(space, by, [tuple(values)] * len(block_groups(space, by)))


def _conditions(space: SearchSpace, groups: Sequence[Group]) -> list[Condition]:
    """Return when each group's gene matters: while the first of its blocks is used."""
    blocks = block_dimension(space).name
    by_slot = {c.gene[1]: c for c in space.conditions if c.gene[0] == blocks}
    found = []
    for gene, group in enumerate(groups):
        rules = [by_slot.get(slot) for slot in group.slots]
        if group.stem or group.head or None in rules:
            continue
        first = min((rule for rule in rules if rule is not None), key=lambda rule: rule.at_least)
        found.append(Condition((PRECISION, gene), first.controller, first.at_least))
    return found
