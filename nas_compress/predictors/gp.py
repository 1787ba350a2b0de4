"""Gaussian process regression."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize
from scipy.spatial.distance import cdist

from nas_compress.predictors.base import FloatMatrix, FloatVector, Predictor, evenly_spaced

_PRIOR_MEAN = np.log([0.5, 0.5, 1.0, 1e-2])
_PRIOR_STD = np.array([2.0, 2.0, 1.0, 2.0])
_MOST_ROWS = 300
_JITTER = 1e-8


class GaussianProcessRegression(Predictor):
    """A Gaussian process with a linear, an RBF and a noise kernel, its scales at their posterior mode.

    The linear part carries the main effects of the genes from a handful of rows on, the RBF part what they do
    together. Variances of the three parts and the length scale have weak log-normal priors, which keep them sane
    where few rows leave them open; the length scale is relative to the rows' mean distance. From 300 rows on, the
    scales are fitted to 300 of them, evenly spaced, and the process conditioned on all.

    Source: Rasmussen and Williams, 2006, "Gaussian Processes for Machine Learning", sections 2.2, 5.4.1 and 5.4.2.
    """

    def _fit(self, x: FloatMatrix, y: FloatVector) -> None:
        self._shift = x.mean(axis=0)
        spread = np.sqrt(2 * np.mean(np.sum((x - self._shift) ** 2, axis=1)))
        self._width = float(spread) or 1.0
        self._x = (x - self._shift) / self._width
        some = evenly_spaced(len(y), _MOST_ROWS)
        self._theta = _posterior_mode(self._x[some], y[some])
        covariance = _kernel(self._theta, self._x, self._x)
        covariance[np.diag_indices_from(covariance)] += np.exp(self._theta[3]) + _JITTER
        self._factor = cho_factor(covariance, lower=True)
        self._weights = cho_solve(self._factor, y)

    def _predict(self, x: FloatMatrix) -> tuple[FloatVector, FloatVector]:
        x = (x - self._shift) / self._width
        between = _kernel(self._theta, x, self._x)
        linear, rbf = np.exp(self._theta[:2])
        explained = solve_triangular(self._factor[0], between.T, lower=True)
        variance = linear * np.sum(x**2, axis=1) + rbf - np.sum(explained**2, axis=0)
        return between @ self._weights, np.sqrt(np.maximum(variance, 0.0) + np.exp(self._theta[3]))

    def _predict_mean(self, x: FloatMatrix) -> FloatVector:
        mean: FloatVector = _kernel(self._theta, (x - self._shift) / self._width, self._x) @ self._weights
        return mean


def _kernel(theta: FloatVector, a: FloatMatrix, b: FloatMatrix) -> FloatMatrix:
    """Return the covariances without noise, shape (n, k), of rows of shape (n, f) and (k, f)."""
    linear, rbf, length = np.exp(theta[:3])
    covariance: FloatMatrix = linear * (a @ b.T) + rbf * np.exp(-0.5 * cdist(a, b, "sqeuclidean") / length**2)
    return covariance


def negative_log_posterior(x: FloatMatrix, y: FloatVector) -> Callable[[FloatVector], tuple[float, FloatVector]]:
    """Return a function from log scales, shape (4,), to the loss and its gradient, a constant apart.

    The scales are linear variance, RBF variance, length and noise variance; the rows are centred, the targets
    standardised.
    """
    products, distances = x @ x.T, cdist(x, x, "sqeuclidean")

    def loss(theta: FloatVector) -> tuple[float, FloatVector]:
        linear, rbf, length, noise = np.exp(theta)
        bell = rbf * np.exp(-0.5 * distances / length**2)
        covariance = linear * products + bell
        covariance[np.diag_indices_from(covariance)] += noise + _JITTER
        factor = cho_factor(covariance, lower=True)
        inverse = cho_solve(factor, np.eye(len(y)))
        alpha = inverse @ y
        pull = inverse - np.outer(alpha, alpha)
        slopes = [linear * np.sum(pull * products), np.sum(pull * bell), np.sum(pull * bell * distances) / length**2]
        gradient = 0.5 * np.array([*slopes, noise * np.trace(pull)])
        deviation = (theta - _PRIOR_MEAN) / _PRIOR_STD
        value = 0.5 * y @ alpha + np.sum(np.log(np.diag(factor[0]))) + 0.5 * np.sum(deviation**2)
        return float(value), gradient + deviation / _PRIOR_STD

    return loss


def _posterior_mode(x: FloatMatrix, y: FloatVector) -> FloatVector:
    """Return the log scales of highest posterior density."""
    bounds = [(m - 4 * s, m + 4 * s) for m, s in zip(_PRIOR_MEAN, _PRIOR_STD, strict=True)]
    loss = negative_log_posterior(x, y)
    best = minimize(loss, _PRIOR_MEAN, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 50})
    return np.asarray(best.x, dtype=np.float64)
