"""The faster depthwise convolution computes what torch's computes, gradients included."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from nas_compress.elastic.depthwise import depthwise_conv2d


@pytest.mark.parametrize("size", [3, 5, 7, 9])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(3, 16, 12, 12), (2, 24, 4, 4), (2, 5, 9, 7), (1, 16, 1, 1)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_output_and_gradients_equal_those_of_torch(
    size: int, stride: int, shape: tuple[int, ...], memory_format: torch.memory_format
) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(shape, generator=generator).contiguous(memory_format=memory_format)
    kernel = torch.randn(shape[1], 1, size, size, generator=generator)
    outcomes = []
    for convolve in (
        depthwise_conv2d,
        lambda x, w, s: F.conv2d(x, w, None, s, size // 2, groups=shape[1]),
    ):
        x, weight = values.clone().requires_grad_(), kernel.clone().requires_grad_()
        y = convolve(x, weight, stride)
        (y * torch.randn(y.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
        outcomes.append((y, x.grad, weight.grad))
    for ours, theirs in zip(*outcomes, strict=True):
        assert ours is not None and theirs is not None
        assert torch.allclose(ours, theirs, atol=1e-4, rtol=1e-4)


def test_bf16_autocast_keeps_working() -> None:
    x, weight = torch.randn(2, 8, 6, 6), torch.randn(8, 1, 5, 5, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = depthwise_conv2d(x, weight)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert weight.grad is not None


def test_frozen_weights_get_no_gradient() -> None:
    x, weight = torch.randn(2, 8, 6, 6, requires_grad=True), torch.randn(8, 1, 5, 5)
    depthwise_conv2d(x, weight).sum().backward()
    assert x.grad is not None and weight.grad is None
