"""Options of measured objectives, validated; free of torch so that configs and recipes can embed them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field

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


TERMS = ("expressivity", "complexity", "diversity", "saliency", "entropy", "macs", "latency")
"""The terms of the train-free score."""

MOST_WEIGHT = 100


def _moderate(value: object) -> object:
    """Refuse the weights of DE-NAS's files that make up for terms of different sizes."""
    if isinstance(value, (int, float)) and value > MOST_WEIGHT:
        reason = "terms have one unit here, while DE-NAS's weights make up for units"
        raise ValueError(f"{value} is not allowed; wants <= {MOST_WEIGHT}: {reason}")
    return value


Weight = Annotated[Annotated[float, Field(ge=0, allow_inf_nan=False)] | None, BeforeValidator(_moderate)]


class ScoreOptions(Settings):
    """How the train-free score of a sub-network is made up."""

    where: ClassVar[Location] = ("score",)

    expressivity_weight: Weight = Field(None, description="Weight of the Zen-Score; null = that of the task.")
    complexity_weight: Weight = Field(
        None, description="Weight of the NTK's condition number; null = that of the task."
    )
    diversity_weight: Weight = Field(
        None, description="Weight of the Frobenius norms of attention's weights and gradients; null = that of the task."
    )
    saliency_weight: Weight = Field(None, description="Weight of synflow; null = that of the task.")
    entropy_weight: Weight = Field(
        None,
        description="Weight of the bound of the features' entropy; null = that of the task, or 0 where another weight "
        "is set.",
    )
    macs_weight: Weight = Field(
        None,
        description="Weight of the multiply-accumulates, of which more is better; null = that of the task, or 0 where "
        "another weight is set.",
    )
    latency_weight: Weight = Field(None, description="Weight of the latency predicted from `latency.lut`; null = 0.")
    score_batch: Annotated[Count, Field(ge=2)] = Field(8, description="Inputs that the score is computed on.")
    score_seeds: Annotated[Count, Field(le=16)] = Field(2, description="Random weights that it is averaged over.")
    score_reference: Annotated[Count, Field(ge=8)] = Field(
        32,
        description="Random architectures within the limits that are scored first: their spread is the unit of a term.",
    )

    def weights(self) -> dict[str, float]:
        """Return the weights that are set, by the term's name."""
        given = {name: getattr(self, f"{name}_weight") for name in TERMS}
        return {name: value for name, value in given.items() if value is not None}

    def weights_over(self, task: Mapping[str, float]) -> dict[str, float]:
        """Return the weights that are set, and those of the task for the others.

        Terms that DE-NAS does not have (entropy, MACs) have the task's weight only where no weight is set: a file of
        DE-NAS keeps its meaning, and a latency that shall count is not outweighed by what causes it.
        """
        given = self.weights()
        own = {name: 0.0 for name in ("entropy", "macs") if name in task}
        return {**task, **(own if given else {}), **given}
