"""Rank correlations with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, rankdata, spearmanr

Vector = NDArray[np.float64]


class Interval(NamedTuple):
    """A value and the ends of its interval of 95 %."""

    value: float
    low: float
    high: float


class Correlations(NamedTuple):
    """Of scores with accuracies, and how many networks had no score."""

    spearman: Interval
    kendall: Interval
    failed: int


def ranks(values: Vector) -> Vector:
    """Return ranks, ties averaged; those without a score (NaN) share the lowest."""
    return np.asarray(rankdata(np.where(np.isnan(values), -np.inf, values)), dtype=np.float64)


def correlations(values: Sequence[Vector], accuracy: Vector, draws: int = 300) -> Correlations:
    """Return how scores, of one or several seeds (their ranks are averaged), rank networks.

    Args:
        values: Scores, higher is better, NaN where there are none, shape (n,) each.
        accuracy: Shape (n,); networks whose accuracy is not known (NaN) are left out.
        draws: Of networks with replacement, for the intervals.
    """
    known = ~np.isnan(accuracy)
    accuracy, values = accuracy[known], [each[known] for each in values]
    mean = np.mean([ranks(each) for each in values], axis=0)
    failed = int(np.isnan(np.stack(values)).any(axis=0).sum())
    rng = np.random.default_rng(0)
    rows = [rng.integers(len(mean), size=len(mean)) for _ in range(draws)]

    def interval(measure: Callable[[Vector, Vector], float]) -> Interval:
        drawn = [measure(mean[chosen], accuracy[chosen]) for chosen in rows]
        return Interval(measure(mean, accuracy), *np.nanpercentile(drawn, [2.5, 97.5]))

    return Correlations(
        interval(lambda a, b: float(spearmanr(a, b).statistic)),
        interval(lambda a, b: float(kendalltau(a, b).statistic)),
        failed,
    )
