"""Squeeze-and-excitation over an elastic number of channels, and its plain form."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.elastic.channels import by_importance, permute
from nas_compress.elastic.conv import ElasticConv2d
from nas_compress.supernets.widths import make_divisible


class SqueezeExcite(nn.Module):
    """Scales channels by a gate computed from their means (Howard et al., 2019, "MobileNetV3").

    Args:
        reduce: 1x1 convolution from the channels to the hidden width.
        expand: 1x1 convolution back.
    """

    def __init__(self, reduce: nn.Conv2d, expand: nn.Conv2d) -> None:
        super().__init__()
        self.reduce = reduce
        self.expand = expand

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        gate = F.hardsigmoid(self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True)))))
        return x * gate


class ElasticSqueezeExcite(SqueezeExcite):
    """Squeeze-and-excitation of the leading channels; the hidden width follows as a quarter of them."""

    def __init__(self, channels: int) -> None:
        hidden = self.hidden_width(channels)
        super().__init__(ElasticConv2d(channels, hidden, bias=True), ElasticConv2d(hidden, channels, bias=True))

    @staticmethod
    def hidden_width(channels: int) -> int:
        """Return the hidden width for a number of channels (reduction 4, multiples of 8)."""
        return make_divisible(channels // 4)

    def set_channels(self, channels: int) -> None:
        """Use the leading `channels` channels."""
        reduce, expand = self._elastic()
        reduce.active_in = expand.active_out = channels
        reduce.active_out = expand.active_in = self.hidden_width(channels)

    def extract(self) -> SqueezeExcite:
        """Return the active part with plain convolutions."""
        reduce, expand = self._elastic()
        return SqueezeExcite(reduce.extract(), expand.extract())

    def permute_channels(self, order: Tensor) -> None:
        """Reorder the channels, and sort the hidden units by importance."""
        permute([self.reduce.weight], order, dim=1)
        permute([self.expand.weight, self.expand.bias], order)
        hidden = by_importance(self.expand.weight)
        permute([self.expand.weight], hidden, dim=1)
        permute([self.reduce.weight, self.reduce.bias], hidden)

    def _elastic(self) -> tuple[ElasticConv2d, ElasticConv2d]:
        return cast(ElasticConv2d, self.reduce), cast(ElasticConv2d, self.expand)
