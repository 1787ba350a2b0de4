"""DE-Score of published networks: its terms, the scores made of them, and weights fitted on one problem."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from correlation import Vector
from scipy.stats import kendalltau
from scores import ORIGINAL, Problem, Scores, columns

from nas_compress.objectives.de_score import ORIGINAL_WEIGHTS
from nas_compress.proxies.de_score import (
    DEFAULT_WEIGHTS,
    PUBLISHED_TERMS,
    SIGNS,
    averaged,
    de_score,
    de_score_original,
    oriented,
)

SCORES = ("de_score", "de_score_original")
STEPS = 10
"""Fitted weights are multiples of a tenth."""

Weights = Mapping[str, float]


def kind_of(problem: Problem) -> str:
    """Return `"cnn"` or `"transformer"`, which has the terms of DE-Score by default."""
    return "cnn" if problem.family == "cnn" else "transformer"


def needed(name: str, problem: Problem, weights: Weights | None = None) -> list[str]:
    """Return the columns that a row is made of: itself, or the terms of a score."""
    kind = kind_of(problem)
    if name == "de_score":
        return list(DEFAULT_WEIGHTS[kind] if weights is None else weights)
    return [f"{ORIGINAL}{term}" for term in PUBLISHED_TERMS[kind]] if name == "de_score_original" else [name]


def term_of(column: str) -> str:
    """Return the term that a column has the values of."""
    return column.removeprefix(ORIGINAL)


def sign(column: str) -> int:
    """Return whether more of a term is better (1) or less (-1)."""
    return SIGNS[term_of(column)]


def values_of(
    scores: Scores, problem: Problem, settings: str, names: Sequence[str], seeds: Sequence[int]
) -> dict[str, Vector]:
    """Return columns of terms by the term's name, shape (n, seeds), NaN where a network has none."""
    found = {name: [values for values, _ in columns(scores, problem, settings, name, seeds)] for name in names}
    return {term_of(name): np.stack(values, axis=1) for name, values in found.items()}


def scored(name: str, terms: Mapping[str, Vector], problem: Problem, weights: Weights | None = None) -> Vector:
    """Return a score of all networks, NaN where one has none, shape (n,).

    `de_score` is normalised by these very networks, each of its terms a mean over seeds.

    Args:
        name: One of `SCORES`.
        terms: Shape (n, seeds) each.
        problem: The networks.
        weights: Of `de_score`; those of the kind of network by default.
    """
    if name == "de_score":
        found = averaged(de_score(terms, weights or DEFAULT_WEIGHTS[kind_of(problem)]))
    else:
        found = de_score_original(terms, kind_of(problem), ORIGINAL_WEIGHTS.get(problem.family))
    return np.where(np.isfinite(found), found, np.nan)


def fitted(terms: Mapping[str, Vector], accuracy: Vector) -> dict[str, float]:
    """Return the weights, tenths from .1 on that add up to 1, whose DE-Score has the largest Kendall tau with accuracy.

    Args:
        terms: Shape (n, seeds) each; those that no network has are left out.
        accuracy: Shape (n,).
    """
    names = [name for name, values in terms.items() if np.isfinite(oriented(name, values)).any()]

    def tau(weights: Weights) -> float:
        found = averaged(de_score(terms, weights))
        lowest = np.where(np.isfinite(found), found, np.nanmin(found[np.isfinite(found)]) - 1)
        return float(kendalltau(lowest, accuracy).statistic)

    return max((dict(zip(names, each, strict=True)) for each in _simplex(len(names))), key=tau)


def _simplex(size: int) -> Iterator[list[float]]:
    """Yield all weights of at least a tenth each that are multiples of it and add up to 1."""
    for cuts in itertools.combinations(range(1, STEPS), size - 1):
        yield [(after - before) / STEPS for before, after in itertools.pairwise([0, *cuts, STEPS])]
