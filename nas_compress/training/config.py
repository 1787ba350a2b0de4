"""Training options, validated; free of torch so that configs and recipes can embed them."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from nas_compress.settings import Count, Positive, Seed, Settings

Precision = Literal["auto", "fp32", "bf16"]

_LR = "Highest learning rate, reached after the warm-up"
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
    normalisation: the recipe of Cai et al., 2020, "Once-for-All", appendix.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    epochs: Count = Field(30, description="Passes over the training images")
    batch_size: int = Field(64, ge=2, description="Images per step")
    lr: Positive = Field(0.1, description=_LR)
    momentum: float = Field(0.9, ge=0, lt=1, description="Nesterov momentum")
    weight_decay: float = Field(3e-5, ge=0, description="L2 penalty on weights (none on biases and normalisation)")
    warmup_epochs: float = Field(2.0, ge=0, description=_WARMUP)
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Share of the target spread over all classes")
    precision: Precision = Field("auto", description="fp32, bf16 (autocast), or what the device does best")
    augment: AugmentConfig | None = Field(
        default_factory=AugmentConfig, description="Random changes of images; null for none"
    )


class SupernetTrainOptions(TrainOptions):
    """Options of super-network training."""

    sampler: Literal["sandwich", "uniform"] = Field(
        "sandwich", description="Sub-networks of a step: largest, smallest and random ones; or random ones alone"
    )
    subnets_per_step: Count = Field(4, description="Sub-networks trained in each step, those two included")


class FinetuneOptions(TrainOptions):
    """Options of fine-tuning."""

    epochs: Count = Field(10, description="Passes over the training images")
    lr: Positive = Field(0.01, description=_LR)
    warmup_epochs: float = Field(1.0, ge=0, description=_WARMUP)
    distillation: float = Field(0.5, ge=0, le=1, description="Weight of the teacher's soft outputs against the labels")
    temperature: Positive = Field(1.0, description="Divides teacher's and student's logits before the softmax")


class SupernetTrainConfig(SupernetTrainOptions):
    """Options of super-network training, and the seed (a recipe has one seed for all its steps)."""

    seed: Seed = Field(42, description=_SEED)


class FinetuneConfig(FinetuneOptions):
    """Options of fine-tuning, and the seed (a recipe has one seed for all its steps)."""

    seed: Seed = Field(42, description=_SEED)


TrainConfig = SupernetTrainConfig | FinetuneConfig
"""The options of either kind of training."""
