"""How much each layer of a network loses by quantization, without quantizing the network."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

ROWS = 32
"""Inputs that sensitivities are measured on, at most: one forward pass a layer."""


def sensitivities(
    module: nn.Module, inputs: tuple[Tensor, ...], names: Iterable[str], *, bf16: bool = False
) -> dict[str, float]:
    """Return the error of the outputs when one layer alone is quantized, by the layer's name.

    The error is the mean square of the difference to the fp32 outputs. A layer's input and weight are rounded as int8
    does (8 bits unsigned per tensor, 8 bits signed per output channel, ranges of these very inputs), or as bf16 does.

    Args:
        module: Plain torch layers; left as it was.
        inputs: The inputs, with the batch first; the first `ROWS` rows are used.
        names: Layers with a `weight`, output channels first.
        bf16: Whether the layers are to compute in bf16.
    """
    module = copy.deepcopy(module).eval()
    inputs = tuple(each[:ROWS] for each in inputs)
    errors = {}
    with torch.no_grad():
        reference = module(*inputs)
        for name in names:
            with _rounded(module.get_submodule(name), bf16):
                errors[name] = (module(*inputs) - reference).pow(2).mean().item()
    return errors


@contextmanager
def _rounded(layer: nn.Module, bf16: bool) -> Iterator[None]:
    weight: Any = layer.weight
    before = weight.data
    weight.data = _as_bf16(before) if bf16 else _per_channel(before)
    per_input = _as_bf16 if bf16 else _per_tensor
    hook = layer.register_forward_pre_hook(lambda _, inputs: (per_input(inputs[0]), *inputs[1:]))
    try:
        yield
    finally:
        hook.remove()
        weight.data = before


def _as_bf16(x: Tensor) -> Tensor:
    return x.bfloat16().to(x.dtype)


def _per_tensor(x: Tensor) -> Tensor:
    low, high = min(x.min().item(), 0.0), max(x.max().item(), 0.0)
    scale = max(high - low, 1e-9) / 255
    return torch.fake_quantize_per_tensor_affine(x, scale, min(255, round(-low / scale)), 0, 255)


def _per_channel(weight: Tensor) -> Tensor:
    scales = weight.flatten(1).abs().amax(1).clamp(min=1e-9) / 127.5
    zeros = torch.zeros_like(scales, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scales, zeros, 0, -128, 127)
