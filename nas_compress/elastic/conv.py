"""Convolutions with elastic channels and elastic depthwise kernels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.elastic.depthwise import depthwise_conv2d
from nas_compress.elastic.plain import plain_conv


class ElasticConv2d(nn.Conv2d):
    """A dense convolution that uses its leading input and output channels.

    Args:
        in_channels: The most input channels.
        out_channels: The most output channels.
        kernel_size: Height and width of the kernel.
        stride: Stride in both directions.
        padding: Padding on all sides; by default what keeps the size at stride 1.
        bias: Whether it has one.

    Attributes:
        active_in: Number of input channels in use.
        active_out: Number of output channels in use.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        padding: int | None = None,
        bias: bool = False,
    ) -> None:
        padding = kernel_size // 2 if padding is None else padding
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, bias=bias)
        self.active_in = in_channels
        self.active_out = out_channels

    def active_weight(self) -> Tensor:
        """Return the weights in use, shape (active_out, active_in, k, k), as a view."""
        return self.weight[: self.active_out, : self.active_in]

    def active_bias(self) -> Tensor | None:
        """Return the bias in use, shape (active_out,), as a view; None without bias."""
        return None if self.bias is None else self.bias[: self.active_out]

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, active_in, H, W) to (N, active_out, H', W'), of the same height and width by default."""
        return F.conv2d(x, self.active_weight(), self.active_bias(), self.stride, self.padding)

    def extract(self) -> nn.Conv2d:
        """Return the active part as a plain convolution."""
        stride, padding = (int(numbers[0]) for numbers in (self.stride, self.padding))
        return plain_conv(self.active_weight(), self.active_bias(), stride, padding)


class ElasticDepthwiseConv2d(nn.Module):
    """A depthwise convolution with elastic kernel size and channels.

    A smaller kernel is the centre of the next larger one, its entries mixed by a learned matrix that is shared
    by all channels and starts as the identity (Cai et al., 2020, "Once-for-All", section 3.3, "kernel
    transformation matrices").

    Args:
        channels: The largest number of channels.
        kernel_sizes: The odd kernel sizes to choose from.
        stride: Stride in both directions; the padding keeps the size at stride 1.

    Attributes:
        active_channels: Number of leading channels in use.
        active_kernel: Kernel size in use.
    """

    def __init__(self, channels: int, kernel_sizes: Sequence[int], stride: int = 1) -> None:
        super().__init__()
        self.kernel_sizes = sorted(kernel_sizes, reverse=True)
        self.stride = stride
        largest = self.kernel_sizes[0]
        self.weight = nn.Parameter(torch.empty(channels, 1, largest, largest))
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        self.transforms = nn.ParameterDict({f"to{size}": torch.eye(size * size) for size in self.kernel_sizes[1:]})
        self.active_channels = channels
        self.active_kernel = largest

    def active_weight(self) -> Tensor:
        """Return the kernels in use, shape (active_channels, 1, active_kernel, active_kernel)."""
        weight = self.weight[: self.active_channels]
        for size in self.kernel_sizes[1:]:
            if size < self.active_kernel:
                break
            margin = (weight.shape[-1] - size) // 2
            centre = weight[:, :, margin : margin + size, margin : margin + size]
            weight = F.linear(centre.flatten(1), self.transforms[f"to{size}"]).view(-1, 1, size, size)
        return weight

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, active_channels, H, W) to (N, active_channels, ceil(H / stride), ceil(W / stride))."""
        return depthwise_conv2d(x, self.active_weight(), self.stride)

    def extract(self) -> nn.Conv2d:
        """Return the active part as a plain depthwise convolution."""
        return plain_conv(self.active_weight(), None, self.stride, self.active_kernel // 2, self.active_channels)
