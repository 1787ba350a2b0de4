from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import yeojohnson

from nas_compress.predictors.gp import GaussianProcessRegression
from nas_compress.predictors.transform import POWERS, TargetTransform, choose_transform

VALUES = np.linspace(-4, 6, 41)


def linear(n: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features, and what a linear function of them and a little noise make."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 3))
    return x, x @ [1.0, 0.5, -0.7] + 0.1 * rng.standard_normal(n)


@pytest.mark.parametrize("power", POWERS)
def test_is_yeo_and_johnsons(power: float) -> None:
    transform = TargetTransform(centre=1.0, scale=2.0, power=power, mean=0.0, std=1.0)
    np.testing.assert_allclose(transform(1 + 2 * VALUES), yeojohnson(VALUES, power), atol=1e-12)


@given(
    power=st.sampled_from(POWERS),
    centre=st.floats(-1e3, 1e3),
    scale=st.floats(1e-3, 1e3),
    mean=st.floats(-2, 2),
    std=st.floats(0.1, 3),
)
def test_inverse_undoes_it(power: float, centre: float, scale: float, mean: float, std: float) -> None:
    transform = TargetTransform(centre, scale, power, mean, std)
    targets = np.linspace(-3, 3, 13)
    np.testing.assert_allclose(transform(transform.inverse(targets)), targets, atol=1e-6)
    assert np.all(np.diff(transform.inverse(targets)) > 0)


def test_leaves_linear_values_alone() -> None:
    assert choose_transform(*linear()).power == 1


def test_knows_long_tails_on_either_side() -> None:
    x, y = linear()
    assert choose_transform(x, np.exp(y)).power < 1
    assert choose_transform(x, 100 - np.exp(y)).power > 1


def test_looks_at_errors_rather_than_at_the_values() -> None:
    """Skewed values that a linear model explains stay as they are."""
    rng = np.random.default_rng(0)
    x = np.exp(1.5 * rng.standard_normal((200, 1)))
    assert choose_transform(x, 3 * x[:, 0] + 0.1 * rng.standard_normal(200)).power == 1


@pytest.mark.parametrize("factor", [1e-6, 1e6, -1.0])
def test_units_do_not_matter(factor: float) -> None:
    x, y = linear()
    y = np.exp(y)
    one, other = choose_transform(x, y), choose_transform(x, factor * y + 3)
    np.testing.assert_allclose(other(factor * y + 3), np.sign(factor) * one(y), atol=1e-6)


def test_few_rows_stay_as_they_are() -> None:
    x, y = linear(9)
    assert choose_transform(x, np.exp(3 * y)).power == 1


def test_far_predictions_stay_finite() -> None:
    x, y = linear()
    transform = choose_transform(x, np.exp(3 * y))
    assert transform.power == 0
    assert np.isfinite(transform.inverse(np.array([-1e9, 1e9]))).all()


def test_predictors_gain_by_it() -> None:
    """Values that saturate: the error of unseen ones is less than half of what it is without the transform."""
    (x, y), (unseen, truth) = linear(60), linear(300, seed=1)
    y, truth = 76 - np.exp(1.5 * y), 76 - np.exp(1.5 * truth)
    predictor = GaussianProcessRegression().fit(x, y)
    with_it = np.median(np.abs(predictor.predict_mean(unseen) - truth))
    centre, scale = y.mean(), y.std()
    predictor._fit(x, (y - centre) / scale)
    without = np.median(np.abs(centre + scale * predictor._predict_mean(unseen) - truth))
    assert with_it < without / 2
