"""Timing: statistics of the runs, stopping rules, turns, and what preemption does."""

import gc
import statistics
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_compress.errors import ConfigError
from nas_compress.objectives import timing
from nas_compress.objectives.timing import TimingSettings, measure_latencies, measure_latency


class FakeMachine:
    """Clocks that only the timed functions move."""

    def __init__(self, monkeypatch):
        self.wall = self.cpu = 0.0
        self.preemptions = 0
        self.order = []
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.wall)
        self.others = 0.0
        monkeypatch.setattr(timing.time, "thread_time", lambda: self.cpu)
        monkeypatch.setattr(timing.time, "process_time", lambda: self.cpu + self.others)
        monkeypatch.setattr(timing, "_preemptions", lambda: self.preemptions)

    def function(self, *seconds, name="run", lost=lambda call: 0.0):
        calls = iter(range(10**9))

        def run():
            call = next(calls)
            self.order.append(name)
            self.cpu += seconds[call % len(seconds)]
            self.others += 1.0
            self.wall += seconds[call % len(seconds)] + lost(call)
            self.preemptions += lost(call) > 0

        return run


@pytest.fixture
def machine(monkeypatch):
    return FakeMachine(monkeypatch)


def test_a_steady_function_stops_at_min_runs_with_its_exact_time(machine):
    stats = measure_latency(machine.function(0.02), TimingSettings(min_runs=10))
    assert [stats.median_ms, stats.best_ms, stats.mean_ms] == pytest.approx([20, 20, 20])
    assert stats.error_ms == pytest.approx(0, abs=1e-9)
    assert 10 <= stats.runs < 25 and stats.disturbed == 0
    assert (stats.clock, stats.stopped_by) == ("wall", "tolerance")


def test_warm_up_runs_are_not_measured(machine):
    run = machine.function(0.001)
    slow_first = iter([0.5] * 3)

    def warming():
        machine.wall += next(slow_first, 0.0)
        run()

    assert measure_latency(warming, TimingSettings(warmup=3)).median_ms == pytest.approx(1)


def test_an_unsteady_function_is_measured_until_max_runs_or_the_budget(machine):
    unsteady = machine.function(0.001, 0.002, 0.003, 0.005)
    settings = TimingSettings(max_runs=77, budget_s=1e9, tolerance=1e-6)
    stats = measure_latency(unsteady, settings)
    assert (stats.runs, stats.stopped_by) == (77, "max_runs")
    stats = measure_latency(unsteady, TimingSettings(max_runs=10**6, budget_s=0.5, tolerance=0))
    assert stats.stopped_by == "budget"
    assert 0.4 < stats.runs * 0.00275 < 0.6


def test_at_least_min_runs_are_taken_whatever_the_budget(machine):
    stats = measure_latency(machine.function(10.0, 20.0), TimingSettings(min_runs=12, budget_s=0, tolerance=0))
    assert stats.runs >= 12 and stats.stopped_by == "budget"


def test_preempted_runs_are_counted_apart(machine):
    stats = measure_latency(machine.function(0.002, lost=lambda call: 0.1 * (call % 3 == 0)))
    assert [stats.median_ms, stats.mean_ms] == pytest.approx([2, 2])
    assert stats.clock == "wall" and stats.disturbed > 0


def test_cpu_time_stands_in_when_every_run_is_preempted(machine, caplog):
    settings = TimingSettings(budget_s=1)
    always = machine.function(0.002, lost=lambda call: 0.05)
    stats = measure_latency(always, settings)
    assert stats.clock == "cpu" and stats.median_ms == pytest.approx(2)
    assert "preempted" in caplog.text
    stats = measure_latency(always, settings, threads=2)
    assert stats.clock == "disturbed wall" and stats.median_ms == pytest.approx(52)


def test_cpu_time_of_other_threads_is_left_out_where_one_thread_computes(machine):
    settings = TimingSettings(min_runs=10, max_runs=10)
    assert measure_latency(machine.function(0.002), settings).cpu_ms == pytest.approx(2)
    assert measure_latency(machine.function(0.002), settings, threads=2).cpu_ms == pytest.approx(1002)


def test_functions_take_turns_in_blocks(machine):
    functions = {name: machine.function(0.001, 0.003, name=name) for name in ("a", "b")}
    stats = measure_latencies(functions, TimingSettings(warmup=0, max_runs=60, tolerance=0))
    assert {s.runs for s in stats.values()} == {60}
    changes = sum(x != y for x, y in zip(machine.order, machine.order[1:], strict=False))
    assert changes >= 5


def test_a_function_that_is_done_leaves_the_others_to_go_on(machine):
    functions = {"steady": machine.function(0.001), "unsteady": machine.function(0.001, 0.003)}
    stats = measure_latencies(functions, TimingSettings(max_runs=400, tolerance=0.001))
    assert stats["steady"].stopped_by == "tolerance" and stats["unsteady"].runs == 400


def test_garbage_collection_is_off_while_measuring_and_on_after_an_error():
    def fails():
        assert not gc.isenabled()
        raise ValueError

    with pytest.raises(ValueError):
        measure_latency(fails)
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("name", "value"), [("warmup", -1), ("min_runs", 2), ("max_runs", 5), ("budget_s", -1.0), ("tolerance", -0.1)]
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(ConfigError, match=f"{name} = {value}"):
        TimingSettings(**{name: value})


@given(st.lists(st.floats(1e-5, 1.0), min_size=3, max_size=200))
def test_the_error_of_the_median_is_bounded_by_the_range_and_scales(times):
    error = timing._independent_error(times)
    assert 0 <= error <= (max(times) - min(times)) / 2
    assert timing._independent_error([2 * t for t in times]) == pytest.approx(2 * error)


def test_the_error_of_the_median_matches_theory_for_normal_samples():
    normal = statistics.NormalDist(10, 1)
    errors = [timing._independent_error(normal.samples(400, seed=seed)) for seed in range(50)]
    assert statistics.fmean(errors) == pytest.approx(1.2533 / 400**0.5, rel=0.15)


def test_slow_drift_is_a_part_of_the_error():
    steady, fast, slow = [1.0, 1.2] * 100, [1.0] * 100, [1.2] * 100
    assert timing._error(fast + slow) > 0.03
    assert timing._error(steady) == timing._independent_error(steady)


def test_a_fast_function_is_watched_for_a_while(machine):
    stats = measure_latency(machine.function(0.0005), TimingSettings(max_runs=10**6))
    assert stats.stopped_by == "tolerance" and 350 < stats.runs < 450


def test_a_real_function_is_timed_in_milliseconds():
    def spin():
        end = time.thread_time() + 0.001  # CPU time: a busy machine takes longer by the wall
        while time.thread_time() < end:
            pass

    stats = measure_latency(spin, TimingSettings(budget_s=0.5))
    assert 0.9 < stats.best_ms < 5
    assert set(stats.to_dict()) >= {"median_ms", "error_ms", "iqr_ms", "runs", "clock", "cpu_ms"}
