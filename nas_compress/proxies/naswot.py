"""How differently a network's activations fire for different samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nas_compress.errors import EvaluationError
from nas_compress.proxies.base import Probe, Watch, finite, modes, samples_of
from nas_compress.supernets.base import Inputs

ACTIVATIONS = {"relu", "hardtanh", "leaky_relu", "gelu", "silu", "hardswish"}
"""Operations whose code of a unit is whether its input is positive; ReLU6 runs as `hardtanh`."""


def naswot(module: nn.Module, inputs: Inputs) -> float:
    """Return log |det K|, K[i, j] the number of activations with the same code for samples i and j; higher is better.

    The code of an activation is 1 where its input is positive. Published for ReLU; for GELU, SiLU and h-swish, which
    are close to 0 for negative inputs, the same code is used.

    Source: Mellor et al., 2021, "Neural Architecture Search without Training", equation 2.

    Args:
        module: The network, initialised.
        inputs: At least two samples.

    Raises:
        EvaluationError: There is one sample, the network has no such activations or cannot be run, or two samples have
            the same codes.
    """
    samples = samples_of(inputs, "naswot")
    kernel = torch.zeros(len(samples[0]), len(samples[0]), dtype=torch.float64)

    def see(operation: str, arguments: Sequence[Any]) -> None:
        if operation.removesuffix("_") in ACTIVATIONS:
            if len(arguments[0]) != len(kernel):
                raise EvaluationError(
                    f"naswot: an activation of shape {tuple(arguments[0].shape)} has not the batch first"
                )
            kernel.add_(agreement(arguments[0] > 0).cpu())

    with modes(module), torch.no_grad():
        probe = Probe(module)
        with Watch(see):
            probe(samples)
    if not kernel.any():
        raise EvaluationError(f"naswot: the network has no activation; wants one of {', '.join(sorted(ACTIVATIONS))}")
    sign, log_determinant = torch.linalg.slogdet(kernel)
    if sign <= 0:
        raise EvaluationError("naswot: two samples have the same activations, or very nearly so")
    return finite(log_determinant, "naswot")


def agreement(codes: Tensor) -> Tensor:
    """Return in how many places the rows of 0 and 1, shape (N, ...), agree; shape (N, N)."""
    rows = codes.flatten(1).float()
    ones = rows.sum(1)
    return (rows.shape[1] - ones[:, None] - ones[None, :] + 2 * rows @ rows.T).double()
