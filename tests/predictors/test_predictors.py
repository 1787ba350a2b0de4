from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from nas_compress.predictors import Predictor, held_out_scores, predictors
from nas_compress.predictors.gp import GaussianProcessRegression
from nas_compress.space import mobilenet_space

SPACE = mobilenet_space("blocks", stages=3)


def table(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of random architectures, and accuracies that saturate with their expand ratios."""
    architectures = SPACE.sample(np.random.default_rng(seed), n)
    gain = np.array([np.dot(a["e"], np.arange(1, 13)) for a in architectures])
    return SPACE.features(architectures), 60 + 20 * (1 - np.exp(-gain / 150))


@pytest.fixture(params=list(predictors))
def make(request: pytest.FixtureRequest) -> type[Predictor]:
    return predictors.get(request.param)


def test_ranks_unseen_architectures(make: type[Predictor]) -> None:
    x, y = table(100)
    scores = held_out_scores(make, x, y, np.random.default_rng(0))
    assert scores.kendall_tau > 0.8
    assert 0 < scores.mape < 2


def test_scores_are_held_out() -> None:
    """Noise is learnt by heart, so only rows left out show that nothing was understood."""
    rng = np.random.default_rng(0)
    x, y = rng.random((60, 80)), rng.random(60)
    scores = held_out_scores(GaussianProcessRegression, x, y, rng)
    assert abs(scores.kendall_tau) < 0.35
    assert scores.mape > 20


def test_units_carry_over(make: type[Predictor]) -> None:
    x, y = table(40)
    mean, std = make().fit(x, y).predict(x)
    scaled_mean, scaled_std = make().fit(x, -1e6 * y + 7).predict(x)
    np.testing.assert_allclose(scaled_mean, -1e6 * mean + 7, rtol=1e-3)
    np.testing.assert_allclose(scaled_std, 1e6 * std, rtol=0.05)


def test_std_covers_the_error(make: type[Predictor]) -> None:
    x, y = table(80)
    y = y + np.random.default_rng(1).normal(0, 1, len(y))
    unseen, truth = table(300, seed=9)
    mean, std = make().fit(x, y).predict(unseen)
    assert mean.shape == std.shape == (300,)
    assert np.mean(np.abs(mean - truth) < 3 * std) > 0.9


def test_constant_values(make: type[Predictor]) -> None:
    x, _ = table(20)
    mean, std = make().fit(x, np.full(20, 0.1)).predict(x[:3])
    assert mean == pytest.approx([0.1] * 3)
    assert std.tolist() == [0.0] * 3


def test_two_rows_and_repeated_fits(make: type[Predictor]) -> None:
    x, y = table(30)
    predictor = make()
    assert np.isfinite(predictor.fit(x[:2], y[:2]).predict(x)).all()
    predictor.fit(x, y)
    np.testing.assert_array_equal(predictor.predict(x)[0], make().fit(x, y).predict(x)[0])


def test_gp_conditions_on_all_rows_of_a_long_table() -> None:
    x, y = table(400)
    mean, std = GaussianProcessRegression().fit(x, y).predict(x)
    np.testing.assert_allclose(mean, y, atol=0.5)
    assert std.max() < 1


def test_importing_names_imports_nothing_heavy() -> None:
    code = "import sys, nas_compress.predictors; sys.exit(str({'torch', 'sklearn', 'scipy'} & set(sys.modules) or 0))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() in ("", "0"), done.stderr
