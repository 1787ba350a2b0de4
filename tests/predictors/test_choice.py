"""Predictors made of predictors."""

from __future__ import annotations

import numpy as np
import pytest

from nas_compress.predictors import predictors
from nas_compress.predictors.auto import AutomaticChoice
from nas_compress.predictors.base import scores
from nas_compress.predictors.boosting import GradientBoosting
from nas_compress.predictors.ensemble import MEMBERS, StackedEnsemble, _convex_weights


def steps(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """What trees are good at: thresholds on a few of many features, which interact."""
    rng = np.random.default_rng(seed)
    x = rng.random((n, 12))
    return x, 3.0 * (x[:, 0] > 0.5) * (x[:, 1] > 0.4) + (x[:, 2] > 0.7) + 0.05 * rng.standard_normal(n)


def plane(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 12))
    return x, x @ np.arange(12.0) + 2.0 * rng.standard_normal(n)


def test_auto_chooses_anew_what_suits_and_is_what_it_chose() -> None:
    auto, (x, y) = AutomaticChoice(), steps(50)
    assert auto.fit(*plane(40)).chosen in ("ridge", "gp", "svr")
    assert auto.fit(x, y).chosen == "boosting"
    np.testing.assert_array_less(np.abs(auto.predict_mean(x) - GradientBoosting().fit(x, y).predict_mean(x)), 0.3)


@pytest.mark.parametrize("n", [2, 9])
def test_auto_with_few_rows(n: int) -> None:
    assert AutomaticChoice().fit(*plane(n)).chosen == "gp"


def test_auto_of_equal_values_chooses_nothing() -> None:
    x, y = plane(20)
    assert AutomaticChoice().fit(x, 0 * y).chosen is None


def test_ensemble_is_near_its_best_member() -> None:
    (x, y), (unseen, truth) = steps(50), steps(300, seed=1)
    ensemble = StackedEnsemble().fit(x, y)
    assert set(ensemble.weights) == set(MEMBERS)
    assert min(ensemble.weights.values()) >= 0 and sum(ensemble.weights.values()) == pytest.approx(1)
    members = [predictors.get(name)().fit(x, y).predict_mean(unseen) for name in MEMBERS]
    best = max(scores(mean, truth).kendall_tau for mean in members)
    assert scores(ensemble.predict_mean(unseen), truth).kendall_tau > best - 0.03


def test_weights_go_to_what_is_right() -> None:
    rng = np.random.default_rng(0)
    y = rng.standard_normal(200)
    good, bad = y + 0.1 * rng.standard_normal(200), rng.standard_normal(200)
    assert _convex_weights(np.column_stack([good, bad]), y)[0] > 0.95
    twin = _convex_weights(np.column_stack([good, good, bad]), y)
    assert twin[0] == pytest.approx(twin[1], abs=1e-3) and twin.sum() == pytest.approx(1)
    assert np.all(_convex_weights(np.column_stack([good, -bad, bad]), y) >= 0)
