"""Elastic dimensions and the conditions under which their genes matter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from nas_compress.errors import ConfigError
from nas_compress.space.architecture import Value


@dataclass(frozen=True)
class Dimension:
    """A named row of genes, such as the kernel sizes of all blocks.

    Attributes:
        name: The published name (`"ks"`, `"num_attention_heads"`).
        choices: The legal values of each gene, from small to large: numbers ascending; texts, and numbers that stand
            for kinds, in the order given, the costliest last.
        ordered: Whether a larger value means more of something; False for kinds, such as the operations of a cell.
    """

    name: str
    choices: tuple[tuple[Value, ...], ...]
    ordered: bool = True

    def __post_init__(self) -> None:
        if not self.choices:
            raise ConfigError(f"dimension {self.name!r} has no genes")
        for slot, values in enumerate(self.choices):
            if not values:
                raise ConfigError(f"{self.name}[{slot}] has no legal value left")
            if tuple(values) != _ordered(values, self.ordered):
                raise ConfigError(f"{self.name}[{slot}] wants ascending, distinct values, got {values}")

    @classmethod
    def uniform(cls, name: str, values: Iterable[Value], slots: int = 1, *, ordered: bool = True) -> Dimension:
        """Return a dimension of `slots` genes that share the same legal values; repeats are left out."""
        return cls(name, (_ordered(values, ordered),) * slots, ordered)

    @property
    def slots(self) -> int:
        """Number of genes."""
        return len(self.choices)


def _ordered(values: Iterable[Value], ordered: bool) -> tuple[Value, ...]:
    """Return distinct values, numbers ascending; kinds, and those with a text among them, in the order given."""
    distinct = tuple(dict.fromkeys(values))
    numbers = [value for value in distinct if not isinstance(value, str)]
    return tuple(sorted(numbers)) if ordered and len(numbers) == len(distinct) else distinct


@dataclass(frozen=True)
class Condition:
    """A gene that matters only while another gene is large enough.

    The controller must be active itself; chains are allowed, two controllers of one gene are not.

    Attributes:
        gene: The conditional gene, as (dimension, slot).
        controller: The gene it depends on, as (dimension, slot); one of numbers.
        at_least: The smallest value of the controller for which the gene is used.
    """

    gene: tuple[str, int]
    controller: tuple[str, int]
    at_least: float


def depth_conditions(
    depth: str, governed: Sequence[str], blocks: Sequence[int], always_on: Sequence[int] | None = None
) -> Iterator[Condition]:
    """Yield the conditions of stages whose later blocks are dropped by an elastic depth.

    Block `p` (from 0) of stage `s` is used while `p < always_on[s] + depth[s]`.

    Args:
        depth: The dimension of depths, one gene per stage.
        governed: The dimensions with one gene per block, stage after stage.
        blocks: The largest number of blocks per stage.
        always_on: Blocks per stage that come on top of the depth gene; none by default.
    """
    always_on = always_on or [0] * len(blocks)
    start = 0
    for stage, count in enumerate(blocks):
        for position in range(count):
            for name in governed:
                yield Condition((name, start + position), (depth, stage), position + 1 - always_on[stage])
        start += count
