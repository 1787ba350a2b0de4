"""Epochs and steps of training: order, learning rate, gradients, and where a run goes on."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from nas_compress.allocator import keep_large_blocks
from nas_compress.errors import CheckpointError, ConfigError, TrainingError, first_line
from nas_compress.training.average import WeightAverage
from nas_compress.training.checkpoint import EpochLog, Position, RunFolder, TrainingState
from nas_compress.training.config import Precision, TrainConfig
from nas_compress.training.distributed import Processes
from nas_compress.training.examples import Answers, Batch, Examples
from nas_compress.training.interrupt import Interruption
from nas_compress.training.optimizer import make_optimizer, optimizer_state, restore_state
from nas_compress.training.schedule import learning_rate

log = logging.getLogger(__name__)

_ORDER, _AUGMENT, _SUBNETS, _GLOBAL = range(4)
"""Streams of random numbers; each step draws from generators seeded by (seed, stream, epoch, step)."""

SAVE_EVERY = 300.0
"""Seconds after which the state is stored in the middle of an epoch."""


@dataclass(frozen=True)
class TrainProgress:
    """Where a training run stands, given to a progress callback after every step.

    Attributes:
        epoch: Epoch, from 1.
        epochs: Epochs in all.
        step: Step of the epoch, from 1.
        steps: Steps of an epoch.
        share: Part of the run's work that is done, from 0 to 1.
        loss: Loss of the step's first sub-network (the largest one in the sandwich).
        lr: Learning rate of the step.
        stage: Name of the stage; empty where there is one alone.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    share: float
    loss: float
    lr: float
    stage: str = ""


Progress = Callable[[TrainProgress], None]

Step = Callable[[Batch, np.random.Generator, float], tuple[Answers, Tensor]]
"""Computes a step's sub-networks and back-propagates their losses times a factor; returns answers and loss of the
first one."""

Curve = Callable[[], dict[str, float]]
"""Measures the module in training: figures by name."""


@dataclass(frozen=True)
class Phase:
    """A stretch of training with a schedule and an optimizer of its own.

    Attributes:
        epochs: Passes over the training examples.
        lr: Highest learning rate.
        warmup_epochs: Epochs of linear warm-up.
        step: What a step does.
        begin: Called before its first step, and not where a run goes on in the middle of it.
        name: Of the stage.
        work: Of a step, in a unit that is that of all phases of a run.
    """

    epochs: int
    lr: float
    warmup_epochs: float
    step: Step
    begin: Callable[[], None] = lambda: None
    name: str = ""
    work: float = 1.0


@dataclass
class Extra:
    """What a run keeps besides weights and optimizer, as tensors: how to get it, and how to take it up again."""

    state: Callable[[], Mapping[str, Tensor]] = dict
    restore: Callable[[Mapping[str, Tensor]], None] = lambda state: None


def resolve_precision(precision: Precision, device: torch.device) -> Precision:
    """Return what `"auto"` stands for on a device: bf16 on GPUs that compute in it, else fp32.

    CPUs train depthwise nets faster in fp32, those with AMX too: torch's bf16 depthwise convolutions are slow. Nets of
    dense convolutions and transformers gain from bf16 on CPUs that multiply it.
    """
    if precision != "auto":
        return precision
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


@dataclass
class _Tally:
    """Sums over the steps of an epoch so far: loss, right rows, rows."""

    loss: float = 0.0
    right: float = 0.0
    rows: float = 0.0

    def entry(self, epoch: int, steps: int, stage: str, curve: Mapping[str, float]) -> EpochLog:
        return EpochLog(epoch, self.loss / steps, 100 * self.right / self.rows, stage, dict(curve))


class Loop:
    """Epochs and steps over one module; all randomness follows from (seed, epoch, step).

    Args:
        module: What is trained.
        examples: What it is trained on.
        config: Training options.
        processes: The processes that share the work.
        curve: Measures the module after each epoch.
        extra: What a run keeps besides weights and optimizer.
    """

    def __init__(
        self,
        module: nn.Module,
        examples: Examples,
        config: TrainConfig,
        processes: Processes,
        curve: Curve = dict,
        extra: Extra | None = None,
    ) -> None:
        keep_large_blocks()
        self._module = module
        self._examples = examples
        self._config = config
        self._processes = processes
        self._curve = curve
        self._extra = extra or Extra()
        self._device = device_of(module)
        self._batch_size = min(config.batch_size, len(examples))
        if self._batch_size < processes.size:
            raise ConfigError(f"steps of {self._batch_size} examples cannot be shared by {processes.size} processes")
        self._optimizer = make_optimizer(module, config)
        self._average: WeightAverage | None = None
        self._saved = time.monotonic()

    def run(self, phases: Sequence[Phase], folder: RunFolder | None, progress: Progress | None) -> list[EpochLog]:
        """Train from where the folder stands to the end of the last phase."""
        self._processes.copy_from_first(self._module)
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), Interruption() as interruption:
            start, entries = self._resume(phases, folder)
            while start.epoch < sum(phase.epochs for phase in phases) and not self._good_enough(entries, phases):
                run = _Epoch(phases, start.epoch, interruption, folder, progress)
                if start.step == run.within == 0:
                    self._begin(run.phase)
                self._module.train()
                tally = self._steps(run, start, entries)
                entries.append(self._end(run, tally))
                start = Position(start.epoch + 1)
                self._save(folder, start, entries)
                if self._processes.any(interruption.requested):
                    self._stop()
        self._module.eval()
        return entries

    def _begin(self, phase: Phase) -> None:
        """Start a phase: its own optimizer and average, from the weights as they are."""
        phase.begin()
        self._optimizer = make_optimizer(self._module, self._config)
        self._average = None if self._config.ema is None else WeightAverage(self._module, self._config.ema)

    def _steps(self, run: _Epoch, start: Position, entries: list[EpochLog]) -> _Tally:
        """Make the steps of an epoch from `start` on."""
        order = self._examples.order(self._batch_size, _generator(self._config.seed, _ORDER, run.epoch, 0))
        tally = _Tally(*start.sums)
        for index in range(start.step, len(order)):
            lr = self._set_learning_rate(run, index, len(order))
            loss = self._step(run, index, order[index], tally, lr)
            if run.progress is not None:
                at = (run.epoch + 1, run.epochs, index + 1, len(order), run.share((index + 1) / len(order)))
                run.progress(TrainProgress(*at, loss, lr, run.phase.name))
            stop = self._processes.any(run.interruption.requested)
            if stop or time.monotonic() - self._saved > SAVE_EVERY:
                self._save(run.folder, Position(run.epoch, index + 1, (tally.loss, tally.right, tally.rows)), entries)
            if stop:
                self._stop()
        return tally

    def _stop(self) -> None:
        """Raise what Ctrl-C does, once the first process has stored the state: the end of one process ends all."""
        self._processes.wait()
        raise KeyboardInterrupt

    def _step(self, run: _Epoch, index: int, indices: Tensor, tally: _Tally, lr: float) -> float:
        """Make one step; return the loss of its first sub-network."""
        seed, rank = self._config.seed, self._processes.rank
        at = (run.epoch, index) if rank == 0 else (run.epoch, index, rank)
        torch.manual_seed(_seed(seed, _GLOBAL, *at))
        changes = _generator(seed, _AUGMENT, *at)
        self._optimizer.zero_grad(set_to_none=True)
        own = self._processes.share(indices)
        loss = right = rows = 0.0
        for part in own.tensor_split(min(self._config.accumulate, len(own))):
            batch = self._examples.batch(part, changes, self._device)
            share = len(part) * self._processes.size / len(indices)
            subnets = np.random.default_rng((seed, _SUBNETS, run.epoch, index))
            with _statistics_explained(len(part)):
                answers, first = run.phase.step(batch, subnets, share)
            loss, right, rows = loss + share * float(first), right + batch.right(answers), rows + len(batch.labels)
        loss, right, rows = self._processes.total(loss / self._processes.size, right, rows)
        self._processes.average_gradients(self._module)
        norm = float(nn.utils.clip_grad_norm_(self._module.parameters(), self._config.max_norm or math.inf))
        for name, value in (("loss", loss), ("norm of the gradient", norm)):
            if not math.isfinite(value):
                where = f"in epoch {run.epoch + 1}, step {index + 1}, at learning rate {lr:.3g}"
                raise self._diverged(f"the {name} is {value} {where}")
        tally.loss, tally.right, tally.rows = tally.loss + loss, tally.right + right, tally.rows + rows
        self._optimizer.step()
        if self._average is not None:
            self._average.update(self._module)
        return loss

    def _diverged(self, what: str) -> TrainingError:
        remedy = f"lower lr (now {self._config.peak_lr:g}) or lengthen warmup_epochs"
        return TrainingError(f"training diverged: {what}; {remedy}")

    def _end(self, run: _Epoch, tally: _Tally) -> EpochLog:
        """End an epoch; the average of the weights, where there is one, is measured, and is what a phase ends with."""
        self._processes.average_buffers(self._module)
        with nullcontext() if self._average is None else self._average.inside(self._module):
            self._processes.average_buffers(self._module)
            figures = self._processes.agreed(self._curve())
        entry = tally.entry(run.epoch + 1, len(self._examples) // self._batch_size, run.phase.name, figures)
        if self._average is not None and (run.within == run.phase.epochs - 1 or self._good_enough([entry], run.phases)):
            self._average.give_to(self._module)
            self._processes.average_buffers(self._module)
        log.info("epoch %d of %d: loss %.4f %s", entry.epoch, run.epochs, entry.loss, entry.curve or "")
        return entry

    def _good_enough(self, entries: Sequence[EpochLog], phases: Sequence[Phase]) -> bool:
        """Return whether the last epoch reached the target, in the last phase: those before it have other aims."""
        target = self._config.target
        if target is None or not entries or entries[-1].epoch <= sum(phase.epochs for phase in phases[:-1]):
            return False
        return max(entries[-1].curve.values(), default=0.0) >= target

    def _set_learning_rate(self, run: _Epoch, index: int, steps: int) -> float:
        phase = run.phase
        step, total, warmup = run.within * steps + index, phase.epochs * steps, round(phase.warmup_epochs * steps)
        lr = learning_rate(step, total, warmup, phase.lr, self._config.schedule)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        return lr

    def _save(self, folder: RunFolder | None, position: Position, entries: list[EpochLog]) -> None:
        """Store the state, where there is a folder; weights that are not finite end the run before that."""
        if not all(bool(parameter.isfinite().all()) for parameter in self._module.parameters()):
            after = f"epoch {position.epoch}" + (f" and {position.step} steps" if position.step else "")
            raise self._diverged(f"weights are not finite after {after}")
        self._saved = time.monotonic()
        if folder is not None and self._processes.rank == 0:
            average = {} if self._average is None else self._average.state()
            optimizer = optimizer_state(self._optimizer, self._module)
            parts = TrainingState(self._module.state_dict(), optimizer, average, dict(self._extra.state()))
            folder.save(position, entries, parts)

    def _resume(self, phases: Sequence[Phase], folder: RunFolder | None) -> tuple[Position, list[EpochLog]]:
        if folder is None or (found := folder.load(self._module)) is None:
            return Position(0), []
        position, entries, parts = found
        restore_state(self._optimizer, self._module, parts.optimizer)
        try:
            self._extra.restore(parts.extra)
            if self._config.ema is not None:
                self._average = WeightAverage(self._module, self._config.ema)
                self._average.restore(parts.average)
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(f"the state in {folder.path} is damaged ({first_line(error)}); delete it") from error
        total = sum(phase.epochs for phase in phases)
        log.info("going on after epoch %d of %d, step %d, from %s", position.epoch, total, position.step, folder.path)
        return position, entries


class _Epoch:
    """One epoch of a run: which phase it is of, and what it reports to."""

    def __init__(
        self,
        phases: Sequence[Phase],
        epoch: int,
        interruption: Interruption,
        folder: RunFolder | None,
        progress: Progress | None,
    ) -> None:
        self.epoch = epoch
        self.phases = phases
        self.epochs = sum(phase.epochs for phase in phases)
        self.within = epoch
        self.phase = phases[0]
        for self.phase in phases:
            if self.within < self.phase.epochs:
                break
            self.within -= self.phase.epochs
        self.interruption = interruption
        self.folder = folder
        self.progress = progress
        work = [phase.work for phase in phases for _ in range(phase.epochs)]
        self._before, self._all = sum(work[:epoch]), sum(work)

    def share(self, part: float) -> float:
        """Return the part of the run's work that is done after a part of this epoch."""
        return (self._before + part * self.phase.work) / self._all


@contextmanager
def _statistics_explained(examples: int) -> Iterator[None]:
    """Say in terms of the options why batch normalisation has no statistics: of a single value there are none."""
    try:
        yield
    except ValueError as error:
        if examples > 1 or "more than 1 value per channel" not in str(error):
            raise
        raise ConfigError(
            "batch normalisation has no statistics of a single example: lower accumulate, or raise batch_size"
        ) from error


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module's parameters."""
    return next(module.parameters()).device


def _seed(*counters: int) -> int:
    return int(np.random.SeedSequence(counters).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _generator(*counters: int) -> torch.Generator:
    return torch.Generator().manual_seed(_seed(*counters))
