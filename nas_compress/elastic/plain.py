"""Plain torch layers with copies of given weights, on the CPU: what elastic layers return from `extract`.

No weights are drawn at random for them: torch's global generator stays as it is, and no time is lost.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def copied(tensor: Tensor) -> Tensor:
    """Return a contiguous copy of a tensor's values on the CPU, without a gradient."""
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def plain_conv(weight: Tensor, bias: Tensor | None, stride: int, padding: int, groups: int = 1) -> nn.Conv2d:
    """Return a convolution with weights of shape (out, in / groups, k, k) and a bias of shape (out,) or none."""
    outside, inside, size = weight.shape[:3]
    sizes = inside * groups, outside, size, stride, padding
    return _with(nn.Conv2d(*sizes, groups=groups, bias=bias is not None, device="meta"), weight, bias)


def plain_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Return a linear layer with weights of shape (out, in) and a bias of shape (out,) or none."""
    outside, inside = weight.shape
    return _with(nn.Linear(inside, outside, bias=bias is not None, device="meta"), weight, bias)


def plain_embedding(weight: Tensor, padding_idx: int | None) -> nn.Embedding:
    """Return an embedding with weights of shape (entries, features)."""
    embedding: nn.Embedding = nn.Embedding.from_pretrained(  # type: ignore[no-untyped-call]
        copied(weight), freeze=False, padding_idx=padding_idx
    )
    return embedding


@torch.no_grad()
def plain_layer_norm(weight: Tensor, bias: Tensor, eps: float) -> nn.LayerNorm:
    """Return a layer normalisation with weight and bias of shape (features,)."""
    norm = nn.LayerNorm(len(weight), eps, dtype=weight.dtype)
    norm.weight.copy_(weight)
    norm.bias.copy_(bias)
    return norm


@torch.no_grad()
def plain_batch_norm(norm: nn.BatchNorm2d, features: int) -> nn.BatchNorm2d:
    """Return a batch normalisation with the leading features of another one."""
    plain = nn.BatchNorm2d(features, norm.eps, norm.momentum, dtype=norm.weight.dtype)
    for own, tensor in zip((*plain.parameters(), *plain.buffers()), (*norm.parameters(), *norm.buffers()), strict=True):
        own.copy_(tensor[:features] if tensor.ndim else tensor)
    return plain


def _with(layer: Layer, weight: Tensor, bias: Tensor | None) -> Layer:
    layer.weight = nn.Parameter(copied(weight))
    if bias is not None:
        layer.bias = nn.Parameter(copied(bias))
    return layer
