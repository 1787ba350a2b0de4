"""Ridge regression."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import RidgeCV

from nas_compress.predictors.base import FloatMatrix, FloatVector, Predictor

_PENALTIES = np.logspace(-2, 3, 16)


class RidgeRegression(Predictor):
    """Linear regression; its L2 penalty has the least leave-one-out error, whose root is the std."""

    def _fit(self, x: FloatMatrix, y: FloatVector) -> None:
        self._model = RidgeCV(alphas=_PENALTIES).fit(x, y)

    def _predict(self, x: FloatMatrix) -> tuple[FloatVector, FloatVector]:
        return self._model.predict(x), np.full(len(x), np.sqrt(-self._model.best_score_))
