"""What predictors see of an architecture: its genes in several views, and cheap quantities computed from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from nas_compress.objectives.base import AnalyticObjective
from nas_compress.predictors.base import FloatMatrix, FloatVector
from nas_compress.space import SearchSpace
from nas_compress.space.search_space import IntMatrix

ONE_HOT_WEIGHT = 0.35
"""Scale of the one-hot part: what a value has beyond its rank matters less."""

LEVEL_WEIGHT = 1.0
"""Scale of the levels."""

COMPUTED_WEIGHT = 3.0
"""Scale of the computed quantities: what a network is as a whole matters most while few are measured."""

KIND_WEIGHT = 1.0
"""Scale of the one-hot part of genes without an order."""

_SAMPLE = 200

Quantity = Callable[[IntMatrix], FloatVector]
"""Returns a value for each canonical row, shape (n,)."""


class Features:
    """Turns encoded architectures into rows of features.

    - the rank of every ordered gene, scaled to (0, 1], and 0 where it is inactive;
    - the value of every gene, one-hot, scaled down where it is ordered;
    - levels: the ranks (or one-hot values) of a dimension together, and of the genes of a dimension that hang on one
      controller (a stage), so that a few measurements tell what, say, larger kernels bring, before they can tell which
      kernel;
    - the logarithm of computed quantities (MACs, parameters) and of the number of active genes (the depth), and its
      square, scaled to [0, 1] over the space.

    Args:
        space: The space.
        descriptors: The computed quantities; what is not positive or does not vary is left out.
    """

    def __init__(self, space: SearchSpace, descriptors: Sequence[AnalyticObjective] = ()) -> None:
        self._space = space
        free = np.flatnonzero(space.cardinalities > 1)
        ordered, choices = space.ordered[free], space.cardinalities[free]
        self._weights = np.concatenate(
            [ordered, np.repeat(np.where(ordered, ONE_HOT_WEIGHT, KIND_WEIGHT), choices)]
        ).astype(np.float64)
        self._levels = LEVEL_WEIGHT * _level_matrix(space)
        quantities: list[Quantity] = [self._depth, *(partial(each.compute_encoded, space) for each in descriptors)]
        self._computed = [(each, *span) for each in quantities if (span := _span(space, each))]

    def __call__(self, rows: IntMatrix) -> FloatMatrix:
        """Return the features, shape (n, f), of canonical encoded architectures, shape (n, genes)."""
        genes = self._space.encoded_features(rows)
        parts = [genes * self._weights, genes @ self._levels]
        for each, low, span in self._computed:
            log = (np.log(np.maximum(each(rows), low)) - np.log(low)) / span
            parts.append(COMPUTED_WEIGHT * np.column_stack([log, log**2]))
        return np.hstack(parts)

    def _depth(self, rows: IntMatrix) -> FloatVector:
        """Return the number of active genes, shape (n,)."""
        depth: FloatVector = self._space.active(rows).sum(axis=1).astype(np.float64)
        return depth


def _span(space: SearchSpace, quantity: Quantity) -> tuple[float, float] | None:
    """Return the least value of a quantity over a sample of the space, and the span of its logarithm.

    None where it is not positive, not finite or does not vary.
    """
    drawn = np.random.default_rng(0).integers(0, space.cardinalities, size=(_SAMPLE, len(space.cardinalities)))
    ends = np.vstack([np.zeros_like(space.cardinalities), space.cardinalities - 1])
    values = quantity(space.canonical(np.vstack([ends, drawn])))
    low, high = float(values.min()), float(values.max())
    return (low, float(np.log(high / low))) if 0 < low < high < np.inf else None


def _level_matrix(space: SearchSpace) -> FloatMatrix:
    """Return the matrix, shape (gene features, levels), that turns ranks, one-hot values into sums by group.

    A level is the sum over the k genes of a group divided by the root of k: as if each gene were a draw around what its
    dimension does, so that a linear kernel on genes and levels is a hierarchical prior. Ordered genes are summed by
    rank, others value by value.
    """
    free = np.flatnonzero(space.cardinalities > 1)
    choices = space.cardinalities[free]
    first = len(free) + np.cumsum(choices) - choices
    levels: list[FloatVector] = []
    for columns in _groups(space, free):
        is_ordered = bool(space.ordered[free[columns[0]]])
        sources = [columns] if is_ordered else [first[columns] + v for v in range(int(choices[columns].min()))]
        for source in sources:
            level = np.zeros(len(free) + int(choices.sum()))
            level[source] = len(columns) ** -0.5
            levels.append(level)
    return np.unique(np.array(levels).T, axis=1) if levels else np.zeros((len(free) + int(choices.sum()), 0))


def _groups(space: SearchSpace, free: IntMatrix) -> list[list[int]]:
    """Return which of the free genes belong together: those of a dimension, and of a dimension in a stage."""
    stage = {c.gene: c.controller for c in space.conditions}
    groups: dict[tuple[object, ...], list[int]] = {}
    for column, gene in enumerate(free):
        dimension, _, slot = space.gene_names[gene].removesuffix("]").rpartition("[")
        groups.setdefault((dimension,), []).append(column)
        if (key := (dimension, int(slot))) in stage:
            groups.setdefault((dimension, stage[key]), []).append(column)
    return [columns for columns in groups.values() if len(columns) > 1]
