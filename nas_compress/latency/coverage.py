"""Which spaces a latency table was measured on, and what of another space it does not cover."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas_compress.errors import ConfigError
from nas_compress.space import SearchSpace
from nas_compress.space.architecture import Value

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Finished:
    """What one build of a table measured when it came to its end.

    Attributes:
        choices: The legal values of every gene, by dimension: the space that was measured.
        blocks: Whether all of its blocks were measured.
        subnets: How many whole sub-networks were drawn from it.
    """

    choices: Mapping[str, Sequence[Sequence[Value]]]
    blocks: bool
    subnets: int

    @classmethod
    def of(cls, space: SearchSpace, blocks: bool, subnets: int) -> Finished:
        """Return that of a space."""
        return cls(choices(space), blocks, subnets)

    def mask(self, whole: SearchSpace) -> Mask:
        """Return which choices of the genes of the whole space were measured, shape (genes, most choices)."""
        found = np.zeros((len(whole.cardinalities), int(whole.cardinalities.max())), dtype=bool)
        measured = [set(values) for dimension in self.choices.values() for values in dimension]
        for row, values, legal in zip(found, measured, _genes(whole), strict=True):
            row[: len(legal)] = [value in values for value in legal]
        return found


def choices(space: SearchSpace) -> dict[str, list[list[Value]]]:
    """Return the legal values of every gene by dimension."""
    return {d.name: [list(values) for values in d.choices] for d in space.dimensions}


def restriction(space: SearchSpace, whole: SearchSpace) -> str:
    """Return the `--restrict` options that make a part of a space of the whole; empty for all of it."""
    texts = []
    for part, full in zip(space.dimensions, whole.dimensions, strict=True):
        genes = dict(enumerate(part.choices))
        if part.choices == full.choices:
            continue
        alike = {"": part.choices[0]} if len(set(part.choices)) == 1 else {f"[{i}]": genes[i] for i in genes}
        texts += [f" --restrict {part.name}{slot}={','.join(map(str, values))}" for slot, values in alike.items()]
    return "".join(texts)


class Coverage:
    """The spaces that a table's sub-networks were drawn from; what is predicted from them holds within these alone.

    Args:
        whole: The super-network's space.
        finished: What was measured to the end; with none, the table is unfinished and covers nothing.
    """

    def __init__(self, whole: SearchSpace, finished: Sequence[Finished]) -> None:
        self._whole = whole
        self._masks = np.array([each.mask(whole) for each in finished], dtype=bool)

    def check(self, encoded: NDArray[np.int64]) -> None:
        """Raise `ConfigError`, naming gene and value, unless encoded architectures (n, genes) lie in one space each."""
        self._check_finished()
        genes = np.arange(encoded.shape[1])
        held = self._masks[:, genes, encoded] | ~self._whole.active(encoded)
        outside = np.flatnonzero(~held.all(axis=2).any(axis=0))
        if len(outside):
            row = outside[0]
            best = int(np.argmax(held[:, row].sum(axis=1)))
            gene = int(np.argmin(held[best, row]))
            raise ConfigError(self._lacks(best, gene, int(encoded[row, gene])))

    def check_space(self, space: SearchSpace) -> None:
        """Raise `ConfigError`, naming gene and value, unless a space lies in one that was measured."""
        self._check_finished()
        lacking = Finished.of(space, False, 0).mask(self._whole) & ~self._masks
        if lacking.any(axis=(1, 2)).all():
            best = int(np.argmin(lacking.sum(axis=(1, 2))))
            gene, choice = np.argwhere(lacking[best])[0]
            raise ConfigError(self._lacks(best, int(gene), int(choice)))

    def _check_finished(self) -> None:
        if not len(self._masks):
            raise ConfigError("the latency table is unfinished")

    def _lacks(self, best: int, gene: int, choice: int) -> str:
        legal = _genes(self._whole)[gene]
        known = ", ".join(str(value) for value, there in zip(legal, self._masks[best, gene], strict=False) if there)
        name, value = self._whole.gene_names[gene], legal[choice]
        return f"the latency table was measured on sub-networks with {name} = {known}, not {value}"


def _genes(space: SearchSpace) -> list[Sequence[Value]]:
    return [values for d in space.dimensions for values in d.choices]
