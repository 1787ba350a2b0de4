"""What predictors see of an architecture: its genes in several views, and cheap quantities computed from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas_compress.objectives.base import AnalyticObjective
from nas_compress.predictors.base import FloatMatrix
from nas_compress.space import SearchSpace
from nas_compress.space.search_space import IntMatrix

ONE_HOT_WEIGHT = 0.35
"""Scale of the one-hot part: what a value has beyond its rank matters less."""

LEVEL_WEIGHT = 1.0
"""Scale of the levels."""

COMPUTED_WEIGHT = 1.0


class Features:
    """Turns encoded architectures into rows of features.

    - the rank of every gene, scaled to (0, 1], and 0 where it is inactive;
    - the value of every gene, one-hot, scaled down;
    - levels: the ranks of a dimension together, and of the genes of a dimension that hang on one controller (a
      stage), so that a few measurements tell what, say, larger kernels bring, before they can tell which kernel;
    - the logarithm of computed quantities (MACs, parameters), and its square, scaled to [0, 1] between the smallest
      and the largest architecture.

    Args:
        space: The space.
        descriptors: The computed quantities; those that are not positive at both ends are left out.
    """

    def __init__(self, space: SearchSpace, descriptors: Sequence[AnalyticObjective] = ()) -> None:
        self._space = space
        self._genes = int(np.count_nonzero(space.cardinalities > 1))
        self._levels = _level_matrix(space)
        ends = [space.smallest(), space.largest()]
        self._descriptors = []
        for each in descriptors:
            low, high = each.compute(ends)
            if 0 < low < high:
                self._descriptors.append((each, float(np.log(low)), float(np.log(high / low))))

    def __call__(self, rows: IntMatrix) -> FloatMatrix:
        """Return the features, shape (n, f), of canonical encoded architectures, shape (n, genes)."""
        both = self._space.encoded_features(rows)
        ordinal, one_hot = both[:, : self._genes], both[:, self._genes :]
        parts = [ordinal, ONE_HOT_WEIGHT * one_hot, LEVEL_WEIGHT * (ordinal @ self._levels)]
        for each, low, span in self._descriptors:
            log = (np.log(each.compute_encoded(self._space, rows)) - low) / span
            parts.append(COMPUTED_WEIGHT * np.column_stack([log, log**2]))
        return np.hstack(parts)


def _level_matrix(space: SearchSpace) -> FloatMatrix:
    """Return the matrix, shape (free genes, levels), that turns ranks into sums by dimension and by stage.

    A level is the sum over its k genes divided by the root of k: as if each gene were a draw around what its
    dimension does, so that a linear kernel on ranks and levels is a hierarchical prior.
    """
    free = np.flatnonzero(space.cardinalities > 1)
    dimension = np.array([name.partition("[")[0] for name in space.gene_names])
    stage = {c.gene: c.controller for c in space.conditions}
    groups: dict[tuple[object, ...], list[int]] = {}
    for column, gene in enumerate(free):
        name = space.gene_names[gene]
        key = (dimension[gene], int(name.partition("[")[2][:-1]))
        groups.setdefault((key[0],), []).append(column)
        if key in stage:
            groups.setdefault((key[0], stage[key]), []).append(column)
    several = [columns for columns in groups.values() if len(columns) > 1]
    matrix = np.zeros((len(free), len(several)))
    for level, columns in enumerate(several):
        matrix[columns, level] = len(columns) ** -0.5
    return np.unique(matrix, axis=1) if several else matrix
