from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel

from nas_compress.predictors import gp
from nas_compress.predictors.gp import GaussianProcessRegression


def data(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.random((n, 6))
    return x, 70 + 3 * x[:, 0] + np.sin(4 * x[:, 1]) + 0.05 * rng.standard_normal(n)


def test_agrees_with_scikit_learn_at_the_same_scales() -> None:
    x, y = data(40)
    model = GaussianProcessRegression().fit(x, y)
    linear, rbf, length, noise = np.exp(model._theta)
    kernel = ConstantKernel(linear) * DotProduct(1e-6) + ConstantKernel(rbf) * RBF(length) + WhiteKernel(noise)
    z = (x - model._shift) / model._width
    reference = GaussianProcessRegressor(kernel, optimizer=None, alpha=1e-8).fit(z, (y - y.mean()) / y.std())
    new, _ = data(30, seed=1)
    mean, std = reference.predict((new - model._shift) / model._width, return_std=True)
    ours = model.predict(new)
    assert ours[0] == pytest.approx(y.mean() + y.std() * mean, abs=1e-5)
    assert ours[1] == pytest.approx(y.std() * std, rel=1e-4)
    assert model.predict_mean(new) == pytest.approx(ours[0])


def test_the_gradient_is_that_of_the_loss() -> None:
    x, y = data(25)
    loss = gp.negative_log_posterior(x - x.mean(axis=0), (y - y.mean()) / y.std())
    for theta in (np.log([0.5, 0.5, 1.0, 1e-2]), np.log([0.1, 2.0, 0.3, 1e-3])):
        numeric = approx_fprime(theta, lambda t: loss(t)[0], 1e-6)
        assert loss(theta)[1] == pytest.approx(numeric, rel=1e-3, abs=1e-3)


def test_learns_what_is_linear_and_what_is_not() -> None:
    x, y = data(120)
    new, truth = data(200, seed=1)
    assert np.corrcoef(GaussianProcessRegression().fit(x, y).predict_mean(new), truth)[0, 1] > 0.97


def test_many_rows_are_conditioned_on_though_the_scales_come_from_some() -> None:
    x, y = data(700)
    new, truth = data(200, seed=1)
    some = np.abs(GaussianProcessRegression().fit(x[:300], y[:300]).predict_mean(new) - truth).mean()
    assert np.abs(GaussianProcessRegression().fit(x, y).predict_mean(new) - truth).mean() < some


def test_repeated_rows_and_rows_without_features() -> None:
    x, y = data(10)
    mean, std = GaussianProcessRegression().fit(np.vstack([x, x]), np.concatenate([y, y])).predict(x)
    assert np.isfinite([mean, std]).all()
    mean, _ = (
        GaussianProcessRegression().fit(np.empty((4, 0)), np.array([1.0, 2.0, 3.0, 4.0])).predict(np.empty((2, 0)))
    )
    assert mean == pytest.approx([2.5, 2.5], abs=0.5)
