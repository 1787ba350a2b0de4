"""Timing of short functions on a machine that does other things too."""

from __future__ import annotations

import gc
import logging
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from nas_compress.errors import ConfigError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

BLOCK_RUNS = (5, 20)
BLOCK_SECONDS = 0.02
ERRORS_PER_HALF_WIDTH = 1.96
MIN_SECONDS = 0.2
STRETCHES = 10
TRIM = 0.1


@dataclass(frozen=True)
class TimingSettings:
    """How long to measure.

    Attributes:
        warmup: Runs before the first measured one.
        min_runs: Runs to measure at least, whatever the budget.
        max_runs: Runs to measure at most.
        budget_s: Seconds after which no run is started once there are `min_runs`.
        tolerance: Stop when the standard error of the median is at most this share of the median, but not within
            the first `MIN_SECONDS`: the noise of a short while is not that of the machine.

    Raises:
        ConfigError: A value out of range.
    """

    warmup: int = 5
    min_runs: int = 30
    max_runs: int = 2000
    budget_s: float = 3.0
    tolerance: float = 0.01

    def __post_init__(self) -> None:
        least = {"warmup": 0, "min_runs": 3, "max_runs": self.min_runs, "budget_s": 0, "tolerance": 0}
        for name, bound in least.items():
            if not getattr(self, name) >= bound:
                raise ConfigError(f"latency: {name} = {getattr(self, name)!r} is out of range; allowed: >= {bound}")


DEFAULT_SETTINGS = TimingSettings()


@dataclass(frozen=True)
class LatencyStats:
    """What the measured runs of one function came to. Times are milliseconds.

    Attributes:
        median_ms: The latency; see `clock`.
        error_ms: Standard error of the median; no distribution is assumed, slow drift is taken into account.
        iqr_ms: Difference of the upper and the lower quartile.
        mean_ms: Mean without the lowest and the highest tenth, as in HAT (Wang et al., 2020).
        best_ms: The fastest run.
        cpu_ms: Median CPU time per run: that of the calling thread where there is one thread; else that of the whole
            process, about `threads` times the latency at full use.
        runs: Number of runs behind the figures.
        disturbed: Number of further runs in which the operating system gave the core to somebody else.
        clock: `"wall"`: wall time of undisturbed runs. `"cpu"`: there were too few of those, and CPU time stands in,
            which for one thread is the time that an idle machine would need. `"disturbed wall"`: there were too few,
            and with several threads nothing can stand in; the figure is too high.
        stopped_by: `"tolerance"`, `"max_runs"` or `"budget"`.
    """

    median_ms: float
    error_ms: float
    iqr_ms: float
    mean_ms: float
    best_ms: float
    cpu_ms: float
    runs: int
    disturbed: int
    clock: Literal["wall", "cpu", "disturbed wall"]
    stopped_by: Literal["tolerance", "max_runs", "budget"]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for JSON."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def measure_latency(
    run: Callable[[], Any], settings: TimingSettings = DEFAULT_SETTINGS, *, threads: int = 1, warn: bool = True
) -> LatencyStats:
    """Time one function; see `measure_latencies`."""
    return measure_latencies({"run": run}, settings, threads=threads, warn=warn)["run"]


def measure_latencies(
    runs: Mapping[str, Callable[[], Any]],
    settings: TimingSettings = DEFAULT_SETTINGS,
    *,
    threads: int = 1,
    warn: bool = True,
) -> dict[str, LatencyStats]:
    """Time several functions in turns, so that what slows the machine for a while slows them all.

    They take turns in blocks of 5 to 20 runs, each after an unmeasured run that warms the caches. Runs in which the
    operating system preempted the calling thread are counted apart. The garbage collector is off meanwhile. With one
    thread, PyTorch and ONNX Runtime compute in the calling thread, so that its CPU time leaves out what other threads
    of the process do (a progress bar, say).

    Args:
        runs: The functions by name.
        settings: How long to measure; the budget is per function.
        threads: Threads that the functions use: with one, CPU time can stand in for wall time.
        warn: Whether to log a warning where the machine was too busy for wall time.
    """
    samples = {name: _Samples(settings, threads) for name in runs}
    with _no_garbage_collection():
        for run in runs.values():
            for _ in range(settings.warmup):
                run()
        while waiting := [name for name, taken in samples.items() if taken.stopped_by is None]:
            for name in waiting:
                samples[name].take_block(runs[name])
    found = {name: taken.stats() for name, taken in samples.items()}
    for name, stats in found.items():
        if warn and stats.clock != "wall":
            taken = samples[name]
            busy = f"{len(taken.disturbed_wall)} of {taken.taken} runs were preempted"
            logger.warning("%s: %s, the machine is busy; the latency is %s time", name, busy, stats.clock)
    return found


@dataclass
class _Samples:
    """The measured runs of one function, in seconds."""

    settings: TimingSettings
    threads: int
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    disturbed_wall: list[float] = field(default_factory=list)
    disturbed_cpu: list[float] = field(default_factory=list)
    spent_s: float = 0.0
    stopped_by: Literal["tolerance", "max_runs", "budget"] | None = None

    @property
    def taken(self) -> int:
        """Number of measured runs, disturbed ones included."""
        return len(self.wall) + len(self.disturbed_wall)

    def take_block(self, run: Callable[[], Any]) -> None:
        """Measure one block of runs and decide whether it was the last."""
        start = time.perf_counter()
        run()
        left = self.settings.max_runs - self.taken
        for done in range(1, min(BLOCK_RUNS[1], left) + 1):
            self._take(run)
            if done >= BLOCK_RUNS[0] and time.perf_counter() - start > BLOCK_SECONDS:
                break
        self.spent_s += time.perf_counter() - start
        self._decide()

    def _take(self, run: Callable[[], Any]) -> None:
        clock = time.thread_time if self.threads == 1 else time.process_time
        preemptions, cpu = _preemptions(), clock()
        start = time.perf_counter()
        run()
        wall = time.perf_counter() - start
        cpu = clock() - cpu
        calm = _preemptions() == preemptions
        (self.wall if calm else self.disturbed_wall).append(wall)
        (self.cpu if calm else self.disturbed_cpu).append(cpu)

    def _decide(self) -> None:
        settings = self.settings
        settled = len(self.wall) >= settings.min_runs and self.spent_s >= min(MIN_SECONDS, settings.budget_s)
        if self.taken >= settings.max_runs:
            self.stopped_by = "max_runs"
        elif self.taken >= settings.min_runs and self.spent_s >= settings.budget_s:
            self.stopped_by = "budget"
        elif settled and _error(self.wall) <= settings.tolerance * statistics.median(self.wall):
            self.stopped_by = "tolerance"

    def stats(self) -> LatencyStats:
        """Return the figures, from the undisturbed runs if there are enough of them."""
        clock, times, cpu = self._chosen()
        ordered = sorted(times)
        trim = int(TRIM * len(ordered))
        quartiles = statistics.quantiles(ordered, n=4, method="inclusive")
        return LatencyStats(
            median_ms=1e3 * statistics.median(ordered),
            error_ms=1e3 * _error(times),
            iqr_ms=1e3 * (quartiles[2] - quartiles[0]),
            mean_ms=1e3 * statistics.fmean(ordered[trim : len(ordered) - trim]),
            best_ms=1e3 * ordered[0],
            cpu_ms=1e3 * statistics.median(cpu),
            runs=len(ordered),
            disturbed=0 if clock != "wall" else len(self.disturbed_wall),
            clock=clock,
            stopped_by=self.stopped_by or "budget",
        )

    def _chosen(self) -> tuple[Literal["wall", "cpu", "disturbed wall"], list[float], list[float]]:
        if len(self.wall) >= self.settings.min_runs or not self.disturbed_wall:
            return "wall", self.wall, self.cpu
        cpu = self.cpu + self.disturbed_cpu
        if self.threads == 1:
            return "cpu", cpu, cpu
        return "disturbed wall", self.wall + self.disturbed_wall, cpu


def _error(times: list[float]) -> float:
    """Return the standard error of the median of runs in the order in which they were taken.

    The larger of two estimates: that of independent runs, and the one that the medians of successive stretches
    give, which also sees the clock frequency and the neighbours change.
    """
    length = len(times) // STRETCHES
    if length < 2:
        return _independent_error(times)
    medians = [statistics.median(times[i * length : (i + 1) * length]) for i in range(STRETCHES)]
    return max(_independent_error(times), statistics.stdev(medians) / math.sqrt(STRETCHES))


def _independent_error(times: list[float]) -> float:
    """Return the standard error of the median: a 95 % interval between order statistics, scaled to one error."""
    ordered, n = sorted(times), len(times)
    reach = ERRORS_PER_HALF_WIDTH * math.sqrt(n) / 2
    low, high = max(math.floor(n / 2 - reach), 0), min(math.ceil(n / 2 + reach), n - 1)
    return (ordered[high] - ordered[low]) / (2 * ERRORS_PER_HALF_WIDTH)


def _preemptions() -> int:
    """Return how often the operating system took the core from this thread; always 0 where it does not tell."""
    who = getattr(resource, "RUSAGE_THREAD", None)
    return 0 if who is None else resource.getrusage(who).ru_nivcsw


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
