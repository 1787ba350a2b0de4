"""Reference directions: points spread evenly over the unit simplex."""

from __future__ import annotations

from itertools import count
from math import comb

import numpy as np
from pymoo.util.ref_dirs import get_reference_directions

from nas_compress.space.search_space import FloatMatrix

_FINENESS = 20


def directions(objectives: int, n: int) -> FloatMatrix:
    """Return exactly `n` directions, shape (n, objectives), whose components are at least 0 and sum to 1.

    Where a simplex lattice has `n` points it is taken (two objectives: always). Else they are picked from a finer
    lattice, corners first, then each time the point farthest from those there are. One objective has one direction,
    repeated.

    Source: Das and Dennis, 1998, "Normal-boundary intersection" (the lattice); Gonzalez, 1985, "Clustering to
    minimize the maximum intercluster distance" (the picking).
    """
    if objectives == 1:
        return np.ones((n, 1))
    sizes = (comb(partitions + objectives - 1, objectives - 1) for partitions in count(1))
    fits = (i for i, size in enumerate(sizes, start=1) if size == n or size >= _FINENESS * n)
    lattice: FloatMatrix = get_reference_directions("das-dennis", objectives, n_partitions=next(fits))
    return lattice if len(lattice) == n else lattice[_spread(lattice, n)]


def _spread(points: FloatMatrix, n: int) -> list[int]:
    """Return the indices of `n` points: the corners, then each the farthest from those before it."""
    chosen = [int(np.argmax(points[:, axis])) for axis in range(points.shape[1])][:n]
    nearest = np.min([np.linalg.norm(points - points[i], axis=1) for i in chosen], axis=0)
    while len(chosen) < n:
        chosen.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return chosen
