"""The sandwich rule: the largest, the smallest and random sub-networks in every step.

Source: Yu & Huang, 2019, "Universally Slimmable Networks and Improved Training Techniques", sections 3.2 (the rule) and
3.3 (in-place distillation); with two random ones as in Wang et al., 2021, "AttentiveNAS", section 3.1.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from nas_compress.supernets.base import Supernet
from nas_compress.training.config import SupernetTrainConfig
from nas_compress.training.examples import Answers, Batch
from nas_compress.training.loop import Phase
from nas_compress.training.samplers import SandwichSampler
from nas_compress.training.subnets import Plan, train_subnets


def sandwich(supernet: Supernet, config: SupernetTrainConfig) -> Plan:
    """Return how the sandwich rule trains: the largest learns from the labels, the others from its soft outputs."""
    sampler, largest = SandwichSampler(config.subnets_per_step), supernet.space.largest()

    def step(batch: Batch, rng: np.random.Generator, scale: float) -> tuple[Answers, Tensor]:
        architectures = sampler(supernet.space, rng)
        return train_subnets(supernet, batch, architectures, config, scale, teaches=largest)

    return Plan([Phase(config.epochs, config.peak_lr, config.warmup_epochs, step)])
