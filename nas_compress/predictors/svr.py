"""Support vector regression."""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.svm import SVR

from nas_compress.predictors.base import FloatMatrix, FloatVector, Predictor, evenly_spaced

_PENALTIES = (1.0, 10.0, 100.0)
_TUBES = (0.02, 0.1)
_WIDTHS = (0.03, 0.2, 1.0)
_FOLDS = 5
_MOST_ROWS = 300


class SupportVectorRegression(Predictor):
    """Regression with an RBF kernel; penalty, tube and kernel width have the least cross-validated error.

    The error's root is the std. The widths are relative to the variance of the features. From 300 rows on, the three
    are chosen on 300 of them, evenly spaced, and the machine fitted to all.

    Source: Smola and Schoelkopf, 2004, "A tutorial on support vector regression".
    """

    def _fit(self, x: FloatMatrix, y: FloatVector) -> None:
        gamma = 1.0 / (x.shape[1] * float(x.var()) or 1.0)
        grid = {"C": _PENALTIES, "epsilon": _TUBES, "gamma": [gamma * width for width in _WIDTHS]}
        some = evenly_spaced(len(y), _MOST_ROWS)
        folds = KFold(min(_FOLDS, len(some)), shuffle=True, random_state=0)
        search = GridSearchCV(SVR(), grid, scoring="neg_mean_squared_error", cv=folds, refit=False)
        search.fit(x[some], y[some])
        self._model = SVR(**search.best_params_).fit(x, y)
        self._std = float(np.sqrt(-search.best_score_))

    def _predict(self, x: FloatMatrix) -> tuple[FloatVector, FloatVector]:
        return self._model.predict(x), np.full(len(x), self._std)

    def _predict_mean(self, x: FloatMatrix) -> FloatVector:
        mean: FloatVector = self._model.predict(x)
        return mean
