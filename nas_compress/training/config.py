"""Training options, validated; free of torch so that configs and recipes can embed them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from nas_compress.settings import Count, Positive, Seed, Settings

Optimizer = Literal["sgd", "adamw"]
Precision = Literal["auto", "fp32", "bf16"]

_LR = "Highest learning rate, reached after the warm-up; null: {sgd:g} with sgd, {adamw:g} with adamw"
_DEFAULT_LR: Mapping[str, float] = {"sgd": 0.1, "adamw": 1e-3}
_FINETUNE_LR: Mapping[str, float] = {"sgd": 0.01, "adamw": 1e-4}
_DEFAULT_MOMENTUM = 0.9
_WARMUP = "Epochs in which the learning rate rises linearly from near 0; at most half of the run"
_SEED = "Seeds order, augmentation, dropout and the choice of sub-networks"


class AugmentConfig(Settings):
    """Random changes of training images, drawn anew for every image and step; the defaults change little."""

    shift: float = Field(0.1, ge=0, le=0.5, description="Largest shift, as a share of the image's size (whole pixels)")
    rotate: float = Field(0.0, ge=0, le=180, description="Largest rotation either way, in degrees")
    scale: float = Field(0.0, ge=0, lt=1, description="Largest relative enlargement or reduction")
    flip: bool = Field(False, description="Mirror half of the images left to right")


class TrainOptions(Settings):
    """What training a super-network and fine-tuning a sub-network have in common.

    SGD with Nesterov momentum, a cosine schedule with linear warm-up, no weight decay on biases and
    normalisation: the recipe of Cai et al., 2020, "Once-for-All", appendix. AdamW is what transformers want.
    """

    model_config = ConfigDict(allow_inf_nan=False)
    default_lr: ClassVar[Mapping[str, float]] = _DEFAULT_LR

    epochs: Count = Field(30, description="Passes over the training images")
    batch_size: int = Field(64, ge=2, description="Images per step")
    optimizer: Optimizer = Field("sgd", description="sgd (convolutions), or adamw (transformers)")
    lr: Positive | None = Field(None, description=_LR.format(**_DEFAULT_LR))
    momentum: float | None = Field(
        None, ge=0, lt=1, description=f"Nesterov momentum of sgd; null: {_DEFAULT_MOMENTUM:g}. adamw has none"
    )
    weight_decay: float = Field(
        3e-5,
        ge=0,
        description="Decay of weights, none of biases, normalisation, class tokens and positions: an L2 penalty with "
        "sgd, decoupled with adamw (with which vision transformers want about 0.05)",
    )
    warmup_epochs: float = Field(2.0, ge=0, description=_WARMUP)
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Share of the target spread over all classes")
    precision: Precision = Field("auto", description="fp32, bf16 (autocast), or what the device does best")
    augment: AugmentConfig | None = Field(
        default_factory=AugmentConfig, description="Random changes of images; null for none"
    )

    @model_validator(mode="after")
    def _momentum_is_of_sgd(self) -> Self:
        if self.optimizer == "adamw" and self.momentum is not None:
            raise ValueError(f"momentum = {self.momentum:g} is an option of sgd; with adamw leave it out")
        return self

    @property
    def peak_lr(self) -> float:
        """The highest learning rate: `lr`, or the optimizer's default."""
        return self.default_lr[self.optimizer] if self.lr is None else self.lr

    @property
    def nesterov(self) -> float:
        """Nesterov momentum of sgd: `momentum`, or its default."""
        return _DEFAULT_MOMENTUM if self.momentum is None else self.momentum


class SupernetTrainOptions(TrainOptions):
    """Options of super-network training."""

    sampler: Literal["sandwich", "uniform"] = Field(
        "sandwich", description="Sub-networks of a step: largest, smallest and random ones; or random ones alone"
    )
    subnets_per_step: Count = Field(4, description="Sub-networks trained in each step, those two included")


class FinetuneOptions(TrainOptions):
    """Options of fine-tuning: training of one network on the labels alone."""

    default_lr: ClassVar[Mapping[str, float]] = _FINETUNE_LR
    epochs: Count = Field(10, description="Passes over the training images")
    lr: Positive | None = Field(None, description=_LR.format(**_FINETUNE_LR))
    warmup_epochs: float = Field(1.0, ge=0, description=_WARMUP)


class DistillOptions(FinetuneOptions):
    """Options of distillation: training of one network on the labels and on a teacher."""

    distillation: float = Field(0.5, ge=0, le=1, description="Weight of the teacher's soft outputs against the labels")
    temperature: Positive = Field(1.0, description="Divides teacher's and student's logits before the softmax")
    features: float = Field(
        0.0, ge=0, description="Weight of the difference to the teacher's features, which is added; 0 for none"
    )

    @model_validator(mode="after")
    def _learns_something(self) -> Self:
        if self.distillation == self.features == 0:
            raise ValueError(
                "distillation and features are both 0: nothing is learnt from the teacher; finetune does that"
            )
        return self


class SupernetTrainConfig(SupernetTrainOptions):
    """Options of super-network training, and the seed (a recipe has one seed for all its steps)."""

    seed: Seed = Field(42, description=_SEED)


class FinetuneConfig(FinetuneOptions):
    """Options of fine-tuning, and the seed (a recipe has one seed for all its steps)."""

    seed: Seed = Field(42, description=_SEED)


class DistillConfig(DistillOptions):
    """Options of distillation, and the seed (a recipe has one seed for all its steps)."""

    seed: Seed = Field(42, description=_SEED)


TrainConfig = SupernetTrainConfig | FinetuneConfig | DistillConfig
"""The options of any kind of training."""
