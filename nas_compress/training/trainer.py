"""Training of super-networks (all sub-networks at once) and of single sub-networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_compress.data.base import ImageData
from nas_compress.data.fit import Data, check_network
from nas_compress.data.text import TextData
from nas_compress.errors import ConfigError
from nas_compress.supernets.base import ImageSupernet, Supernet
from nas_compress.training.checkpoint import EpochLog, RunFolder
from nas_compress.training.config import Algorithm, DistillConfig, FinetuneConfig, SupernetTrainConfig, TrainConfig
from nas_compress.training.curve import score, supernet_curve
from nas_compress.training.distributed import processes
from nas_compress.training.domains import examples_of
from nas_compress.training.examples import Answers, Batch, Examples, Teacher
from nas_compress.training.features import compared_features
from nas_compress.training.fit import teacher_fingerprint, try_out, two_images
from nas_compress.training.hidden_states import compared_hidden_states
from nas_compress.training.images import augmentation_of
from nas_compress.training.loop import Curve, Loop, Phase, Progress, Step, TrainProgress, device_of, resolve_precision
from nas_compress.training.progressive_shrinking import progressive_shrinking
from nas_compress.training.sandwich import sandwich
from nas_compress.training.single_path import single_path
from nas_compress.training.subnets import Plan, resolution_of

__all__ = ["Progress", "Teacher", "TrainProgress", "finetune", "resolve_precision", "train_supernet"]


_ALGORITHMS: Mapping[Algorithm, Callable[[Supernet, SupernetTrainConfig], Plan]] = {
    "sandwich": sandwich,
    "single_path": single_path,
    "progressive_shrinking": progressive_shrinking,
}


def train_supernet(
    supernet: Supernet,
    data: Data,
    config: SupernetTrainConfig | None = None,
    *,
    checkpoint_dir: str | Path | None = None,
    progress: Progress | None = None,
) -> list[EpochLog]:
    """Train a super-network in place, on the device it is on; it is left in evaluation mode.

    Every step trains the sub-networks that the algorithm draws (`sandwich`, `single_path`, `progressive_shrinking`),
    each at its own resolution, on the same examples. Gradients add up. Started by `torchrun`, the processes share each
    step's examples.

    Normalisation statistics are shared by all sub-networks and fit none: recalibrate extracted ones, which takes
    images changed as they were here (`ImageSupernet.augmentation`).

    Args:
        supernet: The super-network.
        data: Its `train` part is used, and some of `val` for the curve.
        config: Training options.
        checkpoint_dir: Folder that keeps the state after each epoch, every five minutes, and where the run is
            interrupted. A run found there goes on where it stood and ends with the same weights, bit for bit on a CPU,
            as one that was never interrupted.
        progress: Called after every step.

    Returns:
        A log entry per epoch, those of earlier processes included.

    Raises:
        DataError: Channels or classes of data and super-network differ, or it does not take the data.
        ConfigError: Super-network or config is of another type, or no parameter wants a gradient.
        CheckpointError: `checkpoint_dir` holds another run.
        TrainingError: Loss, gradient or weights are not finite.
    """
    config = config or SupernetTrainConfig()
    _check_kinds({"supernet": (supernet, Supernet), "config": (config, SupernetTrainConfig)})
    check_network(data, supernet)
    with supernet.activate(largest := supernet.space.largest()):
        try_out("super-network", supernet, data, resolution_of(supernet, largest))
    device = device_of(supernet)
    run = _describe_run("train_supernet", config, data, device) | {"model": supernet.describe()}
    examples = examples_of(data, config, device, resolution_of(supernet, largest))
    if isinstance(supernet, ImageSupernet):
        supernet.augmentation = augmentation_of(config)
    plan = _ALGORITHMS[config.algorithm](supernet, config)
    with processes(device) as group:
        curve = supernet_curve(supernet, data, examples, config.curve, config.seed)
        loop = Loop(supernet, examples, config, group, curve, plan.extra)
        return loop.run(plan.phases, _folder(checkpoint_dir, run), progress)


def finetune(
    subnet: nn.Module,
    data: Data,
    resolution: int | None = None,
    config: FinetuneConfig | DistillConfig | None = None,
    *,
    teacher: Teacher | None = None,
    teacher_resolution: int | None = None,
    checkpoint_dir: str | Path | None = None,
    progress: Progress | None = None,
) -> list[EpochLog]:
    """Train one extracted sub-network further, in place; it is left in evaluation mode.

    It learns from the labels; with a teacher, from its soft outputs on the same examples as well, and, where `features`
    is above 0, from its features (`features.compared_features`; of texts, `hidden_states.compared_hidden_states`). With
    `feature_epochs`, it learns from these alone first: two phases, each with a warm-up, as in TinyBERT.

    Args:
        subnet: A sub-network of any task; of images, any module from (N, channels, resolution, resolution) to logits
            (N, classes).
        data: Its `train` part is used, and some of `val` for the curve and `target`.
        resolution: Height and width of the sub-network's images; None in other domains.
        config: Training options: a `DistillConfig` with a teacher, a `FinetuneConfig` without; their defaults if None.
        teacher: What is learnt from besides the labels: the extracted and recalibrated largest sub-network, say. A
            module is put into evaluation mode, never changed.
        teacher_resolution: Height and width of the teacher's images; those of the sub-network by default.
        checkpoint_dir: As in `train_supernet`.
        progress: Called after every step.

    Returns:
        A log entry per epoch, those of earlier processes included.

    Raises:
        DataError: Channels or classes of the data and those of the sub-network or the teacher differ.
        ConfigError: Config and teacher do not go together, or features are to be learnt and cannot be matched.
        CheckpointError: `checkpoint_dir` holds another run.
        TrainingError: Loss, gradient or weights are not finite.
    """
    config = config or (FinetuneConfig() if teacher is None else DistillConfig())
    size = teacher_resolution or resolution
    _check_kinds({"subnet": (subnet, nn.Module), "config": (config, (FinetuneConfig, DistillConfig))})
    _check_teacher(config, teacher)
    try_out("sub-network", subnet, data, resolution)
    device = device_of(subnet)
    run = _describe_run("finetune", config, data, device) | {
        "teacher": None if teacher is None else teacher_fingerprint(teacher, data, size),
        "resolutions": [resolution, size],
    }
    examples = examples_of(data, config, device, max(resolution or 0, size or 0) or None)
    with processes(device) as group, _features(subnet, teacher, data, (resolution, size), config) as features:
        phases = _finetune_phases(subnet, resolution, teacher, size, config, features)
        loop = Loop(subnet, examples, config, group, _curve(subnet, examples, config, resolution))
        return loop.run(phases, _folder(checkpoint_dir, run), progress)


def _check_kinds(given: Mapping[str, tuple[object, Any]]) -> None:
    """Refuse arguments of other types than theirs, which mypy would find."""
    for name, (value, kinds) in given.items():
        if not isinstance(value, kinds):
            wanted = " or ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
            raise ConfigError(f"{name} is a {type(value).__name__}; wants a {wanted}")


def _curve(subnet: nn.Module, examples: Examples, config: TrainConfig, resolution: int | None) -> Curve:
    def measure() -> dict[str, float]:
        return {"network": score(subnet, examples, config.curve, resolution)}

    return measure if config.curve else dict


def _finetune_phases(
    subnet: nn.Module,
    resolution: int | None,
    teacher: Teacher | None,
    size: int | None,
    config: FinetuneConfig | DistillConfig,
    features: Callable[[], Tensor] | None,
) -> list[Phase]:
    rate, warmup = config.peak_lr, config.warmup_epochs
    if teacher is None or not isinstance(config, DistillConfig):
        return [Phase(config.epochs, rate, warmup, _labels_step(subnet, resolution, config))]
    phases = [
        Phase(config.epochs, rate, warmup, _distillation_step(subnet, resolution, teacher, size, config, features))
    ]
    if features is not None and config.feature_epochs:
        alone = _features_step(subnet, resolution, teacher, size, features)
        phases.insert(0, Phase(config.feature_epochs, rate, warmup, alone, name="features"))
    return phases


def _labels_step(subnet: nn.Module, resolution: int | None, config: FinetuneConfig | DistillConfig) -> Step:
    def step(batch: Batch, _: np.random.Generator, scale: float) -> tuple[Answers, Tensor]:
        answers = batch.answers(subnet, resolution)
        loss = batch.loss(answers, None, config)
        (loss * scale).backward()  # type: ignore[no-untyped-call]
        return answers.detach(), loss.detach()

    return step


def _distillation_step(
    subnet: nn.Module,
    resolution: int | None,
    teacher: Teacher,
    size: int | None,
    config: DistillConfig,
    features: Callable[[], Tensor] | None,
) -> Step:
    def step(batch: Batch, _: np.random.Generator, scale: float) -> tuple[Answers, Tensor]:
        with torch.no_grad():
            soft = batch.answers(teacher, size).logits
        answers = batch.answers(subnet, resolution)
        weights = {"weight": config.distillation, "temperature": config.temperature}
        loss = batch.loss(answers, soft, config, **weights)
        if features is not None and config.features:
            loss = loss + config.features * features()
        (loss * scale).backward()  # type: ignore[no-untyped-call]
        return answers.detach(), loss.detach()

    return step


def _features_step(
    subnet: nn.Module, resolution: int | None, teacher: Teacher, size: int | None, features: Callable[[], Tensor]
) -> Step:
    def step(batch: Batch, _: np.random.Generator, scale: float) -> tuple[Answers, Tensor]:
        with torch.no_grad():
            batch.answers(teacher, size)
        answers = batch.answers(subnet, resolution)
        loss = features()
        (loss * scale).backward()  # type: ignore[no-untyped-call]
        return answers.detach(), loss.detach()

    return step


def _features(
    subnet: nn.Module,
    teacher: Teacher | None,
    data: Data,
    sizes: tuple[int | None, int | None],
    config: FinetuneConfig | DistillConfig,
) -> AbstractContextManager[Callable[[], Tensor] | None]:
    """Return a context with what measures the difference of the features; None where that does not count."""
    if _feature_option(config) is None or not isinstance(teacher, nn.Module):
        return nullcontext()
    if isinstance(data, TextData):
        inputs = (rows.to(device_of(subnet)) for rows in data.train.rows(torch.arange(2)))
        return compared_hidden_states(subnet, teacher, tuple(inputs))
    if not isinstance(data, ImageData):
        option = _feature_option(config)
        raise ConfigError(f"{option} is for images, sentences and questions; with data {data.name!r} set it to 0")
    images, theirs = (two_images(data, size).to(device_of(subnet)) for size in sizes)
    return compared_features(subnet, teacher, images, theirs)


def _feature_option(config: FinetuneConfig | DistillConfig) -> str | None:
    """Return the option by which features are learnt, with its value; None where they are not."""
    if not isinstance(config, DistillConfig):
        return None
    values = {"features": config.features, "feature_epochs": config.feature_epochs}
    return next((f"{name} = {value:g}" for name, value in values.items() if value), None)


def _check_teacher(config: FinetuneConfig | DistillConfig, teacher: Teacher | None) -> None:
    if isinstance(config, DistillConfig) == (teacher is None):
        got = "no teacher" if teacher is None else "a teacher"
        raise ConfigError(f"{type(config).__name__} and {got} do not go together; a DistillConfig wants one")
    option = _feature_option(config)
    if option is not None and not isinstance(teacher, nn.Module):
        raise ConfigError(f"{option} wants a module as its teacher, got {type(teacher).__name__}; set it to 0")


def _describe_run(kind: str, config: TrainConfig, data: Data, device: torch.device) -> dict[str, Any]:
    options: dict[str, Any] = config.model_dump()
    options |= {"precision": resolve_precision(config.precision, device), "lr": config.peak_lr}
    options |= {"momentum": config.nesterov} if config.optimizer == "sgd" else {}
    return {"kind": kind, "config": options, "data": f"{data.name} {data.fingerprint}"}


def _folder(path: str | Path | None, run: Mapping[str, Any]) -> RunFolder | None:
    return None if path is None else RunFolder(path, run)
