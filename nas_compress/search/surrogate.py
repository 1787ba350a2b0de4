"""Predictions in place of measurements: a predictor per metric, computed metrics as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_compress.errors import ConfigError
from nas_compress.objectives.base import AnalyticObjective, Direction, best_possible
from nas_compress.predictors import Predictor, held_out_scores, predictors
from nas_compress.predictors.features import Features
from nas_compress.search.problem import FloatMatrix, FloatVector, Limits, SearchProblem
from nas_compress.space.search_space import IntMatrix

MOST_PRIOR = 500
"""Trials of an earlier search that a predictor learns from, at most."""

_LEAST_PRIOR = 10
_PRIOR_WEIGHT = 3.0
_FOLDS = 5
_LEAST_SCORED = 4
_CHOICES = {"auto": "chosen", "ensemble": "weights"}  # attributes, after fitting


class Surrogate:
    """What a search believes of architectures that it has not measured.

    Where there are trials of an earlier search, a predictor fitted to them gives one more feature: what was measured
    here then tells how far the earlier values hold, in whatever unit and on whatever hardware they were taken. Genes in
    which the earlier trials do not differ (the precisions, after a search in fp32) are taken to be as they were there.

    Args:
        problem: The problem.
        limits: Its limits.
        names: Predictors by metric, for every metric that is to be predicted; computed metrics without one are
            computed, measured ones without one are left out of costs and limits.
        rng: Chooses among too many earlier trials.

    Raises:
        ConfigError: A predictor that does not exist, or no objective left.
    """

    def __init__(
        self, problem: SearchProblem, limits: Limits, names: Mapping[str, str], rng: np.random.Generator
    ) -> None:
        self._problem, self._limits = problem, limits
        self._makers = {metric: predictors.get(name) for metric, name in names.items()}
        self.names = dict(names)
        computed = [o for o in (*problem.descriptors, *problem.metrics) if isinstance(o, AnalyticObjective)]
        self._features = Features(problem.space, list({o.name: o for o in computed}.values()))
        self._computed = [o for o in problem.metrics if isinstance(o, AnalyticObjective) and o.name not in names]
        known = {*names, *(o.name for o in self._computed)}
        self.objectives = [i for i, o in enumerate(problem.objectives) if o.name in known]
        if not self.objectives:
            raise ConfigError("validation_only: leaves no objective to search for on predictions")
        self._fixed: dict[str, IntMatrix] = {}
        self._earlier = {metric: self._learn_prior(metric, rng) for metric in names}
        self._directions = {o.name: o.direction for o in problem.objectives}
        self._ends = {o.name: (o.direction, best_possible(o.direction, o.unit, o.best)) for o in problem.metrics}
        self._fitted: dict[str, Predictor] = {}
        self._bounds: dict[str, tuple[float, float]] = {}

    def _learn_prior(self, metric: str, rng: np.random.Generator) -> Predictor | None:
        """Return a predictor of an earlier search's values, standardised; None where there are few."""
        trials = [t for t in self._problem.prior if metric in t.values]
        if len(trials) < _LEAST_PRIOR:
            return None
        chosen = np.sort(rng.permutation(len(trials))[:MOST_PRIOR])
        values = np.array([trials[i].values[metric] for i in chosen])
        rows = self._problem.space.encode([trials[i].architecture for i in chosen])
        free = self._problem.space.cardinalities > 1
        self._fixed[metric] = np.where(free, _fixed_genes(rows, self._problem.space.active(rows)), -1)
        scale = float(np.std(values)) or 1.0
        return predictors.get("gp")().fit(self._features(rows), (values - values.mean()) / scale)

    def _views(self, rows: IntMatrix) -> dict[str, FloatMatrix]:
        """Return the features by predicted metric, shape (n, f) each."""
        shared = self._features(rows)
        return {
            metric: shared
            if earlier is None
            else np.column_stack([shared, _PRIOR_WEIGHT * earlier.predict_mean(self._as_before(metric, rows, shared))])
            for metric, earlier in self._earlier.items()
        }

    def _as_before(self, metric: str, rows: IntMatrix, features: FloatMatrix) -> FloatMatrix:
        """Return the features of rows whose fixed genes are as they were in the earlier search, shape (n, f)."""
        fixed = self._fixed[metric]
        if not (fixed >= 0).any():
            return features
        return self._features(self._problem.space.canonical(np.where(fixed >= 0, fixed, rows)))

    def fit(self, rows: IntMatrix, values: Mapping[str, FloatVector]) -> None:
        """Fit every predictor to canonical rows, shape (n, genes), and values by metric, shape (n,) each, n >= 2."""
        views = self._views(rows)
        self._fitted = {metric: make().fit(views[metric], values[metric]) for metric, make in self._makers.items()}
        self._bounds = {metric: _bounds(*self._ends[metric], values[metric]) for metric in self._makers}

    def __call__(self, rows: IntMatrix, optimism: float = 0.0) -> tuple[FloatMatrix, FloatVector]:
        """Return the costs of canonical rows, shape (n, k), and how far they are beyond the limits, shape (n,).

        Nothing is taken to be better than its metric can be: no error rate below 0, no accuracy above 100 %.

        Args:
            rows: Shape (n, genes).
            optimism: How many standard deviations predicted objectives are taken to be better than their mean.
        """
        views = self._views(rows)
        values = {o.name: o.compute_encoded(self._problem.space, rows) for o in self._computed}
        better = dict(values)
        for metric, each in self._fitted.items():
            if optimism and (direction := self._directions.get(metric)):
                values[metric], std = each.predict(views[metric])
                better[metric] = values[metric] + (optimism if direction == "maximize" else -optimism) * std
            else:
                values[metric] = better[metric] = each.predict_mean(views[metric])
            better[metric] = np.clip(better[metric], *self._bounds[metric])
        return self._costs(better), self._limits.excess(values)

    def _costs(self, values: Mapping[str, FloatVector]) -> FloatMatrix:
        nothing = np.zeros(len(next(iter(values.values()))))
        every = {o.name: values.get(o.name, nothing) for o in self._problem.objectives}
        return self._problem.costs(every)[:, self.objectives]

    def scores(self, rows: IntMatrix, values: Mapping[str, FloatVector]) -> dict[str, dict[str, Any]]:
        """Return how well each predictor does on held-out measurements, by metric; nothing below four.

        Below ten, each is left out on its own. What a predictor chose when the search fitted it last is told too:
        `auto` a predictor (`chosen`), `ensemble` its members' weights (`weights`).
        """
        if len(rows) < _LEAST_SCORED:
            return {}
        folds = _FOLDS if len(rows) >= 2 * _FOLDS else len(rows)
        views = self._views(rows)
        found: dict[str, dict[str, Any]] = {}
        for metric, make in self._makers.items():
            score = held_out_scores(make, views[metric], values[metric], np.random.default_rng(0), folds)
            found[metric] = {
                "predictor": self.names[metric],
                "kendall_tau": score.kendall_tau,
                "mape": score.mape,
                "measurements": len(rows),
            }
            choice = _CHOICES.get(self.names[metric], "")
            if (made := getattr(self._fitted.get(metric), choice, None)) is not None:
                found[metric][choice] = made
        return found


def _bounds(direction: Direction, best: float | None, measured: FloatVector) -> tuple[float, float]:
    """Return between what values a metric can be predicted; no bound where measured values are beyond it."""
    end = np.inf if best is None else best
    if direction == "maximize":
        return -np.inf, end if measured.max() <= end else np.inf
    return (end if measured.min() >= end else -np.inf), np.inf


def _fixed_genes(rows: IntMatrix, active: NDArray[np.bool_]) -> IntMatrix:
    """Return the choice of each gene wherever rows have it active, shape (genes,); -1 where they differ or none has."""
    low = np.where(active, rows, rows.max(initial=0) + 1).min(axis=0)
    high = np.where(active, rows, -1).max(axis=0)
    return np.where(low == high, high, -1)


def predicted_metrics(problem: SearchProblem) -> list[str]:
    """Return the metrics that cannot be computed."""
    return [o.name for o in problem.metrics if not isinstance(o, AnalyticObjective)]


def choose(names: str | Mapping[str, str] | None, metrics: Sequence[str], default: Mapping[str, str]) -> dict[str, str]:
    """Return a predictor's name for every metric.

    Args:
        names: One for all, or by metric, or None.
        metrics: The metrics.
        default: For those that `names` lacks; the key `""` stands for all others.

    Raises:
        ConfigError: A name for what is not among the metrics.
    """
    given = dict.fromkeys(metrics, names) if isinstance(names, str) else dict(names or {})
    if stray := [metric for metric in given if metric not in metrics]:
        raise ConfigError(f"predictor: {stray[0]!r} is not predicted by this search; predicted: {', '.join(metrics)}")
    return {metric: given.get(metric, default.get(metric, default[""])) for metric in metrics}
