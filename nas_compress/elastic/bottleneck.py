"""The bottleneck block of ResNets, plain and with elastic channels."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from nas_compress.elastic.channels import by_importance, norm_tensors, permute
from nas_compress.elastic.conv import ElasticConv2d
from nas_compress.elastic.norm import ElasticBatchNorm2d


class ElasticConvNorm(nn.Module):
    """A convolution without bias and its batch normalisation, with elastic channels.

    Args:
        in_channels: The most input channels.
        out_channels: The most output channels.
        kernel_size: Height and width of the kernel.
        stride: Stride in both directions.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = ElasticConv2d(in_channels, out_channels, kernel_size, stride=stride)
        self.norm = ElasticBatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, ceil(H / stride), ceil(W / stride))."""
        return cast(Tensor, self.norm(self.conv(x)))

    def set_active(self, in_channels: int, out_channels: int) -> None:
        """Use the leading channels."""
        self.conv.active_in = in_channels
        self.conv.active_out = self.norm.active_features = out_channels

    def extract(self) -> nn.Sequential:
        """Return the active part with plain layers."""
        return nn.Sequential(self.conv.extract(), self.norm.extract())

    def permute_outputs(self, order: Tensor) -> None:
        """Reorder the output channels."""
        permute([self.conv.weight, *norm_tensors(self.norm)], order)


class Bottleneck(nn.Module):
    """Reduce, 3x3 convolution, restore, and the input added: as it is, or pooled and projected.

    Source: He et al., 2016, "Deep Residual Learning", figure 5, with the stride in the 3x3 convolution and pooling in
    the projection (He et al., 2019, "Bag of Tricks", figure 2, ResNet-D).

    Args:
        reduce: 1x1 convolution and its normalisation.
        spatial: 3x3 convolution and its normalisation.
        restore: 1x1 convolution and its normalisation.
        project: 1x1 convolution of the input and its normalisation; None where the input is added as it is.
        stride: Stride of the 3x3 convolution and of the pooling before the projection.
    """

    def __init__(
        self, reduce: nn.Module, spatial: nn.Module, restore: nn.Module, project: nn.Module | None, stride: int
    ) -> None:
        super().__init__()
        self.reduce, self.spatial, self.restore = reduce, spatial, restore
        self.pool = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
        self.project = project
        self.act = nn.ReLU()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, ceil(H / stride), ceil(W / stride))."""
        y = self.restore(self.act(self.spatial(self.act(self.reduce(x)))))
        return cast(Tensor, self.act(y + (x if self.project is None else self.project(self.pool(x)))))


class ElasticBottleneck(Bottleneck):
    """A bottleneck with elastic input, middle and output channels.

    Args:
        in_channels: The most input channels.
        middle: The most channels of the 3x3 convolution.
        out_channels: The most output channels.
        stride: See `Bottleneck`.
        projects: Whether the input is projected before it is added; else it has as many channels as the output.
    """

    reduce: ElasticConvNorm
    spatial: ElasticConvNorm
    restore: ElasticConvNorm
    project: ElasticConvNorm | None

    def __init__(self, in_channels: int, middle: int, out_channels: int, *, stride: int, projects: bool) -> None:
        super().__init__(
            ElasticConvNorm(in_channels, middle),
            ElasticConvNorm(middle, middle, 3, stride),
            ElasticConvNorm(middle, out_channels),
            ElasticConvNorm(in_channels, out_channels) if projects else None,
            stride,
        )

    def set_active(self, in_channels: int, middle: int, out_channels: int) -> None:
        """Use the leading channels."""
        self.reduce.set_active(in_channels, middle)
        self.spatial.set_active(middle, middle)
        self.restore.set_active(middle, out_channels)
        if self.project is not None:
            self.project.set_active(in_channels, out_channels)

    def extract(self) -> Bottleneck:
        """Return the active part with plain layers."""
        project = None if self.project is None else self.project.extract()
        return Bottleneck(self.reduce.extract(), self.spatial.extract(), self.restore.extract(), project, self.stride)

    def sort_middle(self) -> None:
        """Reorder the channels before and after the 3x3 convolution by importance."""
        for writer, reader in ((self.spatial, self.restore), (self.reduce, self.spatial)):
            order = by_importance(reader.conv.weight)
            writer.permute_outputs(order)
            permute([reader.conv.weight], order, dim=1)

    @property
    def readers(self) -> list[Tensor]:
        """The weights that read the block's input, shape (channels, in, 1, 1) each."""
        return [self.reduce.conv.weight, *([] if self.project is None else [self.project.conv.weight])]

    @property
    def writers(self) -> list[ElasticConvNorm]:
        """The layers whose results are added up to the block's output."""
        return [self.restore, *([] if self.project is None else [self.project])]
