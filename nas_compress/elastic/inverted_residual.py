"""The inverted residual block, plain and with elastic kernel size and expand ratio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn

from nas_compress.elastic.channels import by_importance, norm_tensors, permute
from nas_compress.elastic.conv import ElasticConv2d, ElasticDepthwiseConv2d
from nas_compress.elastic.norm import ElasticBatchNorm2d
from nas_compress.elastic.squeeze_excite import ElasticSqueezeExcite, SqueezeExcite
from nas_compress.supernets.widths import make_divisible

ACTIVATIONS: Mapping[str, type[nn.Module]] = {"relu": nn.ReLU, "relu6": nn.ReLU6, "hswish": nn.Hardswish}


class InvertedResidual(nn.Module):
    """Expand, depthwise convolution, optional squeeze-and-excitation, project, and a residual where shapes allow.

    Source: Howard et al., 2019, "Searching for MobileNetV3", figure 4.

    Args:
        expand: 1x1 convolution and its normalisation; None for a block that does not expand.
        depthwise: Depthwise convolution and its normalisation.
        gate: Squeeze-and-excitation, or None.
        project: 1x1 convolution and its normalisation.
        activation: `"relu"` or `"hswish"`.
        residual: Whether the input is added to the output.
    """

    def __init__(
        self,
        expand: tuple[nn.Module, nn.Module] | None,
        depthwise: tuple[nn.Module, nn.Module],
        gate: nn.Module | None,
        project: tuple[nn.Module, nn.Module],
        activation: str,
        residual: bool,
    ) -> None:
        super().__init__()
        if expand is not None:
            self.expand_conv, self.expand_norm = expand
        self.depthwise_conv, self.depthwise_norm = depthwise
        self.gate = gate
        self.project_conv, self.project_norm = project
        self.act = ACTIVATIONS[activation](inplace=True)
        self.expands = expand is not None
        self.activation = activation
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, ceil(H / stride), ceil(W / stride))."""
        y = self.act(self.expand_norm(self.expand_conv(x))) if self.expands else x
        y = self.act(self.depthwise_norm(self.depthwise_conv(y)))
        if self.gate is not None:
            y = self.gate(y)
        y = self.project_norm(self.project_conv(y))
        return cast(Tensor, x + y if self.residual else y)


class ElasticInvertedResidual(InvertedResidual):
    """An inverted residual with elastic kernel size and expand ratio.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        kernel_sizes: Kernel sizes to choose from.
        expand_ratios: Expand ratios to choose from.
        stride: Stride of the depthwise convolution.
        activation: `"relu"` or `"hswish"`.
        squeeze_excite: Whether the block has squeeze-and-excitation.
    """

    expand_conv: ElasticConv2d
    expand_norm: ElasticBatchNorm2d
    depthwise_conv: ElasticDepthwiseConv2d
    depthwise_norm: ElasticBatchNorm2d
    gate: ElasticSqueezeExcite | None
    project_conv: ElasticConv2d
    project_norm: ElasticBatchNorm2d

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_sizes: tuple[int, ...],
        expand_ratios: tuple[float, ...],
        stride: int,
        activation: str,
        squeeze_excite: bool,
    ) -> None:
        middle = make_divisible(round(in_channels * max(expand_ratios)))
        super().__init__(
            (ElasticConv2d(in_channels, middle), ElasticBatchNorm2d(middle)),
            (ElasticDepthwiseConv2d(middle, kernel_sizes, stride), ElasticBatchNorm2d(middle)),
            ElasticSqueezeExcite(middle) if squeeze_excite else None,
            (ElasticConv2d(middle, out_channels), ElasticBatchNorm2d(out_channels)),
            activation,
            residual=stride == 1 and in_channels == out_channels,
        )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.stride = stride

    def middle_channels(self, expand_ratio: float) -> int:
        """Return the channels between the two 1x1 convolutions."""
        return make_divisible(round(self.in_channels * expand_ratio))

    def set_active(self, kernel_size: int, expand_ratio: float) -> None:
        """Use one kernel size and one expand ratio."""
        middle = self.middle_channels(expand_ratio)
        self.expand_conv.active_out = self.expand_norm.active_features = middle
        self.depthwise_conv.active_channels = self.depthwise_norm.active_features = middle
        self.depthwise_conv.active_kernel = kernel_size
        if self.gate is not None:
            self.gate.set_channels(middle)
        self.project_conv.active_in = middle

    def extract(self) -> InvertedResidual:
        """Return the active part with plain layers."""
        gate: SqueezeExcite | None = None if self.gate is None else self.gate.extract()
        return InvertedResidual(
            (self.expand_conv.extract(), self.expand_norm.extract()),
            (self.depthwise_conv.extract(), self.depthwise_norm.extract()),
            gate,
            (self.project_conv.extract(), self.project_norm.extract()),
            self.activation,
            self.residual,
        )

    def sort_channels(self) -> None:
        """Reorder the middle channels by importance; the largest block's output stays the same."""
        order = by_importance(self.project_conv.weight)
        permute([self.project_conv.weight], order, dim=1)
        permute([self.depthwise_conv.weight, *norm_tensors(self.depthwise_norm)], order)
        permute([self.expand_conv.weight, *norm_tensors(self.expand_norm)], order)
        if self.gate is not None:
            self.gate.permute_channels(order)
