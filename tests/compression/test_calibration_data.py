"""Calibration data: its checks, and the ranges that come from it, against NumPy and ONNX Runtime."""

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nas_compress.backends.onnxruntime import to_onnx
from nas_compress.compression import calibration
from nas_compress.compression.calibration import Activations, calibration_feeds
from nas_compress.compression.inc_graph import checked_calibration
from nas_compress.compression.onnx_layers import prepare
from nas_compress.errors import DataError, EvaluationError


class TwoInputs(nn.Module):
    def forward(self, ids, values):
        return ids[:, :1].float() + values


@pytest.fixture(scope="module")
def prepared(net, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "net.onnx").write_bytes(to_onnx(net, images[:2]))
    return prepare(folder / "net.onnx", folder)


@pytest.fixture(scope="module")
def two_inputs():
    return onnx.load_model_from_string(to_onnx(TwoInputs(), (torch.zeros(2, 3).long(), torch.zeros(2, 4))))


def with_a(value):
    images = torch.zeros(4, 1, 16, 16)
    images[1, 0, 2, 3] = value
    return images


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "at least one batch of calibration data"),
        ([torch.zeros(0, 1, 16, 16)], "batch 0, input 'input': empty"),
        ([torch.zeros(2, 1, 16, 16), torch.zeros(2, 1, 8, 8)], r"batch 1, input 'input': shape \(2, 1, 8, 8\), .*16"),
        ([torch.zeros(1, 16, 16)], r"shape \(1, 16, 16\), the model takes \(batch, 1, 16, 16\)"),
        ([torch.zeros(2, 1, 16, 16).double()], "float64 values, the model takes float32"),
        ([torch.zeros(2, 1, 16, 16, dtype=torch.uint8)], "uint8 values, the model takes float32"),
        ([torch.zeros(2, 1, 16, 16, dtype=torch.bfloat16)], "bfloat16 values"),
        ([with_a(float("nan"))], "1 of 1024 values are NaN or infinite"),
        ([with_a(float("-inf"))], "1 of 1024 values are NaN or infinite"),
        ([(torch.zeros(2, 1, 16, 16), torch.zeros(2, 1))], "has 2 inputs, the model takes 1: input"),
        ([np.zeros((2, 1, 16, 16))], "batch 0 is a ndarray"),
        ([torch.tensor(1.0)], "batch 0 has a single number for a tensor"),
        (None, "calibration is a NoneType; wants batches"),
    ],
)
def test_data_that_does_not_fit_is_named(prepared, batches, message):
    with pytest.raises(DataError, match=message):
        calibration_feeds(prepared, batches)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([np.zeros((2, 1, 16, 16))], "batch 0 is a ndarray; wants a tensor"),
        ([torch.tensor(1.0)], "batch 0 has a single number for a tensor"),
        (None, "calibration is a NoneType; wants batches"),
    ],
)
def test_data_that_does_not_fit_a_module_is_named(images, batches, message):
    with pytest.raises(DataError, match=message):
        checked_calibration(batches, (images[:2],))


def test_several_inputs_are_taken_by_position_and_checked_one_by_one(two_inputs):
    ids, values = torch.zeros(5, 3).long(), torch.ones(5, 4)
    (feed,) = calibration_feeds(two_inputs, [(ids, values)])
    assert list(feed) == ["ids", "values"] and feed["values"].shape == (5, 4)
    with pytest.raises(DataError, match="input 'ids': float32 values, the model takes int64"):
        calibration_feeds(two_inputs, [(values, ids)])
    with pytest.raises(DataError, match=r"different batch sizes: \[5, 4\]"):
        calibration_feeds(two_inputs, [(ids, values[:4])])


def test_extremes_are_those_of_the_activations_however_data_is_split(prepared, images, monkeypatch):
    whole = Activations(prepared, calibration_feeds(prepared, [images])).extremes
    assert whole["input"] == (images.min().item(), images.max().item())
    monkeypatch.setattr(calibration, "ACTIVATION_BYTES", 1)  # one sample at a time
    split = Activations(prepared, calibration_feeds(prepared, images.split(24))).extremes
    assert split.keys() == whole.keys()
    for name, bounds in whole.items():
        assert split[name] == pytest.approx(bounds, rel=1e-4, abs=1e-4)


def test_no_run_holds_more_activations_than_allowed(prepared, images, monkeypatch):
    monkeypatch.setattr(calibration, "ACTIVATION_BYTES", 2**21)
    activations = Activations(prepared, calibration_feeds(prepared, [images]))
    runs = [sum(array.nbytes for array in values.values()) for values in activations._runs()]
    assert len(runs) > 1 and max(runs) <= 2**21


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_no_range_is_wider_than_the_extremes(prepared, images, method):
    activations = Activations(prepared, calibration_feeds(prepared, images.split(16)))
    for name, (low, high) in activations.ranges(method).items():
        assert activations.extremes[name][0] <= low <= high <= activations.extremes[name][1]


def test_activations_that_are_not_finite_are_named(images, tmp_path):
    (tmp_path / "net.onnx").write_bytes(to_onnx(LogOf(), images[:2]))
    model = prepare(tmp_path / "net.onnx", tmp_path)
    with pytest.raises(EvaluationError, match="not finite"):
        _ = Activations(model, calibration_feeds(model, [images])).extremes


class LogOf(nn.Module):
    def forward(self, x):
        return torch.log(x)


def test_constant_and_zero_activations_have_a_range_with_every_method(images, tmp_path):
    (tmp_path / "net.onnx").write_bytes(to_onnx(nn.Conv2d(1, 2, 3), images[:2]))
    model = prepare(tmp_path / "net.onnx", tmp_path)
    activations = Activations(model, calibration_feeds(model, [torch.zeros(4, 1, 16, 16)]))
    assert activations.ranges("percentile")["input"] == activations.ranges("entropy")["input"] == (0, 0)


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.integers(1000, 20000))
def test_percentile_keeps_its_share_of_the_values(seed, count):
    values = np.abs(np.random.default_rng(seed).standard_normal(count))
    counts = np.histogram(values, calibration.BINS, range=(0, values.max()))[0]
    limit = calibration._percentile(counts) * values.max()
    assert (values <= limit + 1e-9).mean() >= calibration.PERCENTILE / 100
    assert 0 < limit <= values.max() * (1 + 1e-9)


def test_entropy_cuts_a_lone_outlier_off_and_keeps_an_even_spread():
    rng = np.random.default_rng(0)
    heavy = np.append(np.abs(rng.standard_normal(100_000)), 60.0)
    assert calibration._entropy(np.histogram(heavy, calibration.BINS, range=(0, 60))[0]) * 60 < 10
    even = rng.uniform(0, 1, 100_000)
    assert calibration._entropy(np.histogram(even, calibration.BINS, range=(0, 1))[0]) > 0.95


@pytest.mark.parametrize("bins", [128, 416, 2048])
def test_divergence_is_that_of_the_distribution_in_128_levels(bins):
    rng = np.random.default_rng(1)
    counts = np.histogram(np.abs(rng.laplace(size=5_000)), calibration.BINS, range=(0, 12))[0]
    p, q = counts[:bins].astype(float), np.zeros(bins)
    for level in range(calibration.LEVELS):
        there = [i for i in range(bins) if i * calibration.LEVELS // bins == level and counts[i]]
        for i in there:
            q[i] = counts[there].sum() / len(there)
    p[-1] += counts[bins:].sum()
    p, q = p / p.sum(), np.maximum(q / q.sum(), 1e-12)
    wanted = sum(a * np.log(a / b) for a, b in zip(p, q, strict=True) if a)
    assert calibration._divergence(counts, bins) == pytest.approx(wanted, abs=1e-9)
