"""Pareto dominance and hypervolume, on costs that are minimised (`moocore` does the work).

Costs are float arrays of shape (n, m): n points, m objectives.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas_compress.objectives.base import Direction

FloatMatrix = NDArray[np.float64]


def costs(values: ArrayLike, directions: Sequence[Direction]) -> FloatMatrix:
    """Return natural values of shape (n, m) as costs: maximised columns change their sign."""
    signs = [-1.0 if direction == "maximize" else 1.0 for direction in directions]
    return np.asarray(values, dtype=np.float64).reshape(-1, len(signs)) * signs


def non_dominated(costs: FloatMatrix) -> NDArray[np.bool_]:
    """Return which points no other point dominates, shape (n,); repeats of a front point are all kept."""
    if not len(costs):
        return np.zeros(0, dtype=bool)
    mask: NDArray[np.bool_] = moocore.is_nondominated(costs, keep_weakly=True)
    return mask


def ranks(costs: FloatMatrix) -> NDArray[np.int64]:
    """Return how many fronts have to be peeled off before a point is on the front, shape (n,), 0 for the front."""
    if not len(costs):
        return np.zeros(0, dtype=np.int64)
    return np.asarray(moocore.pareto_rank(costs), dtype=np.int64)


def hypervolume(costs: FloatMatrix, reference: ArrayLike) -> float:
    """Return the volume between the points and the reference point, shape (m,); points beyond it add nothing.

    Source: Zitzler and Thiele, 1998; Fonseca et al., 2006 (the algorithm).
    """
    return float(moocore.hypervolume(costs, ref=reference)) if len(costs) else 0.0


def reference_point(costs: FloatMatrix, margin: float = 0.1) -> NDArray[np.float64]:
    """Return a point worse than all given ones by `margin` of each objective's range, shape (m,).

    An objective without range is given a range of 1, so that it neither adds to a hypervolume nor voids it.
    """
    worst, span = costs.max(axis=0), np.ptp(costs, axis=0)
    return np.asarray(worst + margin * np.where(span > 0, span, 1.0))


def crowding(costs: FloatMatrix) -> NDArray[np.float64]:
    """Return the crowding distances of points of one front, shape (n,); the ends of every objective are at infinity.

    Source: Deb et al., 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II", section III-B.
    """
    distances = np.zeros(len(costs))
    for column in costs.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]]
        distances[order[[0, -1]]] = np.inf
        if span > 0:
            distances[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return distances


def fittest(costs: FloatMatrix, excess: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """Return the indices of the best `n` points, the best first.

    Points that keep all limits come first, by rank, then by crowding; the others follow by how far they are beyond.

    Source: Deb et al., 2002, sections III and VI (constrained domination).

    Args:
        costs: Shape (k, m).
        excess: How far each point is beyond the limits, shape (k,); 0 if it keeps them.
        n: How many.
    """
    feasible, beyond = np.flatnonzero(excess <= 0), np.flatnonzero(excess > 0)
    rank = ranks(costs[feasible])
    chosen, left = [beyond[:0]], n
    for front in (feasible[rank == r] for r in range(int(rank.max(initial=-1)) + 1)):
        front = front[np.argsort(-crowding(costs[front]), kind="stable")[:left]]
        chosen.append(front)
        left -= len(front)
        if not left:
            break
    chosen.append(beyond[np.argsort(excess[beyond], kind="stable")[:left]])
    return np.concatenate(chosen)


def greedy_improvement(candidates: FloatMatrix, front: FloatMatrix, reference: ArrayLike, n: int) -> NDArray[np.int64]:
    """Return the indices of at most `n` candidates, each the one that then improves the hypervolume most.

    Candidates that would improve nothing are left out. Improvements only shrink as points are added
    (hypervolume is submodular), so a stale one is a bound and few have to be computed again.

    Source: Minoux, 1978, "Accelerated greedy algorithms" (the lazy evaluation).

    Args:
        candidates: Costs of the candidates, shape (n, m).
        front: Costs of the points there are already, shape (k, m).
        reference: The reference point, shape (m,).
        n: How many to choose.
    """
    volume = hypervolume(front, reference)
    bounds = [(volume - hypervolume(np.vstack([front, c]), reference), i) for i, c in enumerate(candidates)]
    heapq.heapify(bounds)
    chosen: list[int] = []
    while bounds and len(chosen) < n:
        _, i = heapq.heappop(bounds)
        extended = np.vstack([front, candidates[i]])
        loss = volume - hypervolume(extended, reference)
        if loss >= 0:
            continue
        if bounds and (loss, i) > bounds[0]:
            heapq.heappush(bounds, (loss, i))
            continue
        chosen.append(i)
        front, volume = extended, volume - loss
    return np.array(chosen, dtype=np.int64)
