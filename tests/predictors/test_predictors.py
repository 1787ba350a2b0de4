from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict

from nas_compress.predictors import Predictor, auto, boosting, ensemble, held_out_scores, mlp, predictors, svr
from nas_compress.predictors.base import deal_folds, out_of_fold, scores
from nas_compress.predictors.gp import GaussianProcessRegression
from nas_compress.predictors.ridge import RidgeRegression
from nas_compress.space import mobilenet_space

SPACE = mobilenet_space("blocks", stages=3)


def table(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of random architectures, and accuracies that saturate with their expand ratios."""
    architectures = SPACE.sample(np.random.default_rng(seed), n)
    gain = np.array([np.dot(a["e"], np.arange(1, 13)) for a in architectures])
    return SPACE.features(architectures), 60 + 20 * (1 - np.exp(-gain / 150))


@pytest.fixture(params=list(predictors))
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[Predictor]:
    """A predictor with a small budget: what is tested here does not hang on the number of trees."""
    monkeypatch.setattr(auto, "CANDIDATES", ("gp", "ridge"))
    monkeypatch.setattr(ensemble, "MEMBERS", ("ridge", "gp"))
    monkeypatch.setattr(auto, "_MOST_ROWS", 60)
    monkeypatch.setattr(ensemble, "_MOST_ROWS", 60)
    monkeypatch.setattr(svr, "_PENALTIES", (1.0, 100.0))
    monkeypatch.setattr(svr, "_TUBES", (0.05,))
    monkeypatch.setattr(boosting, "_TREES", 30)
    monkeypatch.setattr(mlp, "_SETTINGS", mlp._SETTINGS[1:])
    monkeypatch.setattr(mlp, "_HIDDEN", (16,))
    return predictors.get(request.param)


def test_ranks_unseen_architectures(make: type[Predictor]) -> None:
    (x, y), (unseen, truth) = table(100), table(200, seed=3)
    found = scores(make().fit(x, y).predict_mean(unseen), truth)
    assert found.kendall_tau > 0.8
    assert 0 < found.mape < 2


def test_scores_are_held_out() -> None:
    """Noise is learnt by heart, so only rows left out show that nothing was understood."""
    rng = np.random.default_rng(0)
    x, y = rng.random((60, 80)), rng.random(60)
    found = held_out_scores(GaussianProcessRegression, x, y, rng)
    assert abs(found.kendall_tau) < 0.35
    assert found.mape > 20


def test_out_of_fold_is_scikit_learns_cross_validation() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((50, 4))
    y = x @ [1.0, 2.0, -1.0, 0.5] + 0.2 * rng.standard_normal(50)
    folds = KFold(5)
    mean, std = out_of_fold(RidgeRegression, x, y, [held_out for _, held_out in folds.split(x)])
    reference = cross_val_predict(RidgeCV(np.logspace(-2, 3, 16)), x, y, cv=folds)
    np.testing.assert_allclose(mean, reference, atol=0.05)
    assert np.all(std > 0)


@given(st.integers(2, 40), st.integers(2, 8))
def test_folds_part_the_rows(n: int, folds: int) -> None:
    dealt = deal_folds(n, folds, np.random.default_rng(0))
    assert sorted(np.concatenate(dealt)) == list(range(n))
    assert len(dealt) == min(n, folds) and {len(fold) for fold in dealt} <= {n // len(dealt), -(-n // len(dealt))}


def test_scores_of_constants_and_zeros() -> None:
    assert math.isnan(scores(np.ones(3), np.arange(1.0, 4)).kendall_tau)
    assert scores(np.array([1.0, 2.0]), np.array([0.0, 2.0])).mape == math.inf
    found = scores(np.array([1.1, 2.2, 2.7]), np.array([1.0, 2.0, 3.0]))
    assert found.kendall_tau == 1 and found.mape == pytest.approx(10)


def test_units_and_direction_carry_over(make: type[Predictor]) -> None:
    x, y = table(40)
    mean, std = make().fit(x, y).predict(x)
    scaled_mean, scaled_std = make().fit(x, 1e6 * y + 7).predict(x)
    np.testing.assert_allclose(
        scaled_mean, 1e6 * mean + 7, rtol=5e-3
    )  # ties between splits of trees are broken by rounding
    np.testing.assert_allclose(scaled_std, 1e6 * std, rtol=0.05)
    mirrored, _ = make().fit(x, -y).predict(x)
    np.testing.assert_allclose(-mirrored, mean, rtol=0.02)  # nets and trees are not symmetric to the last digit


def test_means_alone_are_those_of_predict(make: type[Predictor]) -> None:
    x, y = table(30)
    predictor = make().fit(x, y)
    np.testing.assert_allclose(predictor.predict_mean(x), predictor.predict(x)[0], rtol=1e-9)


@pytest.mark.parametrize("noise", [0.2, 1.0])
def test_std_is_honest(make: type[Predictor], noise: float) -> None:
    """Half to nearly all of the unseen values lie within one std, nearly all within three, and it is not huge."""
    x, y = table(80)
    unseen, truth = table(300, seed=9)
    rng = np.random.default_rng(1)
    y, truth = y + rng.normal(0, noise, len(y)), truth + rng.normal(0, noise, len(truth))
    mean, std = make().fit(x, y).predict(unseen)
    assert mean.shape == std.shape == (300,)
    off = np.abs(mean - truth) / std
    assert 0.5 < np.mean(off < 1) < 0.95
    assert np.mean(off < 3) > 0.95
    assert np.mean(std) < np.std(truth)


def test_constant_values(make: type[Predictor]) -> None:
    x, _ = table(20)
    mean, std = make().fit(x, np.full(20, 0.1)).predict(x[:3])
    assert mean == pytest.approx([0.1] * 3)
    assert std.tolist() == [0.0] * 3


@pytest.mark.parametrize("n", [2, 3, 4, 5, 9, 10, 11])
def test_few_rows(make: type[Predictor], n: int) -> None:
    x, y = table(30)
    mean, std = make().fit(x[:n], y[:n]).predict(x)
    assert np.isfinite(mean).all() and np.isfinite(std).all() and (std >= 0).all()
    assert np.ptp(y[:n]) * 3 + y[:n].max() > mean.max() and mean.min() > y[:n].min() - 3 * np.ptp(y[:n])


def test_repeated_rows_that_disagree(make: type[Predictor]) -> None:
    """The same architecture measured again and again: the truth is the mean, give or take the noise."""
    x, y = table(4)
    rng = np.random.default_rng(0)
    repeats, values = np.repeat(x, 12, axis=0), np.repeat(y, 12) + rng.normal(0, 0.1, 48)
    mean, std = make().fit(repeats, values).predict(x)
    assert np.isfinite(std).all()
    assert np.corrcoef(mean, y)[0, 1] > 0.9


def test_features_that_say_nothing(make: type[Predictor]) -> None:
    y = np.random.default_rng(0).normal(5, 1, 24)
    mean, std = make().fit(np.ones((24, 3)), y).predict(np.ones((2, 3)))
    np.testing.assert_allclose(mean, y.mean(), atol=0.7)
    np.testing.assert_allclose(std, y.std(), rtol=0.4)


def test_the_same_rows_give_the_same_predictor(make: type[Predictor]) -> None:
    x, y = table(30)
    state = np.random.get_state()[1]
    predictor = make().fit(x[:2], y[:2])
    predictor.fit(x, y)
    np.testing.assert_array_equal(predictor.predict(x), make().fit(x, y).predict(x))
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_long_tables(make: type[Predictor]) -> None:
    x, y = table(550)
    mean, std = make().fit(x, y).predict(x)
    assert np.mean(np.abs(mean - y)) < 0.25
    assert std.max() < 1.5


@settings(max_examples=5)
@given(n=st.integers(2, 25), f=st.integers(1, 40), seed=st.integers(0, 1000), tail=st.sampled_from([0.1, 1.0, 4.0]))
def test_light_predictors_survive_any_table(n: int, f: int, seed: int, tail: float) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 3, (n, f)).astype(float), np.exp(tail * rng.standard_normal(n))
    for name in ("ridge", "gp", "svr"):
        mean, std = predictors.get(name)().fit(x, y).predict(rng.integers(0, 3, (9, f)).astype(float))
        assert np.isfinite(mean).all() and np.isfinite(std).all() and (std >= 0).all()


def test_importing_names_imports_nothing_heavy() -> None:
    code = "import sys, nas_compress.predictors; sys.exit(str({'torch', 'sklearn', 'scipy'} & set(sys.modules) or 0))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() in ("", "0"), done.stderr
