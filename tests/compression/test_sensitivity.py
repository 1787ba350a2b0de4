"""The measured ranking of layers by what 8 bits do to them."""

import math
import time

import numpy as np
import pytest
import torch
from torch import nn

from nas_compress.backends.onnxruntime import OnnxSession, to_onnx
from nas_compress.compression import sensitivity
from nas_compress.compression.quantize import Int8Forms
from nas_compress.compression.sensitivity import layer_sensitivities
from nas_compress.errors import DataError, EvaluationError


@pytest.fixture(scope="module")
def forms(net, images, tmp_path_factory):
    path = tmp_path_factory.mktemp("forms") / "net.onnx"
    path.write_bytes(to_onnx(net, images[:2]))
    return Int8Forms(path, images.split(32))


@pytest.fixture(scope="module")
def ranking(forms):
    return layer_sensitivities(forms)


def test_every_layer_is_ranked_once_by_falling_error(forms, ranking):
    assert sorted(each.layer.name for each in ranking) == sorted(layer.name for layer in forms.layers)
    errors = [each.error for each in ranking]
    assert errors == sorted(errors, reverse=True) and 0 < errors[-1] <= errors[0] < 1


def test_the_error_is_that_of_the_outputs_with_this_layer_alone_in_int8(forms, ranking, images):
    first = ranking[0]
    others = [node for node in forms.nodes if node not in first.layer.nodes]
    wanted, got = (OnnxSession(model)(images).numpy() for model in (forms.path, forms.form(exclude=others)))
    share = np.square(got - wanted).sum() / np.square(wanted).sum()
    assert first.error == pytest.approx(share, rel=1e-3)
    assert first.sqnr_db == pytest.approx(-10 * math.log10(share), rel=1e-3)


def test_keeping_the_most_sensitive_half_helps_more_than_the_least_sensitive_one(forms, ranking, images):
    half = len(ranking) // 2
    wanted = OnnxSession(forms.path)(images)
    errors = []
    for layers in (ranking[:half], ranking[-half:]):
        kept = [node for each in layers for node in each.layer.nodes]
        errors.append((OnnxSession(forms.form(exclude=kept))(images) - wanted).square().sum().item())
    assert errors[0] < errors[1]


def test_a_layer_with_an_outlier_weight_comes_first(images, tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.LazyLinear(5)
    )
    net(images)
    with torch.no_grad():
        net[2].weight[0, 0, 0, 0] = 300.0
        net[4].weight[:, 0] = 0  # the channel of the outlier is not read: only its scale per tensor hurts
    (tmp_path / "net.onnx").write_bytes(to_onnx(net.eval(), images))
    first = layer_sensitivities(Int8Forms(tmp_path / "net.onnx", [images]), per_channel=False)[0]
    assert first.layer.name == "/2/Conv"


def test_layers_that_are_excluded_anyway_are_left_out(forms):
    gone = forms.layers[0]
    found = layer_sensitivities(forms, exclude=gone.nodes)
    assert gone.name not in {each.layer.name for each in found} and len(found) == len(forms.layers) - 1


def test_a_layer_that_does_not_run_in_int8_is_the_most_sensitive(forms, monkeypatch):
    build, broken = forms.build, forms.layers[-1]

    def without_the_last(method, per_channel, exclude):
        if set(broken.nodes) - set(exclude):
            raise EvaluationError("no kernel")
        return build(method, per_channel, exclude)

    monkeypatch.setattr(forms, "build", without_the_last)
    first = layer_sensitivities(forms)[0]
    assert first.layer == broken and first.error == math.inf


def test_nothing_is_measured_after_the_deadline(forms):
    assert layer_sensitivities(forms, deadline=time.monotonic() - 1) == []


def test_a_few_samples_are_enough(forms, monkeypatch):
    monkeypatch.setattr(sensitivity, "SAMPLES", 1)
    assert sum(len(feed["input"]) for feed in sensitivity._first(forms.feeds, sensitivity.SAMPLES)) == 32


def test_dynamic_forms_are_ranked_too_but_want_data(forms, images):
    ranked = layer_sensitivities(Int8Forms(forms.path, [images], approach="dynamic"))
    assert [each.layer.name for each in ranked] == [forms.layers[-1].name]
    with pytest.raises(DataError, match="calibration data"):
        layer_sensitivities(Int8Forms(forms.path, [], approach="dynamic"))
