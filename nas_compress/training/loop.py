"""Epochs and steps of training: order, augmentation, learning rate, precision, and where a run goes on."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from nas_compress.allocator import keep_large_blocks
from nas_compress.data.augment import Augmentation
from nas_compress.data.base import ImageData, resize
from nas_compress.errors import TrainingError
from nas_compress.training.checkpoint import EpochLog, RunFolder
from nas_compress.training.config import Precision, TrainConfig
from nas_compress.training.optimizer import make_optimizer, optimizer_state, restore_state
from nas_compress.training.schedule import learning_rate

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

Teacher = nn.Module | Callable[[Tensor], Tensor]
"""Maps images (N, channels, r, r) to logits (N, classes): a module, or a session on the CPU (of an ONNX file)."""


def resolve_precision(precision: Precision, device: torch.device) -> Precision:
    """Return what `"auto"` stands for on a device: bf16 on GPUs that compute in it, else fp32.

    CPUs train these nets faster in fp32, those with AMX too: torch's bf16 depthwise convolutions are slow.
    """
    if precision != "auto":
        return precision
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


class Batch:
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

    def logits(self, network: Teacher, resolution: int) -> Tensor:
        """Return a network's fp32 logits at a resolution."""
        if not isinstance(network, nn.Module):
            return network(self.at(resolution).cpu()).to(self.labels.device)
        with torch.autocast(self.labels.device.type, torch.bfloat16, enabled=self._bf16):
            output: Tensor = network(self.at(resolution))
        return output.float()


Step = Callable[[Batch, np.random.Generator], tuple[Tensor, Tensor]]
"""Computes and back-propagates one step; returns logits and loss of its first sub-network."""


class Loop:
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
        self._device = device_of(module)
        keep_large_blocks()
        self._precision = resolve_precision(config.precision, self._device)
        # Stored images are augmented at their own size, others at the largest size that is needed.
        self._base = data.native_resolution or largest_resolution
        self._augment = None if config.augment is None else Augmentation(**config.augment.model_dump())
        self._batch_size = min(config.batch_size, len(data.train))
        self._steps = len(data.train) // self._batch_size
        self._optimizer = make_optimizer(module, config)

    def run(self, step: Step, folder: RunFolder | None, progress: Progress | None) -> list[EpochLog]:
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

    def _epoch(self, epoch: int, step: Step, progress: Progress | None) -> EpochLog:
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

    def _batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the steps' images; an incomplete last batch is left out, another one in each epoch."""
        seed = self._config.seed
        order = torch.randperm(len(self._data.train), generator=_generator(seed, _ORDER, epoch, 0))
        for index in range(self._steps):
            chosen = order[index * self._batch_size : (index + 1) * self._batch_size]
            images = self._data.train.images(chosen, self._base).to(self._device)
            if self._augment is not None:
                images = self._augment(images, self._data.black, _generator(seed, _AUGMENT, epoch, index))
            yield Batch(images, self._data.train.labels[chosen].to(self._device), self._precision)

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


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module's parameters."""
    return next(module.parameters()).device


def _seed(*counters: int) -> int:
    return int(np.random.SeedSequence(counters).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _generator(*counters: int) -> torch.Generator:
    return torch.Generator().manual_seed(_seed(*counters))
