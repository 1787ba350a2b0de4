"""Channel arithmetic and channel reordering shared by elastic layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def by_importance(*readers: Tensor) -> Tensor:
    """Return the order of channels by falling L1 norm of the weights that read them.

    Args:
        readers: Weights of shape (out, channels, ...) of each layer that reads the channels.
    """
    norms = sum(reader.detach().abs().transpose(0, 1).flatten(1).sum(1) for reader in readers)
    return torch.as_tensor(norms).argsort(descending=True, stable=True)


def permute(tensors: Sequence[Tensor | None], order: Tensor, dim: int = 0) -> None:
    """Reorder the channels of tensors in place along one dimension; None entries are passed over."""
    with torch.no_grad():
        for tensor in tensors:
            if tensor is not None:
                tensor.copy_(tensor.index_select(dim, order))


def norm_tensors(norm: nn.BatchNorm2d) -> list[Tensor | None]:
    """Return the per-channel tensors of a batch normalisation."""
    return [norm.weight, norm.bias, norm.running_mean, norm.running_var]
