"""Synaptic flow: how much of the network's output each weight carries."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor, nn

from nas_compress.proxies.base import (
    Example,
    Probe,
    example_of,
    finite,
    modes,
    ones,
    total,
    weight_names,
    without_batch_norm,
)


def synflow(module: nn.Module, example: Example, *, normalisation: bool = False) -> float:
    """Return sum |theta dR / dtheta|, R the sum of the outputs for an input of ones; higher is better.

    All parameters are replaced by their absolute values, batch norms by the identity, and it is computed in double
    precision: values of deep networks exceed single precision. Layer norms stay, as in published scores of transformers
    (Zhou et al., 2022): without them, attention scores of deep networks exceed double precision. Token ids are used as
    they are; the absolute embeddings take the part of the input of ones.

    Source: Tanaka et al., 2020, "Pruning neural networks without any data by iteratively conserving synaptic flow",
    equation 2; as a score of architectures: Abdelfattah et al., 2021, "Zero-Cost Proxies for Lightweight NAS", eq. 2.

    Args:
        module: The network, initialised.
        example: Shape of the inputs, batch first (one row is used), or inputs of that shape.
        normalisation: Whether batch norms stay, with the statistics of the input, as in DE-NAS.

    Raises:
        EvaluationError: The network has no weights, cannot be run, or its outputs overflow.
    """
    names = weight_names(module)
    inputs = [each[:1] for each in example_of(example, module)]
    with ExitStack() as stack:
        stack.enter_context(modes(module))
        if not normalisation:
            stack.enter_context(without_batch_norm(module))
        probe = Probe(module, _absolute, torch.float64)
        gradients = probe.gradients(total(probe([ones(x) for x in inputs])), names)
    products = [(probe.params[name].detach() * g).abs().sum() for name, g in zip(names, gradients, strict=True)]
    score = sum(map(float, products))
    return finite(score, "synflow")


def _absolute(_: str, values: Tensor) -> Tensor:
    return values.abs()
