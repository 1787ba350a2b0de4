"""Chains of convolution blocks: networks that share no weights, behind the interface of a super-network.

Source: Lin et al., 2021, "Zen-NAS: A Zero-Shot NAS for High-Performance Image Recognition", and the published
configuration of DE-NAS's convolutional networks.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_compress.space import Architecture, SearchSpace
from nas_compress.space.conv_chain import ChainUnit, ConvChainSpace, parse_chain
from nas_compress.supernets.base import Block, Cost, ImageSupernet
from nas_compress.supernets.conv_chain_config import ConvChainConfig
from nas_compress.supernets.conv_chain_cost import chain_cost, chain_layers
from nas_compress.supernets.cut import fresh, images
from nas_compress.supernets.randomness import seeded
from nas_compress.weights import hash_tensors


def _conv_norm(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return [conv, nn.BatchNorm2d(out_channels)]


class ResidualUnit(nn.Module):
    """Convolutions with a residual connection: two equal ones, or a bottleneck; batch norm after each.

    Args:
        unit: Its sizes; `"plain"` or `"bottleneck"`.
    """

    def __init__(self, unit: ChainUnit) -> None:
        super().__init__()
        i, m, o, k, s = unit.in_channels, unit.middle, unit.out_channels, unit.kernel, unit.stride
        if unit.kind == "plain":
            layers = [*_conv_norm(i, m, k, s), nn.ReLU(), *_conv_norm(m, o, k)]
        else:
            layers = [*_conv_norm(i, m, 1), nn.ReLU(), *_conv_norm(m, m, k, s), nn.ReLU(), *_conv_norm(m, o, 1)]
        self.body = nn.Sequential(*layers)
        self.shortcut = nn.Sequential(*_conv_norm(i, o, 1, s)) if unit.projects else nn.Identity()
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, r, r) to (N, out_channels, r / stride, r / stride), rounded up."""
        y: Tensor = self.act(self.body(x) + self.shortcut(x))
        return y


def build_unit(unit: ChainUnit) -> nn.Module:
    """Return a unit of a chain with new weights."""
    if unit.kind != "conv":
        return ResidualUnit(unit)
    return nn.Sequential(*_conv_norm(unit.in_channels, unit.out_channels, unit.kernel, unit.stride), nn.ReLU())


def build_chain(text: str, num_classes: int) -> nn.Sequential:
    """Return the network of a published string, with new weights, in training mode.

    Args:
        text: The chain.
        num_classes: Number of logits, from the mean of the last block's outputs over all positions.

    Raises:
        ArchitectureError: The text is not a chain.
    """
    blocks = parse_chain(text)
    units = [build_unit(unit) for block in blocks for unit in block.units()]
    return nn.Sequential(*units, _head(blocks[-1].out_channels, num_classes))


def _head(channels: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))


class ConvChainSupernet(ImageSupernet):
    """All chains around a seed; each is a network of its own with fresh weights, to be trained from scratch.

    It has no parameters and there is nothing to train or to load here: it gives searches the space, the costs, and
    networks to measure latency and train-free scores on. `extract` draws the weights of an architecture from the seed,
    the same at every call. `activate` computes with such a network, in evaluation mode, which is built when it is
    first run; the largest one where none is activated.

    Args:
        name: The name in records.
        config: The seed chain, how far others may go, the images' size and the number of classes.
        seed: Seed of all weights; None draws one from torch's global generator.
    """

    space: ConvChainSpace

    def __init__(self, name: str, config: ConvChainConfig, seed: int | None = None) -> None:
        super().__init__()
        self.name = name
        self.config = config
        self.in_channels = config.in_channels
        self.num_classes = config.num_classes
        self.space = config.space(name)
        self._seed = int(torch.randint(2**31, ())) if seed is None else seed

    def resolution(self, architecture: Architecture) -> int:
        """Return the configured height and width of the images, which is that of all architectures."""
        return self.config.resolution

    def _configure(self, architecture: Architecture) -> None:
        self.__dict__.pop("_network", None)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, channels, r, r) to logits (N, classes) with the active architecture's own network."""
        if "_network" not in self.__dict__:
            self.__dict__["_network"] = self.extract(self._active).to(x.device)
        network: nn.Module = self.__dict__["_network"]
        y: Tensor = network(x)
        return y

    def extract(self, architecture: Architecture) -> nn.Module:
        """Return the architecture's network with weights that follow from the seed; see the base class."""
        text = self.space.to_string(architecture)
        with seeded(self._seed):
            return build_chain(text, self.num_classes).eval()

    def sort_by_importance(self) -> None:
        """Do nothing: no weights are shared, so that there is no order of channels to choose."""

    def blocks(self, architecture: Architecture) -> list[Block]:
        """Return the convolutions, the residual units, and the classifier; see the base class."""
        chain = self.space.chain(architecture)
        blocks, size = [], self.config.resolution
        for unit in (unit for block in chain for unit in block.units()):
            blocks.append(_unit_block(unit, size))
            size = -(-size // unit.stride)
        channels, classes = chain[-1].out_channels, self.num_classes
        key = f"pool_linear in={channels} out={classes} r={size}"
        blocks.append(Block(key, partial(fresh, partial(_head, channels, classes)), partial(images, channels, size)))
        return blocks

    def encoded_cost(self, cost: Cost, space: SearchSpace, encoded: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the costs of many architectures at the configured resolution; see the base class."""
        macs, params = chain_cost(self.config, space, encoded)
        return macs if cost == "macs" else params

    def encoded_layers(self, space: SearchSpace, encoded: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the sub-layers of many architectures, as Zen-NAS and DE-NAS count layers; see the base class."""
        return chain_layers(self.config, space, encoded)

    def describe(self) -> dict[str, Any]:
        """Return the configuration as plain data."""
        return {"family": "conv_chain", "name": self.name, **asdict(self.config)}

    def fingerprint(self) -> str:
        """Return a hash of configuration and seed, which all weights follow from; see the base class."""
        return hash_tensors({}, f"{self._seed} {super().fingerprint()}")


def _unit_block(unit: ChainUnit, size: int) -> Block:
    sizes = f"in={unit.in_channels} mid={unit.middle} out={unit.out_channels} k={unit.kernel} s={unit.stride}"
    build = partial(fresh, partial(build_unit, unit))
    return Block(f"chain_{unit.kind} {sizes} r={size}", build, partial(images, unit.in_channels, size))


def build(
    name: str, config: ConvChainConfig, num_classes: int | None = None, seed: int | None = None
) -> ConvChainSupernet:
    """Return the networks of a registered configuration, for any number of classes."""
    if num_classes is not None:
        config = replace(config, num_classes=num_classes)
    return ConvChainSupernet(name, config, seed)
