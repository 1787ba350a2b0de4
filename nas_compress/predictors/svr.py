"""Support vector regression."""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.svm import SVR

from nas_compress.predictors.base import FloatMatrix, FloatVector, Predictor

_PENALTIES = (0.1, 1.0, 10.0, 100.0)
_FOLDS = 5


class SupportVectorRegression(Predictor):
    """Regression with an RBF kernel; C has the least cross-validated error, whose root is the std."""

    def _fit(self, x: FloatMatrix, y: FloatVector) -> None:
        folds = KFold(min(_FOLDS, len(y)), shuffle=True, random_state=0)
        search = GridSearchCV(SVR(), {"C": _PENALTIES}, scoring="neg_mean_squared_error", cv=folds)
        self._model = search.fit(x, y)

    def _predict(self, x: FloatMatrix) -> tuple[FloatVector, FloatVector]:
        return self._model.predict(x), np.full(len(x), np.sqrt(-self._model.best_score_))
