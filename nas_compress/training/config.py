"""Training options, validated; free of torch so that configs and recipes can embed them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Precision = Literal["auto", "fp32", "bf16"]


class AugmentConfig(BaseModel):
    """Random changes of training images, drawn anew for every image and step; the defaults change little."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shift: float = Field(0.1, ge=0, le=0.5, description="Largest shift, as a share of the image's size (whole pixels)")
    rotate: float = Field(0.0, ge=0, le=180, description="Largest rotation either way, in degrees")
    scale: float = Field(0.0, ge=0, lt=1, description="Largest relative enlargement or reduction")
    flip: bool = Field(False, description="Mirror half of the images left to right")


class TrainConfig(BaseModel):
    """What training a super-network and fine-tuning a sub-network have in common.

    SGD with Nesterov momentum, a cosine schedule with linear warm-up, no weight decay on biases and
    normalisation: the recipe of Cai et al., 2020, "Once-for-All", appendix.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(30, ge=1, description="Passes over the training images")
    batch_size: int = Field(64, ge=2, description="Images per step")
    lr: float = Field(0.1, gt=0, description="Highest learning rate, reached after the warm-up")
    momentum: float = Field(0.9, ge=0, lt=1, description="Nesterov momentum")
    weight_decay: float = Field(3e-5, ge=0, description="L2 penalty on weights (none on biases and normalisation)")
    warmup_epochs: float = Field(2.0, ge=0, description="Epochs in which the learning rate rises linearly from near 0")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Share of the target spread over all classes")
    precision: Precision = Field("auto", description="fp32, bf16 (autocast), or what the device does best")
    augment: AugmentConfig | None = Field(AugmentConfig(), description="Random changes of images; null for none")
    seed: int = Field(42, ge=0, description="Seeds order, augmentation, dropout and the choice of sub-networks")


class SupernetTrainConfig(TrainConfig):
    """Options of super-network training."""

    sampler: Literal["sandwich", "uniform"] = Field(
        "sandwich", description="Sub-networks of a step: largest, smallest and random ones; or random ones alone"
    )
    subnets_per_step: int = Field(4, ge=1, description="Sub-networks trained in each step, those two included")


class FinetuneConfig(TrainConfig):
    """Options of fine-tuning."""

    epochs: int = Field(10, ge=1, description="Passes over the training images")
    lr: float = Field(0.01, gt=0, description="Highest learning rate, reached after the warm-up")
    warmup_epochs: float = Field(1.0, ge=0, description="Epochs in which the learning rate rises linearly from near 0")
    distillation: float = Field(0.5, ge=0, le=1, description="Weight of the teacher's soft outputs against the labels")
    temperature: float = Field(1.0, gt=0, description="Divides teacher's and student's logits before the softmax")
