"""Options of measured objectives, validated; free of torch so that configs and recipes can embed them."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, ClassVar

from pydantic import Field

from nas_compress.backends import Precision
from nas_compress.objectives.timing import TimingSettings
from nas_compress.settings import Count, FilePath, Location, Natural, Positive, Settings

_TIMING = TimingSettings()


class TimingConfig(Settings):
    """How long latency is measured: until the standard error is small enough, or a limit is reached."""

    where: ClassVar[Location] = ("latency",)

    threads: Count = Field(1, description="CPU threads of the backend.")
    warmup: Natural = Field(_TIMING.warmup, description="Runs before the measured ones.")
    min_runs: Annotated[Count, Field(ge=3)] = Field(_TIMING.min_runs, description="Measured runs, at least.")
    max_runs: Count = Field(_TIMING.max_runs, description="Measured runs, at most.")
    budget_s: Positive = Field(_TIMING.budget_s, description="Seconds of measured runs, at most (after `min_runs`).")
    tolerance: Positive = Field(
        _TIMING.tolerance, description="Stop when the median's standard error is under this part of it."
    )

    def settings(self) -> TimingSettings:
        """Return what the timing functions take, `threads` apart.

        Raises:
            ConfigError: The numbers do not fit together.
        """
        return TimingSettings(**{field.name: getattr(self, field.name) for field in fields(TimingSettings)})


class LatencyConfig(TimingConfig):
    """How the latency of a search is measured, and in what."""

    backend: str = Field(
        "onnxruntime", description="What runs the sub-network: a name of `nas-compress list backends`."
    )
    precision: Precision = Field("fp32", description="What the backend computes in; bf16 where it can.")
    isolated: bool | None = Field(
        None,
        description="Measure in a process of its own, its threads pinned to cores; null = where the backend asks for "
        "it (`ipex`).",
    )
    lut: FilePath | None = Field(
        None,
        description="Table of `nas-compress build-lut`: the search predicts latency from it, and measures the front at "
        "the end.",
    )
