"""The predictor that suits the rows at hand."""

from __future__ import annotations

import math

import numpy as np

from nas_compress.predictors.base import (
    FloatMatrix,
    FloatVector,
    Predictor,
    deal_folds,
    evenly_spaced,
    out_of_fold,
    scores,
)

CANDIDATES = ("gp", "ridge", "svr", "boosting")
"""Names of the predictors to choose from."""

_FOLDS = 5
_SEED = 0
_FEWEST_ROWS = 10
_MOST_ROWS = 500


class AutomaticChoice(Predictor):
    """The predictor that ranks rows it has not seen best (Kendall's tau), chosen anew at every fit.

    Ties go to the lesser squared error. With fewer than 10 rows, it is the Gaussian process; from 500 on, 500 of them,
    evenly spaced, make the choice.

    Attributes:
        chosen: Name of the predictor that was chosen, after fitting; None if all values were equal.
    """

    chosen: str | None = None

    def _fit(self, x: FloatMatrix, y: FloatVector) -> None:
        from nas_compress.predictors import predictors

        self.chosen = CANDIDATES[0]
        if len(y) >= _FEWEST_ROWS:
            some = evenly_spaced(len(y), _MOST_ROWS)
            self.chosen = max(CANDIDATES, key=lambda name: self._merit(name, x[some], y[some]))
        self._model = predictors.get(self.chosen)().fit(x, y)

    @staticmethod
    def _merit(name: str, x: FloatMatrix, y: FloatVector) -> tuple[float, float]:
        from nas_compress.predictors import predictors

        folds = deal_folds(len(y), _FOLDS, np.random.default_rng(_SEED))
        mean, _ = out_of_fold(predictors.get(name), x, y, folds)
        tau = scores(mean, y).kendall_tau
        return -1.0 if math.isnan(tau) else tau, -float(np.mean((mean - y) ** 2))

    def _predict(self, x: FloatMatrix) -> tuple[FloatVector, FloatVector]:
        return self._model.predict(x)

    def _predict_mean(self, x: FloatMatrix) -> FloatVector:
        return self._model.predict_mean(x)
