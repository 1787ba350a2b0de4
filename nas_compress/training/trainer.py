"""Training of super-networks (all sub-networks at once) and of single sub-networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_compress.data.base import ImageData, batches, check_fit
from nas_compress.errors import ConfigError, DataError, EvaluationError, first_line
from nas_compress.supernets.base import ImageSupernet
from nas_compress.training.checkpoint import EpochLog, RunFolder
from nas_compress.training.config import DistillConfig, FinetuneConfig, SupernetTrainConfig, TrainConfig
from nas_compress.training.distillation import distillation_loss
from nas_compress.training.features import compared_features
from nas_compress.training.loop import Batch, Loop, Progress, Step, Teacher, TrainProgress, device_of, resolve_precision
from nas_compress.training.samplers import Sampler, SandwichSampler, UniformSampler
from nas_compress.weights import hash_tensors

__all__ = [
    "Progress",
    "Teacher",
    "TrainProgress",
    "finetune",
    "resolve_precision",
    "teacher_fingerprint",
    "train_supernet",
    "try_out",
]


def train_supernet(
    supernet: ImageSupernet,
    data: ImageData,
    config: SupernetTrainConfig | None = None,
    *,
    checkpoint_dir: str | Path | None = None,
    progress: Progress | None = None,
) -> list[EpochLog]:
    """Train a super-network in place, on the device it is on; it is left in evaluation mode.

    Every step trains the sub-networks that the sampler draws, each at its own resolution, on the same images.
    Gradients add up. The largest sub-network, where it is drawn, learns from the labels and the ones after it
    from its detached soft outputs (in-place distillation; Yu & Huang, 2019, "Universally Slimmable Networks",
    section 3.3); without it all learn from the labels.

    Normalisation statistics are shared by all sub-networks and fit none: recalibrate extracted ones.

    Args:
        supernet: The super-network.
        data: Its `train` part is used, the others are not looked at.
        config: Training options.
        checkpoint_dir: Folder that keeps the state after each epoch. A run found there goes on where it stood
            and ends with the same weights, bit for bit on a CPU, as one that was never interrupted.
        progress: Called after every step.

    Returns:
        A log entry per epoch, those of earlier processes included.

    Raises:
        DataError: Channels or classes of data and super-network differ.
        CheckpointError: `checkpoint_dir` holds another run.
        TrainingError: The loss is not finite.
    """
    config = config or SupernetTrainConfig()
    check_fit(data, supernet.in_channels, supernet.num_classes)
    run = _describe_run("train_supernet", config, data, device_of(supernet)) | {"model": supernet.describe()}
    loop = Loop(supernet, data, config, supernet.resolution(supernet.space.largest()))
    return loop.run(_supernet_step(supernet, config), _folder(checkpoint_dir, run), progress)


def finetune(
    subnet: nn.Module,
    data: ImageData,
    resolution: int,
    config: FinetuneConfig | DistillConfig | None = None,
    *,
    teacher: Teacher | None = None,
    teacher_resolution: int | None = None,
    checkpoint_dir: str | Path | None = None,
    progress: Progress | None = None,
) -> list[EpochLog]:
    """Train one extracted sub-network further, in place; it is left in evaluation mode.

    It learns from the labels; with a teacher, from its soft outputs on the same images as well, and, where `features`
    is above 0, from its features (`features.compared_features`).

    Args:
        subnet: A module from images (N, channels, resolution, resolution) to logits (N, classes).
        data: Its `train` part is used, the others are not looked at.
        resolution: Height and width of the sub-network's images.
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
        TrainingError: The loss is not finite.
    """
    config = config or (FinetuneConfig() if teacher is None else DistillConfig())
    size = teacher_resolution or resolution
    _check_teacher(config, teacher)
    try_out("sub-network", subnet, data, resolution)
    run = _describe_run("finetune", config, data, device_of(subnet)) | {
        "weights": hash_tensors(subnet.state_dict()),
        "teacher": None if teacher is None else teacher_fingerprint(teacher, data, size),
        "resolutions": [resolution, size],
    }
    loop = Loop(subnet, data, config, max(resolution, size))
    folder = _folder(checkpoint_dir, run)
    if teacher is None or not isinstance(config, DistillConfig):
        return loop.run(_labels_step(subnet, resolution, config), folder, progress)
    with _features(subnet, teacher, data, (resolution, size), config) as features:
        step = _distillation_step(subnet, resolution, teacher, size, config, features)
        return loop.run(step, folder, progress)


def _supernet_step(supernet: ImageSupernet, config: SupernetTrainConfig) -> Step:
    count = config.subnets_per_step
    sampler: Sampler = SandwichSampler(count) if config.sampler == "sandwich" else UniformSampler(count)
    largest = supernet.space.largest()

    def step(batch: Batch, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        outcomes: list[tuple[Tensor, Tensor]] = []
        teacher: Tensor | None = None
        for architecture in sampler(supernet.space, rng):
            with supernet.activate(architecture):
                logits = batch.logits(supernet, supernet.resolution(architecture))
            loss = distillation_loss(logits, batch.labels, teacher, weight=1.0, label_smoothing=config.label_smoothing)
            loss.backward()  # type: ignore[no-untyped-call]
            outcomes.append((logits.detach(), loss.detach()))
            if architecture == largest:
                teacher = logits.detach()
        return outcomes[0]

    return step


def _labels_step(subnet: nn.Module, resolution: int, config: FinetuneConfig | DistillConfig) -> Step:
    def step(batch: Batch, _: np.random.Generator) -> tuple[Tensor, Tensor]:
        logits = batch.logits(subnet, resolution)
        loss = distillation_loss(logits, batch.labels, None, weight=0, label_smoothing=config.label_smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        return logits.detach(), loss.detach()

    return step


def _distillation_step(
    subnet: nn.Module,
    resolution: int,
    teacher: Teacher,
    size: int,
    config: DistillConfig,
    features: Callable[[], Tensor] | None,
) -> Step:
    def step(batch: Batch, _: np.random.Generator) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            soft = batch.logits(teacher, size)
        logits = batch.logits(subnet, resolution)
        loss = distillation_loss(
            logits,
            batch.labels,
            soft,
            weight=config.distillation,
            label_smoothing=config.label_smoothing,
            temperature=config.temperature,
        )
        if features is not None:
            loss = loss + config.features * features()
        loss.backward()  # type: ignore[no-untyped-call]
        return logits.detach(), loss.detach()

    return step


def _features(
    subnet: nn.Module, teacher: Teacher, data: ImageData, sizes: tuple[int, int], config: DistillConfig
) -> AbstractContextManager[Callable[[], Tensor] | None]:
    """Return a context with what measures the difference of the features; None where that does not count."""
    if not config.features or not isinstance(teacher, nn.Module):
        return nullcontext()
    images, theirs = (_two_images(data, size).to(device_of(subnet)) for size in sizes)
    return compared_features(subnet, teacher, images, theirs)


def _check_teacher(config: FinetuneConfig | DistillConfig, teacher: Teacher | None) -> None:
    if isinstance(config, DistillConfig) == (teacher is None):
        got = "no teacher" if teacher is None else "a teacher"
        raise ConfigError(f"{type(config).__name__} and {got} do not go together; a DistillConfig wants one")
    if isinstance(config, DistillConfig) and config.features and not isinstance(teacher, nn.Module):
        raise ConfigError(
            f"features = {config.features:g} wants a module as its teacher, got {type(teacher).__name__}; set it to 0"
        )


def teacher_fingerprint(teacher: Teacher, data: ImageData, resolution: int) -> str:
    """Return a hash of a teacher's weights; of some logits where it shows no weights.

    Raises:
        DataError: Channels or classes of the data and those of the teacher differ.
    """
    logits = try_out("teacher", teacher, data, resolution)
    return hash_tensors(teacher.state_dict() if isinstance(teacher, nn.Module) else {"logits": logits})


def _two_images(data: ImageData, resolution: int) -> Tensor:
    images, _ = next(batches(data.train, 2, resolution))
    return images


def try_out(role: str, network: Teacher, data: ImageData, resolution: int) -> Tensor:
    """Check with two images that a network fits the data, and return their logits; it is left in evaluation mode.

    Args:
        role: What it is, for messages.
        network: The network.
        data: Its `train` part is used.
        resolution: Height and width of the images.

    Raises:
        DataError: Channels or classes of the data and those of the network differ.
    """
    images = _two_images(data, resolution)
    try:
        with torch.no_grad():
            if isinstance(network, nn.Module):
                logits: Tensor = network.eval()(images.to(device_of(network)))
            else:
                logits = network(images)
    except (RuntimeError, EvaluationError) as error:
        shape = tuple(images.shape)
        raise DataError(
            f"the {role} does not take the images of {data.name!r}, of shape {shape}: {first_line(error)}"
        ) from error
    if logits.ndim != 2 or len(logits) != len(images):
        raise DataError(f"the {role} gives outputs of shape {tuple(logits.shape)}; want logits (images, classes)")
    check_fit(data, data.channels, logits.shape[1])
    return logits


def _describe_run(kind: str, config: TrainConfig, data: ImageData, device: torch.device) -> dict[str, Any]:
    options: dict[str, Any] = config.model_dump()
    options |= {"precision": resolve_precision(config.precision, device), "lr": config.peak_lr}
    options |= {"momentum": config.nesterov} if config.optimizer == "sgd" else {}
    return {"kind": kind, "config": options, "data": f"{data.name} {data.fingerprint}"}


def _folder(path: str | Path | None, run: Mapping[str, Any]) -> RunFolder | None:
    return None if path is None else RunFolder(path, run)
