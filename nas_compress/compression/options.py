"""Options of the steps that change the chosen network, validated; free of torch so that recipes can embed them."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from nas_compress.settings import Count, FilePath, Location, Settings, show
from nas_compress.training.config import DistillOptions, FinetuneOptions


class AccuracyCriterion(Settings):
    """How much accuracy a step may cost, in Intel Neural Compressor's words."""

    where: ClassVar[Location] = ("accuracy_criterion",)

    criterion: Literal["relative", "absolute"] = Field(
        "relative", description="Whether `tolerable_loss` is a share of the accuracy before, or in points."
    )
    tolerable_loss: float = Field(
        0.01, ge=0, allow_inf_nan=False, description="Accuracy that may be lost: 0.01 is 1 % of it, or 0.01 points."
    )

    @model_validator(mode="after")
    def _loses_less_than_all(self) -> Self:
        if self.criterion == "relative" and self.tolerable_loss >= 1:
            raise ValueError(
                f"tolerable_loss = {self.tolerable_loss:g} is {100 * self.tolerable_loss:g} % of the accuracy with "
                "criterion 'relative'; wants less than 1, or criterion 'absolute' for points"
            )
        if self.tolerable_loss >= 100:
            raise ValueError(
                f"tolerable_loss = {self.tolerable_loss:g} points is all of any accuracy; wants less than 100"
            )
        return self

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
        0.0, description="Seconds after which no trial begins; 0 for no limit."
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
    method: CalibrationMethod | None = Field(
        None,
        description="How ranges of activations are found (engine `onnxruntime`, approach `static`); null: `minmax`, "
        "and the others where an accuracy criterion does not hold with it.",
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

    other_keys = {"calibration_sampling_size": {"type": "integer", "minimum": 1}}
    onnxruntime_only: ClassVar[frozenset[str]] = frozenset({"method", "per_channel", "exclude"})
    of_calibration: ClassVar[frozenset[str]] = frozenset({"method", "calibration_images"})

    @model_validator(mode="before")
    @classmethod
    def _one_name(cls, data: Any) -> Any:
        if isinstance(data, dict) and {"calibration_images", "calibration_sampling_size"} <= data.keys():
            raise ValueError("calibration_images and calibration_sampling_size are the same; give one of the two")
        return data

    @model_serializer(mode="wrap")
    def _without_idle_options(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the defaults of what has no effect, so that a recipe that is written reads back."""
        idle = set(self.onnxruntime_only) if self.engine == "inc" else set()
        if self.approach != "static":
            idle.add("method")
        if self.approach in ("dynamic", "mixed_precision"):
            idle.add("calibration_images")
        if self.accuracy_criterion is None:
            idle.add("tuning_criterion")
        return {n: v for n, v in serialize(self).items() if n not in idle - self.model_fields_set}


_PATTERN = r"channel|1x1|[1-9]\d*:[1-9]\d*"


def _known_pattern(value: str) -> str:
    if not re.fullmatch(_PATTERN, value):
        raise ValueError(f"{value!r} is not allowed; wants channel, 1x1, or N:M, such as 2:4")
    return value


Pattern = Annotated[str, AfterValidator(_known_pattern), Field(json_schema_extra={"pattern": f"^({_PATTERN})$"})]


class PruneTraining(DistillOptions):
    """Training after each round of pruning."""

    where: ClassVar[Location] = ("prune", "training")

    epochs: Count = Field(3, description="Passes over the training images in each round")
    teacher: Literal["largest"] | None = Field(
        "largest", description="The network that is learnt from besides the labels; null for labels alone."
    )

    of_teacher: ClassVar[frozenset[str]] = frozenset({*DistillOptions.model_fields} - {*FinetuneOptions.model_fields})

    @model_validator(mode="after")
    def _no_teacher_no_distillation(self) -> Self:
        if self.teacher is None and (given := sorted(self.of_teacher & self.model_fields_set)):
            raise ValueError(f"{given[0]} wants a teacher, and teacher is null")
        return self

    @model_serializer(mode="wrap")
    def _without_idle_options(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what has no effect without a teacher, so that a recipe that is written reads back."""
        idle = self.of_teacher if self.teacher is None else frozenset()
        return {name: value for name, value in serialize(self).items() if name not in idle}


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
        default_factory=list,
        description="Layers that are not pruned (pattern `channel`: that keep their outputs): names in the "
        "network, or patterns such as `4.*`; the name of a block stands for all layers in it.",
    )
    rounds: Count = Field(3, description="Rounds of pruning and fine-tuning; sparsity rises to the target over them.")
    round_to: Count = Field(8, description="Numbers of channels are kept at multiples of this (pattern `channel`).")
    training: PruneTraining = Field(default_factory=PruneTraining, description="Training in each round.")

    @property
    def n_of_m(self) -> tuple[int, int] | None:
        """N and M of an `N:M` pattern, None for others."""
        n, colon, m = self.pattern.partition(":")
        return (int(n), int(m)) if colon else None

    @property
    def idle(self) -> frozenset[str]:
        """The options that have no effect with this pattern."""
        if self.pattern == "channel":
            return frozenset()
        return frozenset({"round_to"} if self.n_of_m is None else {"round_to", "pruning_scope", "target_sparsity"})

    @model_validator(mode="after")
    def _fits_the_pattern(self) -> Self:
        if (pair := self.n_of_m) is not None and pair[0] >= pair[1]:
            raise ValueError(f"pattern = {self.pattern!r} removes nothing; N must be less than M")
        if given := sorted(self.idle & self.model_fields_set):
            raise ValueError(f"{given[0]} has no effect with pattern {self.pattern!r}; leave it out")
        return self

    @model_serializer(mode="wrap")
    def _without_idle_options(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what has no effect, so that a recipe that is written reads back."""
        return {name: value for name, value in serialize(self).items() if name not in self.idle}


def _named(value: object) -> object:
    if not value or not isinstance(value, (str, Path)):
        raise ValueError(f"{show(value)} is not allowed; wants largest, or the path of an ONNX file")
    return value


class DistillStepOptions(DistillOptions):
    """Training of the chosen network on the labels and on a teacher."""

    where: ClassVar[Location] = ("distill",)

    teacher: Annotated[Literal["largest"] | FilePath, BeforeValidator(_named)] = Field(
        "largest", description="`largest` (sub-network), or an ONNX file that maps images of the same size to logits."
    )

    @model_validator(mode="after")
    def _features_of_a_module(self) -> Self:
        name = next((name for name in ("features", "feature_epochs") if getattr(self, name)), None)
        if name is not None and self.teacher != "largest":
            raise ValueError(f"{name} wants teacher 'largest': an ONNX file gives no features, only logits")
        return self
