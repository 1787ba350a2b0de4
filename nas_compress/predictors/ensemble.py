"""Several predictors in one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

from nas_compress.predictors.base import FloatMatrix, FloatVector, Predictor, deal_folds, evenly_spaced, out_of_fold

MEMBERS = ("ridge", "svr", "gp", "boosting")
"""Names of the predictors that are combined."""

_FOLDS = 5
_SEED = 0
_FEWEST_ROWS = 10
_MOST_ROWS = 500


class StackedEnsemble(Predictor):
    """A weighted mean of predictors, none weighted below 0, that errs least on rows its members had not seen.

    The variance is that of the members' mixture, times what makes it right for those rows. With fewer than 10 rows,
    the weights are equal; from 500 on, 500 of them, evenly spaced, choose the weights.

    Source: Breiman, 1996, "Stacked regressions".

    Attributes:
        weights: The weights by predictor, after fitting; their sum is 1.
    """

    weights: dict[str, float]

    def _fit(self, x: FloatMatrix, y: FloatVector) -> None:
        from nas_compress.predictors import predictors

        makers = [predictors.get(name) for name in MEMBERS]
        self._members = [make().fit(x, y) for make in makers]
        self._weights, self._widening = np.full(len(makers), 1 / len(makers)), 1.0
        if len(y) >= _FEWEST_ROWS:
            some = evenly_spaced(len(y), _MOST_ROWS)
            self._weigh(makers, x[some], y[some])
        self.weights = dict(zip(MEMBERS, self._weights.tolist(), strict=True))

    def _weigh(self, makers: Sequence[type[Predictor]], x: FloatMatrix, y: FloatVector) -> None:
        folds = deal_folds(len(y), _FOLDS, np.random.default_rng(_SEED))
        unseen = [out_of_fold(make, x, y, folds) for make in makers]
        means = np.column_stack([mean for mean, _ in unseen])
        self._weights = _convex_weights(means, y)
        mean, std = self._mixture(means, np.column_stack([std for _, std in unseen]))
        variance = np.mean(std**2)
        self._widening = float(np.sqrt(np.mean((mean - y) ** 2) / variance)) if variance else 1.0

    def _predict(self, x: FloatMatrix) -> tuple[FloatVector, FloatVector]:
        means, stds = zip(*(member.predict(x) for member in self._members), strict=True)
        mean, std = self._mixture(np.column_stack(means), np.column_stack(stds))
        return mean, self._widening * std

    def _predict_mean(self, x: FloatMatrix) -> FloatVector:
        means: FloatVector = np.column_stack([member.predict_mean(x) for member in self._members]) @ self._weights
        return means

    def _mixture(self, means: FloatMatrix, stds: FloatMatrix) -> tuple[FloatVector, FloatVector]:
        """Return the mean and std, shape (n,), of the weighted mixture of columns, shape (n, members)."""
        mean = means @ self._weights
        return mean, np.sqrt((stds**2 + (means - mean[:, None]) ** 2) @ self._weights)


def _convex_weights(predicted: FloatMatrix, y: FloatVector) -> FloatVector:
    """Return the weights, none negative and 1 in sum, of the columns, shape (n, k), that come closest to `y`.

    As if there were one more row in which every column is off by its root mean squared error, each on its own: columns
    that are equally good are weighted equally.
    """
    errors = predicted - y[:, None]
    own = np.diag(np.sqrt(np.mean(errors**2, axis=0)))
    stacked = np.vstack([errors, own])
    firm = 1e3 * np.linalg.norm(stacked) * np.ones(stacked.shape[1])  # a row that makes the sum 1
    weights, _ = nnls(np.vstack([stacked, firm]), np.append(np.zeros(len(stacked)), firm[0]))
    normalised: FloatVector = weights / weights.sum()
    return normalised
