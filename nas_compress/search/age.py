"""The survival of AGE-MOEA, in plain numpy: pymoo's wants a just-in-time compiler, at seconds per process.

Source: Panichella, 2019, "An adaptive evolutionary algorithm based on non-Euclidean geometry for many-objective
optimization", GECCO.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.survival import Survival

from nas_compress.search import pareto
from nas_compress.space.search_space import FloatMatrix

FloatVector = NDArray[np.float64]

_TINY = 1e-8
_LEAST_CURVATURE, _MOST_CURVATURE = 0.1, 20.0


class GeometrySurvival(Survival):  # type: ignore[misc]
    """Keeps whole fronts, then those of the last one with the highest survival score, stored as `crowding`.

    On the first front the score is diversity over proximity in the norm that fits the front's curvature; behind it,
    proximity to the ideal point alone.
    """

    def __init__(self) -> None:
        super().__init__(filter_infeasible=True)

    def _do(self, problem: Problem, pop: Population, *_: Any, n_survive: int, **__: Any) -> Population:
        costs = pop.get("F").astype(np.float64)
        ranks = pareto.ranks(costs)
        first = ranks == 0
        shifted = costs - costs[first].min(axis=0)
        extremes = _extremes(shifted[first])
        shifted = shifted / _intercepts(shifted[first], extremes)
        p = _curvature(shifted[first], extremes)
        scores = 1 / np.maximum(_norm(shifted, p), _TINY)
        scores[first] = _scores(shifted[first], extremes, p)
        for one, rank, score in zip(pop, ranks, scores, strict=True):
            one.data["rank"], one.data["crowding"] = int(rank), float(score)
        return pop[np.lexsort([-scores, ranks])[:n_survive]]


def _norm(points: FloatMatrix, p: float) -> FloatVector:
    """Return the p-norm over the last axis."""
    norm: FloatVector = np.sum(np.abs(points) ** p, axis=-1) ** (1 / p)
    return norm


def _extremes(front: FloatMatrix) -> list[int]:
    """Return, for each axis, the index of the point closest to it that no axis before took."""
    chosen: list[int] = []
    for axis in range(min(front.shape[1], len(front))):
        distance = np.linalg.norm(np.delete(front, axis, axis=1), axis=1)
        distance[chosen] = np.inf
        chosen.append(int(np.argmin(distance)))
    return chosen


def _intercepts(front: FloatMatrix, extremes: list[int]) -> FloatVector:
    """Return where the hyperplane through the extremes cuts the axes, or the front's extent where none does."""
    intercepts: FloatVector = front.max(axis=0)
    if len(extremes) == front.shape[1]:
        try:
            plane = np.linalg.solve(front[extremes], np.ones(len(extremes)))
        except np.linalg.LinAlgError:
            pass
        else:
            if np.isfinite(plane).all() and (plane > 0).all():
                intercepts = 1 / plane
    return np.where(intercepts > 0, intercepts, 1.0)


def _curvature(front: FloatMatrix, extremes: list[int]) -> float:
    """Return the p of the norm whose unit sphere goes through the normalised front's most central point."""
    distance = np.linalg.norm(front - front.mean(axis=1, keepdims=True), axis=1)
    distance[extremes] = np.inf
    mean = float(front[int(np.argmin(distance))].mean())
    if not 0 < mean < 1:
        return 1.0
    p = np.log(front.shape[1]) / np.log(1 / mean)
    return min(float(p), _MOST_CURVATURE) if p > _LEAST_CURVATURE else 1.0


def _scores(front: FloatMatrix, extremes: list[int], p: float) -> FloatVector:
    """Return survival scores: infinite for extremes, then diversity over proximity of each next best, shape (n,).

    Diversity is the sum of the distances to the two nearest points taken before.
    """
    scores = np.full(len(front), np.inf)
    norms = _norm(front, p)
    norms[norms < _TINY] = 1.0
    distances = np.maximum(_norm(front[:, None] - front[None], p), _TINY) / norms[:, None]
    nearest = np.sort(distances[:, extremes], axis=1)[:, :2]
    left = np.setdiff1d(np.arange(len(front)), extremes)
    while len(left):
        sums = nearest[left].sum(axis=1)
        best = left[int(np.argmax(sums))]
        scores[best] = sums.max()
        left = left[left != best]
        nearest = np.sort(np.column_stack([nearest, distances[:, best]]), axis=1)[:, :2]
    return scores
