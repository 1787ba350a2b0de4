"""Progressive shrinking: the largest network first, then ever more of the space, taught by the largest.

Source: Cai et al., 2020, "Once-for-All: Train One Network and Specialize it for Efficient Deployment", section 3.3.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from nas_compress.supernets.base import Supernet
from nas_compress.training.config import SupernetTrainConfig
from nas_compress.training.examples import Answers, Batch
from nas_compress.training.loop import Extra, Phase, device_of
from nas_compress.training.samplers import Sampler, SandwichSampler, UniformSampler
from nas_compress.training.stages import Stage, stages_of
from nas_compress.training.subnets import Plan, resolution_of, train_subnets

TEACHER_WEIGHT = 0.5
"""Weight of the teacher against the labels."""

FORWARD_AND_BACKWARD = 3.0
"""What training a sub-network takes, in forward passes: the teacher has these alone."""

_DRAWN = 32

SUM_OF_BOTH = 2.0
"""What makes the mean of both losses their sum, which Once-for-All minimises and has its learning rates for."""


def progressive_shrinking(supernet: Supernet, config: SupernetTrainConfig) -> Plan:
    """Return how progressive shrinking trains: see `stages` for the stages, which one run goes through.

    The largest network, as the first stage leaves it, is the teacher of all stages after it. Channels are sorted by
    importance before widths become elastic.
    """
    teacher = _Teacher(supernet)
    stages = stages_of(config, supernet.space)
    phases = [_phase(supernet, config, stage, teacher if number else None) for number, stage in enumerate(stages)]
    return Plan(phases, Extra(teacher.state, teacher.restore))


class _Teacher:
    """The largest sub-network as it was when training with it began; batch norms take each batch's own statistics.

    Once-for-All's teacher is in training mode: the running statistics of a training that is not over lag behind.
    """

    def __init__(self, supernet: Supernet) -> None:
        self._supernet = supernet
        self._network: nn.Module | None = None

    def take(self) -> None:
        """Copy the largest sub-network, unless that was done."""
        if self._network is None:
            largest = self._supernet.extract(self._supernet.space.largest())
            self._network = largest.to(device_of(self._supernet)).requires_grad_(False).eval()
            for module in self._network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.train().track_running_stats = False  # its own stay as they are

    def logits(self, batch: Batch) -> Tensor:
        """Return what it answers."""
        if self._network is None:
            raise RuntimeError("the teacher is asked before it was taken")
        with torch.no_grad():
            largest = self._supernet.space.largest()
            return batch.answers(self._network, resolution_of(self._supernet, largest)).logits

    def state(self) -> Mapping[str, Tensor]:
        """Return its weights; nothing before it was taken."""
        return {} if self._network is None else self._network.state_dict()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up a state that `state` returned."""
        if state:
            self.take()
            if self._network is not None:
                self._network.load_state_dict(state)


def _phase(supernet: Supernet, config: SupernetTrainConfig, stage: Stage, teacher: _Teacher | None) -> Phase:
    sampler = (SandwichSampler if stage.sandwich else UniformSampler)(stage.subnets_per_step)

    def begin() -> None:
        if teacher is not None:
            teacher.take()
        if stage.sort:
            supernet.sort_by_importance()

    def step(batch: Batch, rng: np.random.Generator, scale: float) -> tuple[Answers, Tensor]:
        architectures = sampler(stage.space, rng)
        if teacher is None:
            return train_subnets(supernet, batch, architectures, config, scale)
        soft = teacher.logits(batch)
        return train_subnets(
            supernet, batch, architectures, config, SUM_OF_BOTH * scale, teacher=soft, weight=TEACHER_WEIGHT
        )

    work = _work(supernet, sampler, stage, taught=teacher is not None)
    return Phase(stage.epochs, stage.lr, stage.warmup_epochs, step, begin, stage.name, work)


def _work(supernet: Supernet, sampler: Sampler, stage: Stage, *, taught: bool) -> float:
    """Return what a step of a stage comes to, in MACs: a mean over drawn steps."""
    rng = np.random.default_rng(0)
    drawn = [architecture for _ in range(_DRAWN) for architecture in sampler(stage.space, rng)]
    teacher = supernet.macs(supernet.space.largest()) if taught else 0
    return FORWARD_AND_BACKWARD * sum(map(supernet.macs, drawn)) / _DRAWN + teacher
