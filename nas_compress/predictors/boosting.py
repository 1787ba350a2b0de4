"""Gradient-boosted trees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sklearn.ensemble import GradientBoostingRegressor

from nas_compress.predictors.base import FloatMatrix, FloatVector
from nas_compress.predictors.committee import Committee, Member

_SETTINGS = ({"max_depth": 2, "max_features": 1.0}, {"max_depth": 4, "max_features": 0.25})
_TREES = 80
_LEARNING_RATE = 0.2
_LEAF_ROWS = 3
_SUBSAMPLE = 0.8
_DIGITS = 9  # so that the rounding errors of a unit do not decide between splits that are equally good


class GradientBoosting(Committee):
    """Gradient-boosted trees; their number, depth and features per split have the least cross-validated error.

    Source: Friedman, 2002, "Stochastic gradient boosting".
    """

    def _settings(self) -> Sequence[Mapping[str, Any]]:
        return _SETTINGS

    def _train(self, x: FloatMatrix, y: FloatVector, settings: Mapping[str, Any], seed: int) -> Member:
        member: Member = GradientBoostingRegressor(
            learning_rate=_LEARNING_RATE,
            n_estimators=_TREES,
            min_samples_leaf=_LEAF_ROWS,
            subsample=_SUBSAMPLE if len(y) > 1 else 1.0,
            random_state=seed,
            **settings,
        ).fit(x, y.round(_DIGITS))
        return member
