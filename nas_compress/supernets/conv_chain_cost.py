"""Exact MACs and parameters of chains of convolution blocks, for many architectures at once, without torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas_compress.space import SearchSpace
from nas_compress.space.conv_chain import BOTTLENECKS, KERNELS
from nas_compress.supernets.conv_chain_config import ConvChainConfig

Vector = NDArray[np.float64]
"""A number per architecture; counts stay below 2^53, so that they are exact."""


@dataclass
class _Total:
    """Running sums over the blocks of n chains, and where they stand.

    Attributes:
        macs: MACs so far, shape (n,).
        params: Parameters so far, shape (n,).
        channels: Channels so far, shape (n,).
        size: Height and width in pixels.
    """

    macs: Vector
    params: Vector
    channels: Vector
    size: int

    def conv(self, weights: Vector, size: int, norms: Vector | float = 0.0) -> None:
        """Add convolutions of so many weights, at a height and width, and channels of batch norms."""
        self.macs += weights * size**2
        self.params += weights + 2 * norms


def chain_cost(config: ConvChainConfig, space: SearchSpace, encoded: NDArray[np.int64]) -> tuple[Vector, Vector]:
    """Return MACs at batch 1 and parameters, shape (n,) each.

    Args:
        config: The seed, the resolution and the number of classes.
        space: The space that the rows are encoded in: the configuration's, or a part of it.
        encoded: Choice indices, shape (n, genes).
    """
    genes = _Genes(space, encoded)
    seed = config.space("seed").seed
    n = len(encoded)
    total = _Total(np.zeros(n), np.zeros(n), np.full(n, float(seed[0].in_channels)), config.resolution)
    slot = 0
    for number, block in enumerate(seed):
        out, small = genes.numbers("out", number), -(-total.size // block.stride)
        if block.residual:
            _add_residual(total, genes, slot, out, block.stride)
            slot += 1
        else:
            area = float(KERNELS[block.type] ** 2)
            total.conv(area * total.channels * out, small, out)
            total.conv(area * out * out * (block.layers - 1), small, out * (block.layers - 1))
        total.channels, total.size = out, small
    head = total.channels * config.num_classes
    return total.macs + head, total.params + head + config.num_classes


def chain_layers(config: ConvChainConfig, space: SearchSpace, encoded: NDArray[np.int64]) -> Vector:
    """Return the sub-layers of all blocks, shape (n,); see `chain_cost`."""
    genes, seed = _Genes(space, encoded), config.space("seed").seed
    fixed = float(sum(block.layers for block in seed if not block.residual))
    layers = np.full(len(encoded), fixed)
    for slot in range(sum(block.residual for block in seed)):
        layers += genes.numbers("layers", slot)
    return layers


def _add_residual(total: _Total, genes: _Genes, slot: int, out: Vector, stride: int) -> None:
    """Add the residual blocks in one place of the chains; see `ChainBlock.units` for what they are made of."""
    names = genes.texts("type", slot)
    area = np.array([KERNELS[name] ** 2 for name in names], dtype=np.float64)
    bottleneck = np.array([name in BOTTLENECKS for name in names])
    middle, layers = genes.numbers("bottleneck", slot), genes.numbers("layers", slot)
    size, small, channels = total.size, -(-total.size // stride), total.channels
    # The first convolution alone differs from sub-layer to sub-layer: in its inputs, in its stride, and a bottleneck's
    # is before the stride.
    enter = np.where(bottleneck, channels * middle, 0.0)
    rest = np.where(bottleneck, area * middle**2 + middle * out, area * middle * (channels + out))
    total.conv(enter, size)
    total.conv(rest, small, np.where(bottleneck, 2 * middle + out, middle + out))
    repeats = np.where(bottleneck, 2 * layers, layers) - 1
    later = np.where(bottleneck, (2 * out + area * middle) * middle, 2 * area * middle * out)
    total.conv(later * repeats, small, repeats * np.where(bottleneck, 2 * middle + out, middle + out))
    projects = np.full(len(out), True) if stride > 1 else channels != out
    total.conv(np.where(projects, channels * out, 0.0), small, np.where(projects, out, 0.0))


class _Genes:
    """The values of encoded architectures."""

    def __init__(self, space: SearchSpace, encoded: NDArray[np.int64]) -> None:
        self._encoded = encoded
        genes = [values for d in space.dimensions for values in d.choices]
        self._choices = dict(zip(space.gene_names, genes, strict=True))
        self._columns = {name: column for column, name in enumerate(space.gene_names)}

    def numbers(self, dimension: str, slot: int) -> Vector:
        """Return the values of a gene of numbers, shape (n,)."""
        name = f"{dimension}[{slot}]"
        return np.array(self._choices[name], dtype=np.float64)[self._encoded[:, self._columns[name]]]

    def texts(self, dimension: str, slot: int) -> list[str]:
        """Return the values of a gene of texts."""
        name = f"{dimension}[{slot}]"
        return [str(self._choices[name][index]) for index in self._encoded[:, self._columns[name]].tolist()]
