"""Conditions of steps, held against measurements."""

import pytest

from nas_compress.compression.verdict import broken
from nas_compress.errors import EvaluationError


def entry(latency, clock, threads=1, cpu=None):
    return {
        "metric": "accuracy",
        "accuracy": {"value": 90.0, "spread": 1.0},
        "latency": {"median_ms": latency, "cpu_ms": cpu or latency, "clock": clock},
        "size_bytes": 1000,
        "context": {"threads": threads},
    }


def test_latencies_of_one_clock_are_compared():
    pair = {"before": entry(1.0, "cpu"), "after": entry(2.0, "cpu")}
    assert broken(["not faster"], pair) == "not faster: 0.5 times as fast"
    assert broken(["speed-up < 0.4"], pair) is None


def test_with_one_thread_cpu_time_compares_where_the_clocks_differ():
    pair = {"before": entry(1.5, "wall", cpu=1.0), "after": entry(1.2, "cpu")}
    assert broken(["not faster"], pair) == "not faster: 0.833 times as fast"
    assert broken(["latency > 1.1 ms"], pair) == "latency > 1.1 ms: 1.2 ms"


def test_with_several_threads_latencies_of_two_clocks_are_not_judged():
    pair = {"before": entry(1.0, "wall", 2), "after": entry(1.3, "disturbed wall", 2)}
    assert broken(["accuracy < 80 %", "latency > 2 ms"], pair) is None
    with pytest.raises(EvaluationError, match="'not faster' cannot be judged: .* wall time and disturbed wall time"):
        broken(["not faster"], pair)
