"""What a predictor is, and how good it honestly is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

FloatVector = NDArray[np.float64]
FloatMatrix = NDArray[np.float64]
IntVector = NDArray[np.int64]


class Predictor(ABC):
    """A regression with an uncertainty. Subclasses see standardised targets and choose their hyper-parameters.

    Targets with a long tail are transformed first, if a linear model then errs less (`choose_transform`).
    """

    def fit(self, x: FloatMatrix, y: FloatVector) -> Self:
        """Fit to features of shape (n, f) and values of shape (n,) in any unit; earlier fits are forgotten."""
        from nas_compress.predictors.transform import choose_transform

        self._constant, self._transform = float(np.mean(y)), choose_transform(x, y) if np.ptp(y) > 0 else None
        if self._transform is not None:
            self._fit(x, self._transform(y))
        return self

    def predict(self, x: FloatMatrix) -> tuple[FloatVector, FloatVector]:
        """Return means and standard deviations, both of shape (n,), for features of shape (n, f).

        Where targets were transformed, the mean is that of the targets, transformed back (a median), and the standard
        deviation half the way from one below it to one above. Equal values at fitting are predicted as that value,
        with no uncertainty.
        """
        if self._transform is None:
            return np.full(len(x), self._constant), np.zeros(len(x))
        mean, std = self._predict(x)
        back = self._transform.inverse
        return back(mean), (back(mean + std) - back(mean - std)) / 2

    def predict_mean(self, x: FloatMatrix) -> FloatVector:
        """Return the means that `predict` returns, without the work that the standard deviations take."""
        if self._transform is None:
            return np.full(len(x), self._constant)
        return self._transform.inverse(self._predict_mean(x))

    @abstractmethod
    def _fit(self, x: FloatMatrix, y: FloatVector) -> None:
        """Fit to targets of mean 0 and variance 1."""

    @abstractmethod
    def _predict(self, x: FloatMatrix) -> tuple[FloatVector, FloatVector]:
        """Return means and standard deviations of standardised targets."""

    def _predict_mean(self, x: FloatMatrix) -> FloatVector:
        """Return the means alone; sub-classes whose standard deviations are costly override it."""
        return self._predict(x)[0]


@dataclass(frozen=True)
class HeldOutScores:
    """How well values were predicted that the predictor had not seen.

    Attributes:
        kendall_tau: Rank correlation (tau-b) of predicted and true values, -1 to 1; NaN where either is constant.
        mape: Mean absolute percentage error; infinite where a true value is 0 and is not predicted as 0.
    """

    kendall_tau: float
    mape: float


def scores(predicted: FloatVector, true: FloatVector) -> HeldOutScores:
    """Score predictions against the true values, shape (n,) both."""
    from scipy.stats import kendalltau

    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.where(predicted == true, 0.0, np.abs(predicted - true) / np.abs(true))
    return HeldOutScores(float(kendalltau(predicted, true).statistic), float(100 * np.mean(errors)))


def deal_folds(n: int, folds: int, rng: np.random.Generator) -> list[IntVector]:
    """Return the row numbers of each of at most `folds` folds of `n` shuffled rows, as equal in size as can be."""
    return np.array_split(rng.permutation(n), min(folds, n))


def evenly_spaced(n: int, most: int) -> IntVector:
    """Return the numbers of at most `most` of `n` rows, in order: what costly choices look at in a long table."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.int64))


def out_of_fold(
    make: Callable[[], Predictor], x: FloatMatrix, y: FloatVector, folds: Sequence[IntVector]
) -> tuple[FloatVector, FloatVector]:
    """Return the mean and std, shape (n,) both, that each row has from a predictor fitted to the other folds alone.

    Args:
        make: Makes an unfitted predictor.
        x: Features, shape (n, f).
        y: Values, shape (n,).
        folds: The rows of each fold; together, all rows.
    """
    mean, std = np.empty(len(y)), np.empty(len(y))
    for held_out in folds:
        rest = np.setdiff1d(np.arange(len(y)), held_out)
        mean[held_out], std[held_out] = make().fit(x[rest], y[rest]).predict(x[held_out])
    return mean, std


def held_out_scores(
    make: Callable[[], Predictor], x: FloatMatrix, y: FloatVector, rng: np.random.Generator, folds: int = 5
) -> HeldOutScores:
    """Score a predictor by cross-validation: each value is predicted from the other folds alone.

    Args:
        make: Makes an unfitted predictor.
        x: Features, shape (n, f).
        y: Values, shape (n,), n >= folds, each fold leaving at least 2 rows.
        rng: Deals the rows into folds.
        folds: Number of folds.
    """
    return scores(out_of_fold(make, x, y, deal_folds(len(y), folds, rng))[0], y)
