"""The machine's changing speed is told from the items' own times."""

import numpy as np

from nas_compress.latency.drift import without_drift


def measured(items, sweeps, drift, noise, seed=0):
    rng = np.random.default_rng(seed)
    own = np.exp(rng.normal(size=items))
    order = np.concatenate([rng.permutation(items) for _ in range(sweeps)])
    moment = np.arange(len(order))
    speed = np.exp(drift * np.sin(moment / 25) + noise * rng.normal(size=len(order)))
    return own, order, own[order] * speed


def error(found, own):
    ratio = found / own
    return np.std(ratio / np.median(ratio))


def test_without_drift_and_noise_times_are_as_they_were():
    own, order, ms = measured(30, 3, 0, 0)
    found, noise = without_drift(order, ms)
    assert np.allclose(found, own) and noise < 1e-9


def test_items_measured_once_are_as_they_were():
    own, order, ms = measured(40, 1, 0.2, 0.05)
    found, noise = without_drift(order, ms)
    assert np.allclose(found[order], ms) and np.isnan(noise)


def test_drift_is_taken_out():
    own, order, ms = measured(100, 4, 0.2, 0.01)
    found, noise = without_drift(order, ms)
    plain = np.array([np.median(ms[order == item]) for item in range(100)])
    assert error(found, own) < 0.02 < 0.05 < error(plain, own)
    assert 0.005 < noise < 0.03


def test_a_measurement_that_went_wrong_does_not_matter():
    own, order, ms = measured(50, 3, 0.1, 0.01)
    ms[::20] *= 5
    found, _ = without_drift(order, ms)
    assert error(found, own) < 0.05
