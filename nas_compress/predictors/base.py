"""What a predictor is, and how good it honestly is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

FloatVector = NDArray[np.float64]
FloatMatrix = NDArray[np.float64]


class Predictor(ABC):
    """A regression with an uncertainty. Subclasses see standardised targets and choose their hyper-parameters."""

    def fit(self, x: FloatMatrix, y: FloatVector) -> Self:
        """Fit to features of shape (n, f) and values of shape (n,) in any unit, n >= 2; earlier fits are forgotten."""
        self._centre, self._scale = float(np.mean(y)), float(np.std(y)) if np.ptp(y) > 0 else 0.0
        if self._scale:
            self._fit(x, (y - self._centre) / self._scale)
        return self

    def predict(self, x: FloatMatrix) -> tuple[FloatVector, FloatVector]:
        """Return means and standard deviations, both of shape (n,), for features of shape (n, f).

        Equal values at fitting are predicted as that value, with no uncertainty.
        """
        if not self._scale:
            return np.full(len(x), self._centre), np.zeros(len(x))
        mean, std = self._predict(x)
        return self._centre + self._scale * mean, self._scale * std

    @abstractmethod
    def _fit(self, x: FloatMatrix, y: FloatVector) -> None:
        """Fit to targets of mean 0 and variance 1."""

    @abstractmethod
    def _predict(self, x: FloatMatrix) -> tuple[FloatVector, FloatVector]:
        """Return means and standard deviations of standardised targets."""


@dataclass(frozen=True)
class HeldOutScores:
    """How well values were predicted that the predictor had not seen.

    Attributes:
        kendall_tau: Rank correlation (tau-b) of predicted and true values, -1 to 1; NaN where either is constant.
        mape: Mean absolute percentage error; infinite where a true value is 0.
    """

    kendall_tau: float
    mape: float


def held_out_scores(
    make: Callable[[], Predictor], x: FloatMatrix, y: FloatVector, rng: np.random.Generator, folds: int = 5
) -> HeldOutScores:
    """Score a predictor by cross-validation: each value is predicted from the other folds alone.

    Args:
        make: Makes an unfitted predictor.
        x: Features, shape (n, f).
        y: Values, shape (n,), n >= 2 * folds.
        rng: Deals the rows into folds.
        folds: Number of folds.
    """
    from scipy.stats import kendalltau

    predicted = np.empty(len(y))
    for held_out in np.array_split(rng.permutation(len(y)), folds):
        rest = np.setdiff1d(np.arange(len(y)), held_out)
        predicted[held_out] = make().fit(x[rest], y[rest]).predict(x[held_out])[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.abs(predicted - y) / np.abs(y)
    return HeldOutScores(float(kendalltau(predicted, y).statistic), float(100 * np.mean(errors)))
