"""Exact MACs and parameters of OFA-style networks for many architectures at once, without torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nas_compress.supernets.mobilenet_config import MobileNetConfig
from nas_compress.supernets.widths import make_divisible

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
        activation: Its activation.
    """

    in_channels: int
    out_channels: int
    stride: int
    size: int
    squeeze_excite: bool
    activation: str

    @property
    def hswish(self) -> bool:
        """Whether the activation is h-swish."""
        return self.activation == "hswish"

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
        return make_divisible(round(self.in_channels * expand_ratio))

    def key(self, kernel_size: int, expand_ratio: float) -> str:
        """Return type and sizes as a text: the key of a table of latencies."""
        return (
            f"mbconv in={self.in_channels} mid={self.middle(expand_ratio)} out={self.out_channels} k={kernel_size} "
            f"s={self.stride} se={int(self.squeeze_excite)} act={self.activation} r={self.size}"
        )

    def cost(self, kernel_size: int, expand_ratio: float) -> tuple[int, int]:
        """Return MACs and parameters."""
        middle = self.middle(expand_ratio)
        expand, depthwise, project = self.in_channels * middle, kernel_size**2 * middle, middle * self.out_channels
        macs = expand * self.size**2 + (depthwise + project) * self.out_size**2
        norms = 2 * (2 * middle + self.out_channels)
        if not self.squeeze_excite:
            return macs, expand + depthwise + project + norms
        hidden = make_divisible(middle // 4)
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
        return make_divisible(base * self.config.width_mult)

    def _slots(self) -> Iterator[Slot]:
        c = self.config
        channels, size = self._width(c.first_width), -(-self.resolution // c.stem_stride)
        stages = zip(c.widths, c.blocks, c.strides, c.squeeze_excite, c.activations[1:], strict=True)
        for base, blocks, stride, gate, act in stages:
            width = self._width(base)
            for position in range(blocks):
                slot = Slot(channels, width, 1 if position else stride, size, gate, act)
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
        stem, first, final = self._width(c.stem_width), self._width(c.first_width), self._width(c.final_width)
        before = (c.in_channels * 9 * stem + 9 * stem + stem * first) * (-(-self.resolution // c.stem_stride)) ** 2
        last, mix = self.slots[-1], self._feature_mix
        return before + last.out_size**2 * last.out_channels * final + mix + self._features * c.num_classes

    @property
    def _fixed_params(self) -> int:
        c = self.config
        stem, first, final = self._width(c.stem_width), self._width(c.first_width), self._width(c.final_width)
        before = c.in_channels * 9 * stem + 9 * stem + stem * first + 2 * (2 * stem + first)
        head = self.slots[-1].out_channels * final + 2 * final + self._feature_mix
        return before + head + (self._features + 1) * c.num_classes

    @property
    def _features(self) -> int:
        """Number of features that the classifier reads."""
        c = self.config
        return self._width(c.final_width if c.feature_width is None else c.feature_width)

    @property
    def _feature_mix(self) -> int:
        """Weights of the convolution after pooling, if there is one."""
        return 0 if self.config.feature_width is None else self._width(self.config.final_width) * self._features

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
