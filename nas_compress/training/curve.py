"""The training curve: how good sub-networks are on search-validation examples after each epoch."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from nas_compress.data.base import ImageData
from nas_compress.data.fit import Data
from nas_compress.objectives.calibration import calibrated_subnet
from nas_compress.objectives.modes import evaluating
from nas_compress.supernets.base import ImageSupernet, Supernet
from nas_compress.training.examples import Examples
from nas_compress.training.loop import Curve, device_of
from nas_compress.training.subnets import resolution_of

BATCH = 200
CALIBRATION_IMAGES = 600
"""Training images for the statistics of a sub-network: few, for the curve is drawn after every epoch."""


def score(network: nn.Module, examples: Examples, count: int, resolution: int | None) -> float:
    """Return the share of the rows of `count` search-validation examples that a network tells right, in %.

    Rows are images or sentences; tokens, where sequences are told; and starts and ends of answers.
    """
    count = min(count, examples.validation_size)
    right = rows = 0
    with evaluating(network), torch.no_grad():
        for indices in torch.split(torch.arange(count), BATCH):
            batch = examples.validation(indices, device_of(network))
            right += batch.right(batch.answers(network, resolution))
            rows += len(batch.labels)
    return 100 * right / max(rows, 1)


def supernet_curve(supernet: Supernet, data: Data, examples: Examples, count: int, seed: int) -> Curve:
    """Return what measures the largest, a random and the smallest sub-network, extracted and recalibrated.

    Args:
        supernet: The super-network in training; left as it is.
        data: For the statistics of batch normalisation.
        examples: What they are measured on.
        count: Search-validation examples; 0 for no curve.
        seed: Draws the random one.
    """
    if not count:
        return dict
    space = supernet.space
    random = space.sample(np.random.default_rng(seed), 1)[0]
    chosen = {"largest": space.largest(), "random": random, "smallest": space.smallest()}

    def measure() -> dict[str, float]:
        figures = {}
        for name, architecture in chosen.items():
            if isinstance(supernet, ImageSupernet) and isinstance(data, ImageData):
                subnet = calibrated_subnet(supernet, architecture, data, CALIBRATION_IMAGES)
            else:
                subnet = supernet.extract(architecture)
            subnet.to(device_of(supernet))
            figures[name] = score(subnet, examples, count, resolution_of(supernet, architecture))
        return figures

    return measure
