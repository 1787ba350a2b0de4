"""Quantization within an accuracy criterion: what is tried, what is handed back, and what is said about it."""

import itertools
import math

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_compress.backends.onnxruntime import OnnxSession, to_onnx
from nas_compress.compression import tune
from nas_compress.compression.options import AccuracyCriterion, TuningCriterion
from nas_compress.compression.quantize import Int8Forms, quantize_onnx
from nas_compress.compression.tune import quantize_within
from nas_compress.errors import ConfigError, DataError, EvaluationError


@pytest.fixture(scope="module")
def fp32(net, images, tmp_path_factory):
    path = tmp_path_factory.mktemp("tune") / "net.onnx"
    path.write_bytes(to_onnx(net, images[:2]))
    return path


@pytest.fixture
def int8(tmp_path):
    return tmp_path / "int8.onnx"


def in_fp32(path):
    """Return how many of the twelve layers compute with fp32 weights."""
    graph = onnx.load(path).graph
    producers = {output: node.op_type for node in graph.node for output in node.output}
    layers = [node for node in graph.node if node.op_type in {"Conv", "Gemm"}]
    assert len(layers) == 12
    return sum(producers.get(node.input[1]) != "DequantizeLinear" for node in layers)


def wants(layers):
    """Return an accuracy that holds from so many fp32 layers on, and grows with them below."""
    return lambda path: 90.0 if in_fp32(path) >= layers else 50.0 + in_fp32(path)


def within(fp32, int8, images, accuracy, loss=0.0, trials=20, timeout=0, **options):
    return quantize_within(
        fp32,
        int8,
        images.split(32),
        accuracy=accuracy,
        criterion=AccuracyCriterion(criterion="absolute", tolerable_loss=loss),
        tuning=TuningCriterion(max_trials=trials, timeout=timeout),
        **options,
    )


def test_files_may_be_named_by_texts(fp32, int8, images):
    assert within(fp32, str(int8), images, lambda _: 1.0).accepted and int8.exists()


def test_what_holds_as_asked_is_accepted_at_once(fp32, int8, images):
    outcome = within(fp32, int8, images, wants(0))
    assert outcome.accepted and outcome.quantized and outcome.kept_fp32 == () and len(outcome.trials) == 1
    assert in_fp32(int8) == 0 and (outcome.before, outcome.after) == (90, 90)
    assert outcome.reason == "the criterion holds as asked"
    quantize_onnx(fp32, int8.with_name("same.onnx"), images.split(32))
    assert int8.read_bytes() == int8.with_name("same.onnx").read_bytes()


@pytest.mark.parametrize("layers", [1, 5, 11])
def test_the_fewest_fp32_layers_are_found(fp32, int8, images, layers):
    outcome = within(fp32, int8, images, wants(layers), method="minmax")
    assert outcome.accepted and len(outcome.fp32_layers) == in_fp32(int8) == layers
    assert outcome.after == 90 and len(outcome.trials) <= 1 + 2 * math.ceil(math.log2(12))
    assert outcome.reason == f"the criterion holds with {layers} layers in fp32"
    assert [trial.accepted for trial in outcome.trials] == [trial.fp32_layers >= layers for trial in outcome.trials]
    quantize_onnx(fp32, int8.with_name("same.onnx"), images.split(32), exclude=outcome.kept_fp32)
    assert in_fp32(int8.with_name("same.onnx")) == layers


def test_other_calibration_methods_come_before_fp32_layers(fp32, int8, images):
    def by_method(path):
        return 90.0 if "percentile" in OnnxSession(path).metadata.get("quantization", "percentile") else 50.0

    outcome = within(fp32, int8, images, by_method)
    assert outcome.accepted and outcome.method == "percentile" and in_fp32(int8) == 0
    assert [trial.what for trial in outcome.trials] == ["as asked", "entropy calibration", "percentile calibration"]
    asked = within(fp32, int8, images, by_method, method="entropy")
    assert asked.method == "entropy" and not any("percentile" in trial.what for trial in asked.trials)


def test_nothing_quantized_is_the_last_resort_and_is_said(fp32, int8, images):
    outcome = within(fp32, int8, images, wants(12), method="minmax")
    assert not outcome.accepted and not outcome.quantized and outcome.after == outcome.before == 90
    assert outcome.reason.startswith("nothing was quantized") and not any(t.accepted for t in outcome.trials)
    assert in_fp32(int8) == 12 and OnnxSession(int8).metadata["quantization"] == "none: fp32"
    assert (OnnxSession(int8)(images) == OnnxSession(fp32)(images)).all()
    assert len(outcome.fp32_layers) == outcome.layers == 12


@pytest.mark.parametrize("trials", [1, 4])
def test_nothing_is_quantized_when_trials_run_out_before_one_holds(fp32, int8, images, trials):
    outcome = within(fp32, int8, images, wants(12), trials=trials, method="minmax")
    assert not outcome.accepted and not outcome.quantized and len(outcome.trials) == trials
    assert outcome.after == outcome.before == 90 and in_fp32(int8) == 12
    assert outcome.reason.startswith("nothing was quantized: the criterion")
    assert f"max_trials = {trials} reached" in outcome.reason and "cannot be met" in outcome.reason


def test_what_holds_is_handed_back_when_trials_run_out_on_the_way_to_fewer(fp32, int8, images):
    outcome = within(fp32, int8, images, wants(5), trials=5, method="minmax")  # as asked, 1, 2, 4, 8
    assert outcome.accepted and in_fp32(int8) == 8
    assert outcome.reason == "the criterion holds; max_trials = 5 reached before fewer layers in fp32 were tried"


def test_no_trial_begins_after_the_timeout(fp32, int8, images, monkeypatch):
    clock = itertools.count(0, 10)
    monkeypatch.setattr(tune.time, "monotonic", lambda: next(clock))
    outcome = within(fp32, int8, images, wants(12), timeout=15)
    assert not outcome.accepted and len(outcome.trials) == 2 and "timeout = 15 s reached" in outcome.reason


def test_a_model_that_cannot_be_evaluated_is_a_trial_that_failed(fp32, int8, images):
    def finite_with_fp32_layers(path):
        if in_fp32(path) < 2:
            raise EvaluationError("logits that are not finite")
        return 90.0

    outcome = within(fp32, int8, images, finite_with_fp32_layers, method="minmax")
    assert outcome.accepted and len(outcome.fp32_layers) == 2 and math.isnan(outcome.trials[0].accuracy)
    alone = within(fp32, int8, images, finite_with_fp32_layers, trials=1)
    assert alone.reason.startswith("nothing was quantized: no trial could be evaluated") and in_fp32(int8) == 12


def test_excluded_nodes_stay_in_fp32_whatever_is_tried(fp32, int8, images):
    first = Int8Forms(fp32, images.split(32)).layers[0]
    outcome = within(fp32, int8, images, wants(3), method="minmax", exclude=first.nodes)
    assert outcome.accepted and first.name in outcome.fp32_layers and in_fp32(int8) == 3
    assert set(first.nodes) <= set(outcome.kept_fp32)


def test_no_model_is_evaluated_twice(fp32, int8, images):
    seen = []

    def recording(path):
        seen.append(path.read_bytes())
        return wants(7)(path)

    within(fp32, int8, images, recording, method="minmax")
    assert len(seen) == len(set(seen))


def test_the_outcome_is_plain_data_and_the_same_again(fp32, int8, images):
    outcomes = [within(fp32, int8, images, wants(2), method="minmax") for _ in range(2)]
    assert outcomes[0] == outcomes[1]
    assert outcomes[0].to_dict()["quantized"] is True and outcomes[0].to_dict()["trials"][0]["what"] == "as asked"


def test_trials_are_reported_as_they_come(fp32, int8, images):
    seen = []
    outcome = within(fp32, int8, images, wants(1), method="minmax", on_trial=seen.append)
    assert tuple(seen) == outcome.trials


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"calibration": []}, DataError, "calibration data"),
        ({"exclude": ["/0/Cnv"]}, ConfigError, "did you mean '/0/Conv'"),
        ({"method": "entropi"}, ConfigError, "did you mean 'entropy'"),
        ({"accuracy": lambda path: math.nan}, EvaluationError, "the accuracy of .* is nan"),
        ({"approach": "dynamic", "calibration": []}, DataError, "calibration data"),
    ],
)
def test_mistakes_are_found_before_any_trial(fp32, int8, images, options, error, message):
    given = {"calibration": [images], "accuracy": lambda path: pytest.fail("evaluated")} | options
    with pytest.raises(error, match=message):
        quantize_within(fp32, int8, criterion=AccuracyCriterion(), tuning=TuningCriterion(), **given)
    assert not int8.exists()


@settings(max_examples=200)
@given(st.integers(1, 200), st.data())
def test_doubling_and_bisection_find_the_fewest_in_few_steps(most, data):
    wanted = data.draw(st.integers(1, most))
    asked = []

    def holds(count):
        asked.append(count)
        return count >= wanted

    failed = 0
    for count in tune._doubling(most):
        if holds(count):
            assert tune._fewest(holds, failed, count) == wanted
            break
        failed = count
    assert len(asked) == len(set(asked)) <= 2 * math.ceil(math.log2(most + 1)) + 1
