"""Limits of the choice, checked again on what the exported files measured."""

import pytest

from nas_compress.errors import ConfigError
from nas_compress.report import check_limits, limit_sentence


def entry(name, acc, latency, macs):
    return {
        "name": name,
        "accuracy": {"value": acc, "spread": 0.4},
        "latency": {"median_ms": latency, "error_ms": latency / 100},
        "macs": macs,
        "params": 7,
    }


LARGEST, FP32 = entry("largest fp32", 98.0, 0.5, 4000), entry("chosen fp32", 97.0, 0.1, 1000)
INT8 = entry("chosen int8", 96.0, 0.155, 1000)


def sentences(**constraints):
    return [limit_sentence(row) for row in check_limits(constraints, [LARGEST, FP32, INT8])]


def test_a_relative_limit_refers_to_the_exported_largest_network():
    assert sentences(latency="<= 0.25 x largest") == [
        "latency <= 0.25 x largest: chosen fp32 0.200 ± 0.003 x, met",
        "latency <= 0.25 x largest: chosen int8 0.310 ± 0.004 x, NOT met",
    ]


def test_an_absolute_limit_is_in_the_unit_of_its_metric():
    assert sentences(top1=">= 96.5 %", macs="<= 1k") == [
        "acc >= 96.5 %: chosen fp32 97.00 ± 0.40 %, met",
        "acc >= 96.5 %: chosen int8 96.00 ± 0.40 %, NOT met",
        "macs <= 1000: chosen fp32 1,000, met",
        "macs <= 1000: chosen int8 1,000, met",
    ]


def test_rows_hold_values_in_the_unit_of_the_limit():
    first, second = check_limits({"acc": ">= 0.99 x largest"}, [LARGEST, FP32, INT8])
    assert first["unit"] == "x" and first["value"] == pytest.approx(97 / 98) and first["met"] is False
    assert first["spread"] == pytest.approx((0.4**2 + (97 / 98 * 0.4) ** 2) ** 0.5 / 98)
    assert (second["metric"], second["artefact"]) == ("acc", "chosen int8")


@pytest.mark.parametrize("metric", ["model_size", "energy"])
def test_a_metric_without_a_figure_is_left_out_and_that_is_said(metric):
    assert sentences(**{metric: "<= 2 mJ"}) == [
        f"{metric} <= 2 mJ: not checked, exported files have no figure for {metric}"
    ]


def test_a_ratio_to_zero_is_not_checked():
    rows = check_limits({"acc": ">= 0.9 x largest"}, [entry("largest fp32", 0.0, 0.5, 4000), INT8])
    assert limit_sentence(rows[0]) == "acc >= 0.9 x largest: not checked, that of largest fp32 is 0"


def test_a_limit_that_is_none_is_an_error():
    with pytest.raises(ConfigError, match="is not a limit"):
        check_limits({"acc": "high"}, [LARGEST, INT8])
