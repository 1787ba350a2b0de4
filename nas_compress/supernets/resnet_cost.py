"""Sizes of OFA-style ResNets' sub-networks, and their exact costs for many at once, without torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from nas_compress.space import Architecture, SearchSpace
from nas_compress.supernets.resnet_config import ResNetConfig

IntArray = NDArray[np.int64]
FloatVector = NDArray[np.float64]
Size = TypeVar("Size", int, IntArray)


@dataclass(frozen=True)
class BlockSizes:
    """Sizes of one bottleneck of a sub-network.

    Attributes:
        slot: Its number among all blocks of the super-network.
        in_channels: Input channels.
        middle: Channels of the 3x3 convolution.
        out_channels: Output channels.
        stride: Stride of the 3x3 convolution.
        size: Height and width of the input in pixels.
        projects: Whether the input is projected before it is added.
    """

    slot: int
    in_channels: int
    middle: int
    out_channels: int
    stride: int
    size: int
    projects: bool

    @property
    def key(self) -> str:
        """Type and sizes as a text: the key of a table of latencies."""
        return (
            f"bottleneck in={self.in_channels} mid={self.middle} out={self.out_channels} s={self.stride} "
            f"project={int(self.projects)} r={self.size}"
        )


def stem_size(config: ResNetConfig, resolution: int) -> int:
    """Return the height and width after the stem, in pixels."""
    size = halved(resolution, config.stem_stride)
    return halved(size, 2) if config.pool else size


def halved(size: Size, stride: int) -> Size:
    """Return heights or widths after a layer with a stride, padded so that no pixel is left out."""
    return -(-size // stride)


def block_sizes(config: ResNetConfig, architecture: Architecture) -> Iterator[BlockSizes]:
    """Yield the sizes of a sub-network's bottlenecks in the order in which they run."""
    size, start = stem_size(config, int(architecture["r"][0])), 0
    channels = config.outputs[1][int(architecture["w"][1])]
    for stage, most in enumerate(config.blocks):
        out = config.outputs[stage + 2][int(architecture["w"][stage + 2])]
        for position in range(config.base_depths[stage] + int(architecture["d"][stage + 1])):
            slot, stride = start + position, 1 if position else config.strides[stage]
            middle = config.middle(out, float(architecture["e"][slot]))
            yield BlockSizes(slot, channels, middle, out, stride, size, not position)
            channels, size = out, halved(size, stride)
        start += most


class _Count:
    """Sums of multiply-accumulates and parameters of `n` sub-networks of one configuration.

    Args:
        config: The network.
        sizes: Height and width of the images in pixels, shape (n,).
    """

    def __init__(self, config: ResNetConfig, sizes: IntArray) -> None:
        self.config = config
        self.size = halved(sizes, config.stem_stride)
        self.macs = np.zeros(len(sizes), dtype=np.int64)
        self.params = np.zeros(len(sizes), dtype=np.int64)

    def conv(self, inside: IntArray | int, outside: IntArray, kernel: int, used: NDArray[np.bool_] | bool) -> None:
        """Add a convolution and its normalisation where it is used; all arrays of shape (n,)."""
        weights = inside * outside * kernel**2
        self.macs += weights * self.size**2 * used
        self.params += (weights + 2 * outside) * used

    def stem(self, half: IntArray, out: IntArray, residual: NDArray[np.bool_]) -> None:
        """Add the stem."""
        self.conv(self.config.in_channels, half, 3, True)
        self.conv(half, half, 3, residual)
        self.conv(half, out, 3, True)
        self.size = halved(self.size, 2) if self.config.pool else self.size

    def block(
        self, before: IntArray, middle: IntArray, out: IntArray, used: NDArray[np.bool_], first_of: int | None
    ) -> None:
        """Add a bottleneck, the first one of a stage or (None) a later one."""
        self.conv(before, middle, 1, used)
        if first_of is not None:
            self.size = halved(self.size, self.config.strides[first_of])
            self.conv(before, out, 1, used)
        self.conv(middle, middle, 3, used)
        self.conv(middle, out, 1, used)

    def head(self, channels: IntArray) -> None:
        """Add the classifier."""
        weights = channels * self.config.num_classes
        self.macs += weights
        self.params += weights + self.config.num_classes


def resnet_cost(config: ResNetConfig, space: SearchSpace, encoded: IntArray) -> tuple[FloatVector, FloatVector]:
    """Return the MACs at batch 1 and the parameters, shape (n,) each, of encoded architectures of shape (n, genes).

    Args:
        config: The network.
        space: The space that the rows are encoded in: the network's, or a part of it.
        encoded: The rows.
    """
    values = space.values(encoded)
    depths, ratios, choices = values["d"], values["e"], values["w"].astype(np.int64)
    widths = [np.array(row)[choices[:, i]] for i, row in enumerate(config.outputs)]
    count, slot = _Count(config, values["r"][:, 0].astype(np.int64)), 0
    count.stem(widths[0], widths[1], depths[:, 0] == max(config.depths))
    for stage, most in enumerate(config.blocks):
        before, out = widths[stage + 1 : stage + 3]
        for position in range(most):
            middle = _middle(config, stage, choices[:, stage + 2], ratios[:, slot])
            used = position < config.base_depths[stage] + depths[:, stage + 1]
            count.block(out if position else before, middle, out, used, None if position else stage)
            slot += 1
    count.head(widths[-1])
    return count.macs.astype(np.float64), count.params.astype(np.float64)


def _middle(config: ResNetConfig, stage: int, width: IntArray, ratio: FloatVector) -> IntArray:
    """Return a block's middle channels by its stage's width gene and its own expand ratio, shape (n,)."""
    table = [[config.middle(out, ratio) for ratio in config.expand_ratios] for out in config.outputs[stage + 2]]
    return np.asarray(np.array(table)[width, np.searchsorted(config.expand_ratios, ratio)])
