"""How much the samples agree on the direction of training."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from nas_compress.proxies.base import Loss, Probe, cross_entropy, finite, loss_of, modes, tensors_of
from nas_compress.proxies.per_sample import normalised_alone, sample_gradients
from nas_compress.supernets.base import Inputs


def gradsign(module: nn.Module, inputs: Inputs, labels: Any, *, loss: Loss = cross_entropy) -> float:
    """Return sum over weights of |sum over samples of sign(dL_i / dtheta)|; higher is better.

    Batch norm uses the statistics of each sample, as in the published code, which runs every sample alone.

    Source: Zhang and Jia, 2022, "GradSign: Model Performance Inference with Theoretical Insights", algorithm 1.

    Args:
        module: The network, initialised.
        inputs: A batch.
        labels: What `loss` takes; indexed like the inputs.
        loss: Mean loss of a batch: a sum over samples, each with a positive factor.

    Raises:
        EvaluationError: The network has no weights, or cannot be run on one sample.
    """
    samples = tensors_of(inputs)
    with modes(module, batch_statistics=False), normalised_alone(module):
        probe = Probe(module)
        rows = sample_gradients(probe, samples, lambda outputs, of: loss_of(loss, outputs, labels[of]))
        agreed = [each.sign().sum(0).abs().sum(dtype=torch.float64) for each in rows]
    return finite(torch.stack(agreed).sum(), "gradsign")
