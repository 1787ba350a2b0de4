"""Gaussian process regression."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel

from nas_compress.predictors.base import FloatMatrix, FloatVector, Predictor

_MOST_ROWS = 250


class GaussianProcessRegression(Predictor):
    """A Gaussian process with a linear, an RBF and a noise kernel, fitted by maximum marginal likelihood.

    The linear part carries the main effects of the genes from a handful of rows on, the RBF part what they do
    together; bounds keep the scales sane where few rows leave them open. From 250 rows on, the kernel is fitted to
    250 of them, evenly spaced, and the process conditioned on all.

    Source: Rasmussen and Williams, 2006, "Gaussian Processes for Machine Learning", chapters 2 and 5.
    """

    def _fit(self, x: FloatMatrix, y: FloatVector) -> None:
        kernel = (
            ConstantKernel(0.1, (1e-4, 1e2)) * DotProduct(sigma_0=1.0, sigma_0_bounds="fixed")
            + ConstantKernel(1.0, (1e-3, 1e2)) * RBF(2.0, (0.3, 30.0))
            + WhiteKernel(1e-2, (1e-6, 1.0))
        )
        some = np.linspace(0, len(y) - 1, min(len(y), _MOST_ROWS)).astype(int)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._model = GaussianProcessRegressor(kernel).fit(x[some], y[some])
        if len(some) < len(y):
            self._model = GaussianProcessRegressor(self._model.kernel_, optimizer=None).fit(x, y)

    def _predict(self, x: FloatMatrix) -> tuple[FloatVector, FloatVector]:
        mean, std = self._model.predict(x, return_std=True)
        return mean, std
