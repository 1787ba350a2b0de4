"""Options of the steps that change the chosen network, validated; free of torch so that recipes can embed them."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AliasChoices, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from nas_compress.settings import Count, FilePath, Location, Positive, Settings
from nas_compress.training.config import FinetuneOptions


class AccuracyCriterion(Settings):
    """How much accuracy a step may cost, in Intel Neural Compressor's words."""

    where: ClassVar[Location] = ("accuracy_criterion",)

    criterion: Literal["relative", "absolute"] = Field(
        "relative", description="Whether `tolerable_loss` is a share of the accuracy before, or in points."
    )
    tolerable_loss: float = Field(
        0.01, ge=0, allow_inf_nan=False, description="Accuracy that may be lost: 0.01 is 1 % of it, or 0.01 points."
    )

    def lowest(self, before: float) -> float:
        """Return the lowest accuracy in % that is still accepted, for an accuracy before the step in %."""
        return before * (1 - self.tolerable_loss) if self.criterion == "relative" else before - self.tolerable_loss

    def holds(self, after: float, before: float) -> bool:
        """Return whether the loss from an accuracy in % to another is tolerable; up to rounding of 1e-9 points."""
        return math.isfinite(after) and after >= self.lowest(before) - 1e-9


class TuningCriterion(Settings):
    """When tuning ends without an accepted model, in Intel Neural Compressor's words."""

    where: ClassVar[Location] = ("tuning_criterion",)

    max_trials: Count = Field(20, description="Quantized models that are evaluated, at most.")
    timeout: Annotated[float, Field(ge=0)] = Field(
        0, description="Seconds after which no trial begins; 0 for no limit."
    )


Engine = Literal["onnxruntime", "inc"]
Scheme = Literal["static", "dynamic", "smoothquant", "mixed_precision"]
CalibrationMethod = Literal["minmax", "entropy", "percentile"]


class QuantizeOptions(Settings):
    """Post-training quantization, with real calibration images where ranges of activations are fixed."""

    where: ClassVar[Location] = ("quantize",)

    engine: Engine = Field(
        "onnxruntime", description="`onnxruntime` makes an ONNX file, `inc` a PyTorch module (Intel Neural Compressor)."
    )
    approach: Scheme = Field(
        "static",
        description="`static` (ranges of activations from calibration), `dynamic` (from each input), `smoothquant` and "
        "`mixed_precision` (bf16; engine `inc` alone).",
    )
    calibration_images: Count = Field(
        256,
        validation_alias=AliasChoices("calibration_images", "calibration_sampling_size"),
        description="Training images to calibrate on; `calibration_sampling_size` in Intel Neural Compressor.",
    )
    method: CalibrationMethod = Field(
        "minmax", description="How ranges of activations are found (engine `onnxruntime`, approach `static`)."
    )
    per_channel: bool = Field(True, description="One scale per output channel of a weight (engine `onnxruntime`).")
    exclude: list[str] = Field(
        default_factory=list, description="ONNX nodes that stay in fp32, by name (engine `onnxruntime`)."
    )
    accuracy_criterion: AccuracyCriterion | None = Field(
        None, description="Accuracy that may be lost; the layers that hurt most go back to fp32 until it holds."
    )
    tuning_criterion: TuningCriterion = Field(
        default_factory=TuningCriterion, description="When to give up on the accuracy criterion."
    )

    onnxruntime_only: ClassVar[frozenset[str]] = frozenset({"method", "per_channel", "exclude"})

    @model_serializer(mode="wrap")
    def _without_idle_options(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the defaults of what the engine does not know, so that a recipe that is written reads back."""
        idle = self.onnxruntime_only - self.model_fields_set if self.engine == "inc" else frozenset()
        return {name: value for name, value in serialize(self).items() if name not in idle}


Pattern = Annotated[str, Field(pattern=r"^(channel|1x1|[1-9]\d*:[1-9]\d*)$")]


class PruneOptions(Settings):
    """Magnitude pruning of the chosen network, in turns with fine-tuning."""

    where: ClassVar[Location] = ("prune",)

    pattern: Pattern = Field(
        "channel",
        description="What is removed: `channel` (whole channels and heads: a smaller network), `1x1` (single weights, "
        "which become 0), or `N:M` (all but N of M neighbouring weights become 0, as in `2:4`).",
    )
    target_sparsity: float = Field(
        0.5, gt=0, lt=1, description="Share of channels (per layer or in all, by scope) or of weights to remove."
    )
    pruning_scope: Literal["global", "local"] = Field(
        "local", description="Whether layers share the target (`global`) or each has it (`local`)."
    )
    excluded_op_names: list[str] = Field(
        default_factory=list, description="Layers that are not pruned: names, or patterns such as `stages.0.*`."
    )
    rounds: Count = Field(3, description="Rounds of pruning and fine-tuning; sparsity rises to the target over them.")
    round_to: Count = Field(8, description="Numbers of channels are kept at multiples of this (pattern `channel`).")
    finetune: FinetuneOptions = Field(
        default_factory=lambda: FinetuneOptions(epochs=3), description="Training in each round."
    )

    @property
    def n_of_m(self) -> tuple[int, int] | None:
        """N and M of an `N:M` pattern, None for others."""
        n, colon, m = self.pattern.partition(":")
        return (int(n), int(m)) if colon else None

    @model_validator(mode="after")
    def _n_below_m(self) -> Self:
        if (pair := self.n_of_m) is not None:
            if pair[0] >= pair[1]:
                raise ValueError(f"pattern = {self.pattern!r} removes nothing; N must be less than M")
            if "target_sparsity" in self.model_fields_set:
                raise ValueError(f"target_sparsity does not go with pattern {self.pattern!r}, which has its own")
        return self


class DistillOptions(FinetuneOptions):
    """Training of the chosen network on the outputs of a larger one."""

    where: ClassVar[Location] = ("distill",)

    teacher: Literal["largest"] | FilePath = Field(
        "largest", description="`largest` (sub-network), or an ONNX file that maps the same images to logits."
    )
    distillation: float = Field(0.5, gt=0, le=1, description="Weight of the teacher's soft outputs against the labels.")
    temperature: Positive = Field(1.0, description="Divides teacher's and student's logits before the softmax.")
    features: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="Weight of the difference to the teacher's features after each stage.",
    )
