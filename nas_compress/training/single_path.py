"""Uniform single-path training: random sub-networks alone, from the labels.

Sources: Guo et al., 2020, "Single Path One-Shot Neural Architecture Search with Uniform Sampling", section 3.2; one of
them a step as in HAT (Wang et al., 2020) and AutoFormer (Chen et al., 2021).
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from nas_compress.supernets.base import Supernet
from nas_compress.training.config import SupernetTrainConfig
from nas_compress.training.examples import Answers, Batch
from nas_compress.training.loop import Phase
from nas_compress.training.samplers import UniformSampler
from nas_compress.training.subnets import Plan, train_subnets


def single_path(supernet: Supernet, config: SupernetTrainConfig) -> Plan:
    """Return how single-path training trains."""
    sampler = UniformSampler(config.subnets_per_step)

    def step(batch: Batch, rng: np.random.Generator, scale: float) -> tuple[Answers, Tensor]:
        return train_subnets(supernet, batch, sampler(supernet.space, rng), config, scale)

    return Plan([Phase(config.epochs, config.peak_lr, config.warmup_epochs, step)])
