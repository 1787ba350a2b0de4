"""Training options, validated; free of torch so that configs and recipes can embed them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self, get_args

from pydantic import ConfigDict, Field, model_validator

from nas_compress.settings import Count, Positive, Seed, Settings
from nas_compress.space import Value

Optimizer = Literal["sgd", "adam", "adamw", "nadam", "radam", "adamax", "adagrad", "rmsprop"]
Schedule = Literal["cosine", "linear", "multistep", "inverse_sqrt", "constant"]
Precision = Literal["auto", "fp32", "bf16"]
Algorithm = Literal["sandwich", "single_path", "progressive_shrinking"]

WITH_MOMENTUM: tuple[Optimizer, ...] = ("sgd", "rmsprop")
WITH_BETAS: tuple[Optimizer, ...] = ("adam", "adamw", "nadam", "radam", "adamax")

_LR = "Highest learning rate, reached after the warm-up; null: {sgd:g} with sgd, {adamw:g} with the others"
_DEFAULT_LR: Mapping[str, float] = {name: 0.1 if name == "sgd" else 1e-3 for name in get_args(Optimizer)}
_FINETUNE_LR: Mapping[str, float] = {name: lr / 10 for name, lr in _DEFAULT_LR.items()}
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

    epochs: Count = Field(30, description="Passes over the training examples")
    batch_size: int = Field(64, ge=2, description="Examples per step")
    accumulate: Count = Field(
        1, description="Parts that a step's examples are computed in, one after the other, to save memory"
    )
    optimizer: Optimizer = Field("sgd", description="sgd (convolutions), adamw (transformers), or another of PyTorch's")
    lr: Positive | None = Field(None, description=_LR.format(**_DEFAULT_LR))
    schedule: Schedule = Field(
        "cosine",
        description="How the learning rate falls after the warm-up: as a half cosine or linearly to 0, to a tenth "
        "after half and three quarters of the steps (multistep), with the step's root (inverse_sqrt), or not at all",
    )
    momentum: float | None = Field(
        None,
        ge=0,
        lt=1,
        description=f"Momentum of sgd (Nesterov's; null: {_DEFAULT_MOMENTUM:g}) and of rmsprop (null: none) alone",
    )
    betas: tuple[float, float] | None = Field(
        None,
        description="Of the adam family: decay of the averages of gradients and squares; null: [0.9, 0.999]",
    )
    weight_decay: float = Field(
        3e-5,
        ge=0,
        description="Decay of weights, none of biases, normalisation, class tokens and positions of images: decoupled "
        "with adamw (with which vision transformers want about 0.05), an L2 penalty with the others",
    )
    max_norm: Positive | None = Field(
        None, description="Gradients of a larger norm are scaled down to it; null: they are not"
    )
    warmup_epochs: float = Field(2.0, ge=0, description=_WARMUP)
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Share of the target spread over all classes")
    ctc_weight: float = Field(
        0.3, ge=0, le=1, description="Speech alone: share of CTC in the loss, the rest is the decoder's cross entropy"
    )
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Decay a step of an exponential moving average of the weights, which the training ends with; "
        "null: it ends with the last weights",
    )
    curve: int = Field(
        1000, ge=0, description="Validation examples on which networks are measured after each epoch; 0 for none"
    )
    target: float | None = Field(
        None,
        gt=0,
        le=100,
        description="Training ends early after an epoch, of its last stage, whose best figure of the curve reaches "
        "this, in %",
    )
    precision: Precision = Field("auto", description="fp32, bf16 (autocast), or what the device does best")
    augment: AugmentConfig | None = Field(
        default_factory=AugmentConfig, description="Random changes of images; null for none"
    )

    @model_validator(mode="after")
    def _options_are_of_the_optimizer(self) -> Self:
        for name, owners in (("momentum", WITH_MOMENTUM), ("betas", WITH_BETAS)):
            value = getattr(self, name)
            if value is not None and self.optimizer not in owners:
                raise ValueError(
                    f"{name} = {value} is an option of {', '.join(owners)}; with {self.optimizer} leave it out"
                )
        if self.betas is not None and not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas = {self.betas}; want two numbers of at least 0 and less than 1")
        return self

    @model_validator(mode="after")
    def _a_target_is_looked_at(self) -> Self:
        if self.target is not None and self.curve == 0:
            raise ValueError(f"target = {self.target:g} is looked for on the curve, and curve is 0; give it examples")
        return self

    @property
    def peak_lr(self) -> float:
        """The highest learning rate: `lr`, or the optimizer's default."""
        return self.default_lr[self.optimizer] if self.lr is None else self.lr

    @property
    def nesterov(self) -> float:
        """Nesterov momentum of sgd: `momentum`, or its default."""
        return _DEFAULT_MOMENTUM if self.momentum is None else self.momentum


class StageOptions(Settings):
    """One stage of progressive shrinking: which dimensions are elastic in it, and how it trains."""

    model_config = ConfigDict(allow_inf_nan=False)

    elastic: dict[str, list[Value] | None] = Field(
        default_factory=dict,
        description="The elastic dimensions, with the values that they take (null: all); others stay at their largest",
    )
    epochs: Count = Field(description="Passes over the training examples")
    subnets_per_step: Count = Field(1, description="Sub-networks trained in each step")
    lr: Positive | None = Field(None, description="Highest learning rate; null: that of the training")
    warmup_epochs: float = Field(0.0, ge=0, description=_WARMUP)
    sandwich: bool = Field(
        False, description="Train the stage's largest and smallest sub-network in each step, besides random ones"
    )
    sort: bool = Field(False, description="Sort channels by importance before the stage")

    @model_validator(mode="after")
    def _a_sandwich_has_two(self) -> Self:
        if self.sandwich and self.subnets_per_step < 2:
            raise ValueError("subnets_per_step = 1 is not allowed with sandwich: true, which wants at least 2")
        return self


class SupernetTrainOptions(TrainOptions):
    """Options of super-network training."""

    algorithm: Algorithm = Field(
        "sandwich",
        description="What a step trains: the largest, the smallest and random sub-networks (sandwich), random ones "
        "(single_path), or those of a stage, which grow from the largest to all (progressive_shrinking)",
    )
    subnets_per_step: Count = Field(
        4, description="Sub-networks trained in each step, largest and smallest included; the stages have their own"
    )
    stages: list[StageOptions] | None = Field(
        None,
        min_length=1,
        description="Stages of progressive_shrinking, each with its own epochs, warm-up and sub-networks a step; null: "
        "Once-for-All's, in proportion to `epochs`",
    )

    @model_validator(mode="after")
    def _fits_the_algorithm(self) -> Self:
        if self.algorithm == "sandwich" and self.subnets_per_step < 2:
            raise ValueError("subnets_per_step = 1 is not allowed; the sandwich rule wants at least 2")
        if self.stages is not None and self.algorithm != "progressive_shrinking":
            raise ValueError(f"stages are of progressive_shrinking; with {self.algorithm} leave them out")
        if self.stages is not None:
            total = sum(stage.epochs for stage in self.stages)
            if "epochs" in self.model_fields_set and self.epochs != total:
                raise ValueError(f"epochs = {self.epochs}, and the stages have {total}; leave epochs out")
            self.__dict__["epochs"] = total
        return self

    @model_validator(mode="after")
    def _stages_have_their_own(self) -> Self:
        """Refuse what stages replace; a default is none of the user's words, and is in every dumped configuration."""
        for name in ("warmup_epochs", "subnets_per_step"):
            value = getattr(self, name)
            if self.stages is not None and value != type(self).model_fields[name].default:
                raise ValueError(f"{name} = {value} has no effect beside stages; give it to each stage that wants it")
        return self


class FinetuneOptions(TrainOptions):
    """Options of fine-tuning: training of one network on the labels alone."""

    default_lr: ClassVar[Mapping[str, float]] = _FINETUNE_LR
    epochs: Count = Field(10, description="Passes over the training examples")
    lr: Positive | None = Field(None, description=_LR.format(**_FINETUNE_LR))
    warmup_epochs: float = Field(1.0, ge=0, description=_WARMUP)


class DistillOptions(FinetuneOptions):
    """Options of distillation: training of one network on the labels and on a teacher."""

    distillation: float = Field(0.5, ge=0, le=1, description="Weight of the teacher's soft outputs against the labels")
    temperature: Positive = Field(1.0, description="Divides teacher's and student's logits before the softmax")
    features: float = Field(
        0.0, ge=0, description="Weight of the difference to the teacher's features, which is added; 0 for none"
    )
    feature_epochs: int = Field(
        0, ge=0, description="Epochs, before the others, of learning from the teacher's features alone, not from labels"
    )

    @model_validator(mode="after")
    def _learns_something(self) -> Self:
        if self.distillation == self.features == self.feature_epochs == 0:
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
