"""When a search ends."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from nas_compress.errors import ConfigError
from nas_compress.search.volume import VolumeCurve


@dataclass(frozen=True)
class StopRules:
    """When a search ends, at the latest.

    Attributes:
        num_evals: Number of trials, at least 1.
        patience: Number of trials in a row without gain after which it ends; None for never. Trials count from the
            moment on when the hypervolume is above 0 and its reference point is known.
        min_gain: The growth of the hypervolume since the last gain, as a part of it, that is a gain; 0 to 1.
        time_budget: Seconds of one run, from its first new measurement on; None for no limit.

    Raises:
        ConfigError: A number is out of its range.
    """

    num_evals: int
    patience: int | None = None
    min_gain: float = 0.001
    time_budget: float | None = None

    def __post_init__(self) -> None:
        if self.num_evals < 1:
            raise ConfigError(f"num_evals: {self.num_evals} is not at least 1")
        if self.patience is not None and self.patience < 1:
            raise ConfigError(f"patience: {self.patience} is not at least 1")
        if not 0 <= self.min_gain < 1:
            raise ConfigError(f"min_gain: {self.min_gain} is not at least 0 and below 1")
        if self.time_budget is not None and not (self.time_budget > 0 and math.isfinite(self.time_budget)):
            raise ConfigError(f"time_budget: {self.time_budget} is not a positive number of seconds")


@dataclass(frozen=True)
class Stop:
    """Why a search ended.

    Attributes:
        rule: `"num_evals"`, `"patience"`, `"time_budget"` or `"exhausted"`.
        reason: The same in words.
    """

    rule: str
    reason: str


class StopWatch:
    """Tells when a search is to end.

    All but the time follows from the sequence of trials, so that a search which is resumed ends where one that was
    never interrupted ends.

    Args:
        rules: When.
        curve: The hypervolume, which the search keeps up to date.
    """

    def __init__(self, rules: StopRules, curve: VolumeCurve) -> None:
        self.rules = rules
        self._curve = curve
        self._trials = self._seen = self._stale = 0
        self._mark = 0.0
        self._started: float | None = None

    def most(self) -> int:
        """Return how many trials there may be before a rule other than time can apply; at least 1 unless one does."""
        room = self.rules.num_evals - self._trials
        if self.rules.patience is None:
            return room
        return min(room, self._curve.missing or self.rules.patience - self._stale)

    def start_clock(self) -> None:
        """Let the run's time begin, if it has not: something is measured now."""
        if self._started is None:
            self._started = time.monotonic()

    def see(self) -> None:
        """Take note of a trial that the curve has taken."""
        self._trials += 1
        opening = len(self._curve.volumes) - self._seen > 1
        for volume in self._curve.volumes[self._seen :]:
            if volume > self._mark * (1 + self.rules.min_gain):
                self._mark, self._stale = volume, 0
            elif self._mark > 0:
                self._stale += 1
        self._stale = 0 if opening else self._stale
        self._seen = len(self._curve.volumes)

    def out_of_time(self) -> Stop | None:
        """Return a stop if the run's time is over."""
        budget = self.rules.time_budget
        if budget is None or self._started is None or time.monotonic() - self._started < budget:
            return None
        return Stop("time_budget", f"the time budget of {budget:g} s is over; start it again to go on")

    def due(self) -> Stop | None:
        """Return a stop if any rule applies."""
        rules = self.rules
        if self._trials >= rules.num_evals:
            return Stop("num_evals", f"all {rules.num_evals} evaluations are made")
        if rules.patience is not None and self._stale >= rules.patience:
            gained = f"less than {100 * rules.min_gain:.3g} % of hypervolume" if rules.min_gain else "no hypervolume"
            return Stop("patience", f"the last {self._stale} evaluations gained {gained}")
        return self.out_of_time()
