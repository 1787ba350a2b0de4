"""The training loop, for super-networks (all sub-networks at once) and for single sub-networks."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_compress.allocator import keep_large_blocks
from nas_compress.data.augment import Augmentation
from nas_compress.data.base import ImageData, batches, check_fit, resize
from nas_compress.errors import DataError, TrainingError, first_line
from nas_compress.supernets.base import ImageSupernet
from nas_compress.training.checkpoint import EpochLog, RunFolder
from nas_compress.training.config import FinetuneConfig, Precision, SupernetTrainConfig, TrainConfig
from nas_compress.training.distillation import distillation_loss
from nas_compress.training.optimizer import make_optimizer, optimizer_state, restore_state
from nas_compress.training.samplers import Sampler, SandwichSampler, UniformSampler
from nas_compress.training.schedule import learning_rate
from nas_compress.weights import hash_tensors

log = logging.getLogger(__name__)

_ORDER, _AUGMENT, _SUBNETS, _GLOBAL = range(4)
"""Streams of random numbers; each step draws from generators seeded by (seed, stream, epoch, step)."""


@dataclass(frozen=True)
class TrainProgress:
    """Where a training run stands, given to a progress callback after every step.

    Attributes:
        epoch: Epoch, from 1.
        epochs: Epochs in all.
        step: Step of the epoch, from 1.
        steps: Steps of an epoch.
        loss: Loss of the step's first sub-network (the largest one in the sandwich).
        lr: Learning rate of the step.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    lr: float


Progress = Callable[[TrainProgress], None]


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
    run = _describe_run("train_supernet", config, data, _device(supernet)) | {"model": supernet.describe()}
    loop = _Loop(supernet, data, config, supernet.resolution(supernet.space.largest()))
    return loop.run(_supernet_step(supernet, config), _folder(checkpoint_dir, run), progress)


def finetune(
    subnet: nn.Module,
    data: ImageData,
    resolution: int,
    config: FinetuneConfig | None = None,
    *,
    teacher: nn.Module | None = None,
    teacher_resolution: int | None = None,
    checkpoint_dir: str | Path | None = None,
    progress: Progress | None = None,
) -> list[EpochLog]:
    """Train one extracted sub-network further, in place; it is left in evaluation mode.

    Args:
        subnet: A module from images (N, channels, resolution, resolution) to logits (N, classes).
        data: Its `train` part is used, the others are not looked at.
        resolution: Height and width of the sub-network's images.
        config: Training options.
        teacher: A module whose soft outputs on the same images are learnt besides the labels (the extracted
            and recalibrated largest sub-network, say); put into evaluation mode, never changed.
        teacher_resolution: Height and width of the teacher's images; those of the sub-network by default.
        checkpoint_dir: As in `train_supernet`.
        progress: Called after every step.

    Returns:
        A log entry per epoch, those of earlier processes included.

    Raises:
        DataError: Channels or classes of the data and those of the sub-network or the teacher differ.
        CheckpointError: `checkpoint_dir` holds another run.
        TrainingError: The loss is not finite.
    """
    config = config or FinetuneConfig()
    size = teacher_resolution or resolution
    _try_out("sub-network", subnet, data, resolution)
    if teacher is not None:
        _try_out("teacher", teacher, data, size)
    run = _describe_run("finetune", config, data, _device(subnet)) | {
        "weights": hash_tensors(subnet.state_dict()),
        "teacher": None if teacher is None else hash_tensors(teacher.state_dict()),
        "resolutions": [resolution, size],
    }

    def step(batch: _Batch, _: np.random.Generator) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            soft = None if teacher is None else batch.logits(teacher, size)
        logits = batch.logits(subnet, resolution)
        loss = distillation_loss(
            logits,
            batch.labels,
            soft,
            weight=config.distillation,
            label_smoothing=config.label_smoothing,
            temperature=config.temperature,
        )
        loss.backward()  # type: ignore[no-untyped-call]
        return logits.detach(), loss.detach()

    loop = _Loop(subnet, data, config, max(resolution, size))
    return loop.run(step, _folder(checkpoint_dir, run), progress)


def resolve_precision(precision: Precision, device: torch.device) -> Precision:
    """Return what `"auto"` stands for on a device: bf16 on GPUs that compute in it, else fp32.

    CPUs train these nets faster in fp32, those with AMX too: torch's bf16 depthwise convolutions are slow.
    """
    if precision != "auto":
        return precision
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


class _Batch:
    """One step's images, augmented once and resized for each sub-network that asks."""

    def __init__(self, images: Tensor, labels: Tensor, precision: Precision) -> None:
        self.labels = labels
        self._images = images
        self._sizes: dict[int, Tensor] = {}
        self._bf16 = precision == "bf16"

    def at(self, resolution: int) -> Tensor:
        """Return the images at a resolution, channels last (nearly twice as fast for depthwise nets on CPUs)."""
        if resolution not in self._sizes:
            sized = resize(self._images, resolution)
            self._sizes[resolution] = sized.contiguous(memory_format=torch.channels_last)
        return self._sizes[resolution]

    def logits(self, module: nn.Module, resolution: int) -> Tensor:
        """Return a module's fp32 logits at a resolution."""
        with torch.autocast(self.labels.device.type, torch.bfloat16, enabled=self._bf16):
            output: Tensor = module(self.at(resolution))
        return output.float()


_Step = Callable[[_Batch, np.random.Generator], tuple[Tensor, Tensor]]
"""Computes and back-propagates one step; returns logits and loss of its first sub-network."""


def _supernet_step(supernet: ImageSupernet, config: SupernetTrainConfig) -> _Step:
    count = config.subnets_per_step
    sampler: Sampler = SandwichSampler(count) if config.sampler == "sandwich" else UniformSampler(count)
    largest = supernet.space.largest()

    def step(batch: _Batch, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
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


class _Loop:
    """Epochs and steps over one module; all randomness follows from (seed, epoch, step).

    Args:
        module: What is trained.
        data: Where the images come from.
        config: Training options.
        largest_resolution: The largest one that a step asks for.
    """

    def __init__(self, module: nn.Module, data: ImageData, config: TrainConfig, largest_resolution: int) -> None:
        self._module = module
        self._data = data
        self._config = config
        self._device = _device(module)
        keep_large_blocks()
        self._precision = resolve_precision(config.precision, self._device)
        # Stored images are augmented at their own size, others at the largest size that is needed.
        self._base = data.native_resolution or largest_resolution
        self._augment = None if config.augment is None else Augmentation(**config.augment.model_dump())
        self._batch_size = min(config.batch_size, len(data.train))
        self._steps = len(data.train) // self._batch_size
        self._optimizer = make_optimizer(module, config)

    def run(self, step: _Step, folder: RunFolder | None, progress: Progress | None) -> list[EpochLog]:
        """Train from where the folder stands to the last epoch."""
        done, entries = self._resume(folder)
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            for epoch in range(done, self._config.epochs):
                self._module.train()
                entries.append(self._epoch(epoch, step, progress))
                log.info("epoch %d of %d: loss %.4f", epoch + 1, self._config.epochs, entries[-1].loss)
                if folder is not None:
                    folder.save(epoch + 1, entries, self._module, optimizer_state(self._optimizer, self._module))
        self._module.eval()
        return entries

    def _epoch(self, epoch: int, step: _Step, progress: Progress | None) -> EpochLog:
        losses, correct = [], 0
        for index, batch in enumerate(self._batches(epoch)):
            lr = self._set_learning_rate(epoch * self._steps + index)
            torch.manual_seed(_seed(self._config.seed, _GLOBAL, epoch, index))
            self._optimizer.zero_grad(set_to_none=True)
            logits, loss = step(batch, np.random.default_rng((self._config.seed, _SUBNETS, epoch, index)))
            losses.append(float(loss))
            correct += int((logits.argmax(1) == batch.labels).sum())
            if not math.isfinite(losses[-1]):
                raise TrainingError(
                    f"training diverged: the loss is {losses[-1]} in epoch {epoch + 1}, step {index + 1}, at learning "
                    f"rate {lr:.3g}; lower lr (now {self._config.peak_lr:g}) or lengthen warmup_epochs"
                )
            self._optimizer.step()
            if progress is not None:
                progress(TrainProgress(epoch + 1, self._config.epochs, index + 1, self._steps, losses[-1], lr))
        accuracy = 100 * correct / (self._steps * self._batch_size)
        return EpochLog(epoch + 1, sum(losses) / len(losses), accuracy)

    def _batches(self, epoch: int) -> Iterator[_Batch]:
        """Yield the steps' images; an incomplete last batch is left out, another one in each epoch."""
        seed = self._config.seed
        order = torch.randperm(len(self._data.train), generator=_generator(seed, _ORDER, epoch, 0))
        for index in range(self._steps):
            chosen = order[index * self._batch_size : (index + 1) * self._batch_size]
            images = self._data.train.images(chosen, self._base).to(self._device)
            if self._augment is not None:
                images = self._augment(images, self._data.black, _generator(seed, _AUGMENT, epoch, index))
            yield _Batch(images, self._data.train.labels[chosen].to(self._device), self._precision)

    def _set_learning_rate(self, step: int) -> float:
        warmup = round(self._config.warmup_epochs * self._steps)
        lr = learning_rate(step, self._config.epochs * self._steps, warmup, self._config.peak_lr)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        return lr

    def _resume(self, folder: RunFolder | None) -> tuple[int, list[EpochLog]]:
        if folder is None:
            return 0, []
        done, entries, state = folder.load(self._module)
        restore_state(self._optimizer, self._module, state)
        if done:
            log.info("going on after epoch %d of %d from %s", done, self._config.epochs, folder.path)
        return done, entries


def _try_out(role: str, module: nn.Module, data: ImageData, resolution: int) -> None:
    """Check with two images that a module fits the data; it is left in evaluation mode."""
    module.eval()
    images, _ = next(batches(data.train, 2, resolution))
    try:
        with torch.no_grad():
            logits = module(images.to(_device(module)))
    except RuntimeError as error:
        shape = tuple(images.shape)
        raise DataError(
            f"the {role} does not take the images of {data.name!r}, of shape {shape}: {first_line(error)}"
        ) from error
    if logits.ndim != 2 or len(logits) != len(images):
        raise DataError(f"the {role} gives outputs of shape {tuple(logits.shape)}; want logits (images, classes)")
    check_fit(data, data.channels, logits.shape[1])


def _describe_run(kind: str, config: TrainConfig, data: ImageData, device: torch.device) -> dict[str, Any]:
    options: dict[str, Any] = config.model_dump()
    options |= {"precision": resolve_precision(config.precision, device), "lr": config.peak_lr}
    options |= {"momentum": config.nesterov} if config.optimizer == "sgd" else {}
    return {"kind": kind, "config": options, "data": f"{data.name} {data.fingerprint}"}


def _folder(path: str | Path | None, run: Mapping[str, Any]) -> RunFolder | None:
    return None if path is None else RunFolder(path, run)


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def _seed(*counters: int) -> int:
    return int(np.random.SeedSequence(counters).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _generator(*counters: int) -> torch.Generator:
    return torch.Generator().manual_seed(_seed(*counters))
