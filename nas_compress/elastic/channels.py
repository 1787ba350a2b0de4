"""Channel arithmetic and channel reordering shared by elastic layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round a width to a multiple of `divisor`, never below 90 % of it.

    The rule of MobileNetV2 (Sandler et al., 2018) and of all nets derived from it.
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def by_importance(reader: Tensor) -> Tensor:
    """Return the order of channels by falling L1 norm of the weights that read them.

    Args:
        reader: Weights of shape (out, channels, ...) of the layer that reads the channels.
    """
    return reader.detach().abs().transpose(0, 1).flatten(1).sum(1).argsort(descending=True, stable=True)


def permute(tensors: list[Tensor | None], order: Tensor, dim: int = 0) -> None:
    """Reorder the channels of tensors in place along one dimension; None entries are passed over."""
    with torch.no_grad():
        for tensor in tensors:
            if tensor is not None:
                tensor.copy_(tensor.index_select(dim, order))


def norm_tensors(norm: nn.BatchNorm2d) -> list[Tensor | None]:
    """Return the per-channel tensors of a batch normalisation."""
    return [norm.weight, norm.bias, norm.running_mean, norm.running_var]
