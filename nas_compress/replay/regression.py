"""A smooth regression on the features of architectures, for problems whose table covers a part of the space."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import rbf_kernel

from nas_compress.errors import ArchitectureError, DataError
from nas_compress.replay.base import FloatVector, IntMatrix, Replay
from nas_compress.space import Architecture

FloatMatrix = NDArray[np.float64]

ONE_HOT_SCALE = 0.35
"""Weight of the one-hot part of features against the ordinal one."""

_BLOCK = 2000
"""Rows predicted at once: bounds the memory."""


@dataclass(frozen=True)
class SmoothRegression:
    """Kernel ridge regression: the posterior mean of a Gaussian process with a linear and a Gaussian kernel.

    The linear part carries the trend to where there are no data; the Gaussian part bends it near them.
    Source: Rasmussen and Williams, 2006, "Gaussian Processes for Machine Learning", section 2.2.

    Attributes:
        length_scale: Of the Gaussian kernel.
        linear: Variance of the linear kernel, in units of the Gaussian kernel's.
        noise: Variance of the noise, in the same units.
    """

    length_scale: float
    linear: float
    noise: float

    def fit(self, x: FloatMatrix, y: FloatVector) -> FittedRegression:
        """Fit to features of shape (n, f) and values of shape (n,)."""
        offset = float(y.mean())
        model = KernelRidge(alpha=self.noise, kernel="precomputed").fit(self.kernel(x, x), y - offset)
        return FittedRegression(self, x, model.dual_coef_, offset)

    def kernel(self, left: FloatMatrix, right: FloatMatrix) -> FloatMatrix:
        """Return the covariances of rows of features, shape (n, m)."""
        smooth = rbf_kernel(left, right, gamma=0.5 / self.length_scale**2)
        return np.asarray(smooth + self.linear * (1 + left @ right.T))


@dataclass(frozen=True)
class FittedRegression:
    """A fitted `SmoothRegression`.

    Attributes:
        settings: What it was fitted with.
        x: Features of the known rows, shape (n, f).
        weights: Weight of each known row, shape (n,).
        offset: Mean of the known values.
    """

    settings: SmoothRegression
    x: FloatMatrix
    weights: FloatVector
    offset: float

    def predict(self, x: FloatMatrix) -> FloatVector:
        """Return the values of features of shape (n, f), shape (n,)."""
        blocks = [self.settings.kernel(x[i : i + _BLOCK], self.x) @ self.weights for i in range(0, len(x), _BLOCK)]
        return self.offset + np.concatenate([np.empty(0), *blocks])


class FittedReplay(Replay):
    """A problem whose accuracies a regression on the measured rows of its first file predicts.

    Attributes:
        regression: The settings of the regression: chosen by 5-fold cross-validation on the same rows.
        typical_macs: The MACs at which the feature of size is zero.
        measured: The distinct architectures of the table, encoded, shape (n, genes).
        accuracies: Their mean accuracies in %, shape (n,).
    """

    regression: ClassVar[SmoothRegression]
    typical_macs: ClassVar[float]

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder)
        self.measured, self.accuracies = self._distinct_rows()
        self._fitted = self.regression.fit(self.features(self.measured), self.accuracies)

    @abstractmethod
    def _rows(self) -> tuple[list[Architecture], FloatVector]:
        """Return the table's architectures and their accuracies in %; raise `DataError` if it is damaged."""

    def _distinct_rows(self) -> tuple[IntMatrix, FloatVector]:
        """Return encoded architectures and their accuracies, repeats of an architecture averaged."""
        try:
            architectures, accuracies = self._rows()
            encoded, number = np.unique(self.encode(architectures), axis=0, return_inverse=True)
        except (ArchitectureError, ValueError) as error:
            raise DataError(f"{self.paths[0]} is not the published table: {error}") from error
        return encoded, np.bincount(number, accuracies) / np.bincount(number)

    def features(self, encoded: IntMatrix) -> FloatMatrix:
        """Return the regression's features, shape (n, f): genes, logarithm of MACs and its square, active genes."""
        genes = self.space.encoded_features(encoded)
        free = int((self.space.cardinalities > 1).sum())
        genes[:, free:] *= ONE_HOT_SCALE
        size = np.log(self.encoded_values("macs", encoded) / self.typical_macs)
        return np.column_stack([genes, size, size**2, self.space.active(encoded).mean(axis=1)])

    def _accuracy(self, encoded: IntMatrix) -> FloatVector:
        """Return the predicted accuracies in %, shape (n,)."""
        return self._fitted.predict(self.features(encoded))
