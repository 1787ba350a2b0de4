"""Limits of the choice, checked again on what the exported files measured."""

import pytest

from nas_compress.errors import ConfigError
from nas_compress.report import check_limits, limit_sentence


def entry(name, acc, latency, macs):
    return {
        "name": name,
        "accuracy": {"value": acc, "spread": 0.4},
        "latency": {"median_ms": latency, "error_ms": latency / 100, "cpu_ms": 0.9 * latency, "clock": "wall"},
        "context": {"threads": 1, "batch_size": 1},
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
    assert limit_sentence(rows[0]) == "acc >= 0.9 x largest: not checked, that of the largest is 0"


def test_limits_on_latency_are_checked_at_the_searchs_batch_threads_and_backend():
    at = {"backend": "onnxruntime", "threads": 1, "batch_size": 1}
    files = [dict(each, context=at) for each in (LARGEST, FP32, INT8)]
    search = {**at, "precision": "fp32"}
    limits = {"latency": ["<= 0.2 ms", "<= 0.5 x largest"]}
    assert [row["met"] for row in check_limits(limits, files, search)] == [True] * 4
    elsewhere = check_limits(limits, files, search | {"batch_size": 64, "backend": "torch", "threads": 2})
    assert [row["met"] for row in elsewhere] == [None] * 3
    assert [limit_sentence(row) for row in elsewhere[1:]] == [
        "latency <= 0.2 ms: not checked, chosen int8 was not measured at batch 64, 2 threads, fp32 in torch",
        "latency <= 0.5 x largest: not checked, largest fp32 was not measured at batch 64, 2 threads, fp32 in torch",
    ]
    further = {"context": {**at, "batch_size": 64}, "latency": {"median_ms": 9.0, "error_ms": 0.1}}
    files = [dict(each, elsewhere=[further]) for each in files]
    (first, _) = check_limits({"latency": "<= 0.2 ms"}, files, search | {"batch_size": 64})
    assert first["value"] == 9.0 and first["met"] is False


def test_where_there_is_no_largest_network_the_chosen_one_is_checked():
    (row,) = check_limits({"macs": "<= 500"}, [FP32])
    assert limit_sentence(row) == "macs <= 500: chosen fp32 1,000, NOT met"
    (row,) = check_limits({"macs": "<= 0.5 x largest"}, [FP32])
    assert limit_sentence(row) == "macs <= 0.5 x largest: not checked, there is no largest network"


def test_latencies_of_two_clocks_are_not_held_against_one_another():
    def timed(each, clock, threads, cpu):
        latency = {**each["latency"], "clock": clock, "cpu_ms": cpu}
        return {**each, "latency": latency, "context": {"threads": threads, "batch_size": 1}}

    limits = {"latency": ["<= 0.25 x largest", "<= 0.2 ms"]}
    several = [timed(LARGEST, "disturbed wall", 2, 0.4), timed(FP32, "wall", 2, 0.2)]
    assert [limit_sentence(row) for row in check_limits(limits, several)] == [
        "latency <= 0.25 x largest: not checked, the latencies of chosen fp32 and largest fp32 are of two clocks, "
        "which do not compare",
        "latency <= 0.2 ms: chosen fp32 0.100 ± 0.001 ms, met",
    ]
    one = [timed(LARGEST, "cpu", 1, 0.4), timed(FP32, "wall", 1, 0.2)]
    (relative, _) = check_limits(limits, one)
    assert relative["value"] == pytest.approx(0.5) and relative["met"] is False, "by CPU time"
    (busy,) = check_limits({"latency": "<= 0.2 ms"}, [timed(FP32, "disturbed wall", 2, 0.2)])
    assert limit_sentence(busy) == "latency <= 0.2 ms: chosen fp32 0.100 ± 0.001 ms (disturbed wall), met"


def test_a_limit_that_is_none_is_an_error():
    with pytest.raises(ConfigError, match="is not a limit"):
        check_limits({"acc": "high"}, [LARGEST, INT8])
