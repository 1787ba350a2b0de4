"""Exact MACs and parameters of OFA-style networks for many architectures at once, without torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nas_compress.supernets.mobilenet_config import MobileNetConfig

FloatVector = NDArray[np.float64]
IntMatrix = NDArray[np.int64]
BoolMatrix = NDArray[np.bool_]


@dataclass(frozen=True)
class Slot:
    """One elastic block, whose kernel size and expand ratio are open.

    Attributes:
        in_channels: Input channels.
        out_channels: Output channels.
        stride: Stride of the depthwise convolution.
        size: Height and width of the input in pixels.
        squeeze_excite: Whether it has squeeze-and-excitation.
        hswish: Whether the activation is h-swish (and not ReLU).
    """

    in_channels: int
    out_channels: int
    stride: int
    size: int
    squeeze_excite: bool
    hswish: bool

    @property
    def out_size(self) -> int:
        """Height and width of the output in pixels."""
        return -(-self.size // self.stride)

    @property
    def residual(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.in_channels == self.out_channels

    def middle(self, expand_ratio: float) -> int:
        """Return the channels between the two 1x1 convolutions."""
        return divisible(round(self.in_channels * expand_ratio))

    def cost(self, kernel_size: int, expand_ratio: float) -> tuple[int, int]:
        """Return MACs and parameters."""
        middle = self.middle(expand_ratio)
        expand, depthwise, project = self.in_channels * middle, kernel_size**2 * middle, middle * self.out_channels
        macs = expand * self.size**2 + (depthwise + project) * self.out_size**2
        norms = 2 * (2 * middle + self.out_channels)
        if not self.squeeze_excite:
            return macs, expand + depthwise + project + norms
        hidden = divisible(middle // 4)
        gate = 2 * middle * hidden
        return macs + gate, expand + depthwise + project + norms + gate + middle + hidden


class MobileNetCost:
    """Costs of the sub-networks of one configuration at one resolution.

    Args:
        config: The network.
        resolution: Input height and width in pixels.
    """

    def __init__(self, config: MobileNetConfig, resolution: int) -> None:
        self.config = config
        self.resolution = resolution
        self.slots = list(self._slots())

    def _width(self, base: int) -> int:
        return divisible(base * self.config.width_mult)

    def _slots(self) -> Iterator[Slot]:
        c = self.config
        channels, size = self._width(c.first_width), -(-self.resolution // c.stem_stride)
        for base, stride, gate, act in zip(c.widths, c.strides, c.squeeze_excite, c.activations[1:], strict=True):
            width = self._width(base)
            for position in range(max(c.depths)):
                slot = Slot(channels, width, 1 if position else stride, size, gate, act == "hswish")
                yield slot
                channels, size = width, slot.out_size

    @cached_property
    def _tables(self) -> NDArray[np.float64]:
        """MACs and parameters by slot and choices, shape (slots, kernel sizes, expand ratios, 2)."""
        c = self.config
        return np.array(
            [[[slot.cost(k, e) for e in c.expand_ratios] for k in c.kernel_sizes] for slot in self.slots], np.float64
        )

    @property
    def _fixed_macs(self) -> int:
        c = self.config
        stem, first = self._width(c.stem_width), self._width(c.first_width)
        final, feature = self._width(c.final_width), self._width(c.feature_width)
        before = (c.in_channels * 9 * stem + 9 * stem + stem * first) * (-(-self.resolution // c.stem_stride)) ** 2
        last = self.slots[-1]
        return before + last.out_size**2 * last.out_channels * final + final * feature + feature * c.num_classes

    @property
    def _fixed_params(self) -> int:
        c = self.config
        stem, first = self._width(c.stem_width), self._width(c.first_width)
        final, feature = self._width(c.final_width), self._width(c.feature_width)
        before = c.in_channels * 9 * stem + 9 * stem + stem * first + 2 * (2 * stem + first)
        head = self.slots[-1].out_channels * final + 2 * final + final * feature
        return before + head + (feature + 1) * c.num_classes

    def macs(self, kernels: IntMatrix, ratios: IntMatrix, active: BoolMatrix) -> FloatVector:
        """Return the MACs at batch 1, shape (n,).

        Args:
            kernels: Index of each slot's kernel size in the configuration's choices, shape (n, slots).
            ratios: Index of each slot's expand ratio, shape (n, slots).
            active: Whether the slot is used, shape (n, slots).
        """
        return self._fixed_macs + slot_total(self._tables[..., 0], kernels, ratios, active)

    def params(self, kernels: IntMatrix, ratios: IntMatrix, active: BoolMatrix) -> FloatVector:
        """Return the numbers of parameters, shape (n,); the arguments are those of `macs`."""
        return self._fixed_params + slot_total(self._tables[..., 1], kernels, ratios, active)


def slot_total(table: NDArray[np.float64], kernels: IntMatrix, ratios: IntMatrix, active: BoolMatrix) -> FloatVector:
    """Return the sums over the used slots of a table of shape (slots, kernel sizes, expand ratios), shape (n,)."""
    return np.asarray((table[np.arange(len(table)), kernels, ratios] * active).sum(axis=1))


def divisible(width: float) -> int:
    """Return a width rounded to a multiple of 8, to no less than 90 % of it (Sandler et al., 2018, "MobileNetV2")."""
    nearest = max(8, 8 * int(width / 8 + 0.5))
    return nearest if nearest >= 0.9 * width else nearest + 8
