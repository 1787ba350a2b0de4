"""What blocks for tables of latencies are made of: parts of sub-networks, and layers with new weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, cast

from torch import Tensor, nn

from nas_compress.space import Architecture
from nas_compress.supernets.base import Block, Supernet
from nas_compress.supernets.randomness import normal, seeded


class Elastic(Protocol):
    """A layer of a super-network."""

    def extract(self) -> nn.Module:
        """Return the active part with plain layers."""


def cut(
    supernet: Supernet,
    architecture: Architecture,
    layers: Sequence[nn.Module],
    keys: Sequence[str],
    inputs: Sequence[tuple[int, int]],
    first: int = 1,
) -> list[Block]:
    """Return the blocks of a sub-network of images whose extraction is an `nn.Sequential`: stem, layers, head.

    Args:
        supernet: The super-network.
        architecture: The sub-network.
        layers: Its elastic layers, a block each.
        keys: The blocks' keys, in the order in which they run.
        inputs: Channels of each block's input, and its height and width in pixels.
        first: How many modules of the extraction come before those of the layers: the stem. What comes after them is
            the head.
    """
    stop = first + len(layers)
    stem, head = (partial(_slice, supernet, architecture, *ends) for ends in ((0, first), (stop, None)))
    builds: list[Callable[[], nn.Module]] = [stem, *(part(supernet, architecture, layer) for layer in layers), head]
    return [Block(key, build, partial(images, *size)) for key, build, size in zip(keys, builds, inputs, strict=True)]


def part(supernet: Supernet, architecture: Architecture, layer: nn.Module) -> Callable[[], nn.Module]:
    """Return a function that extracts one elastic layer of a super-network with its sizes in an architecture."""

    def build() -> nn.Module:
        with supernet.activate(architecture):
            return cast(Elastic, layer).extract().cpu().eval()

    return build


def fresh(build: Callable[[], nn.Module]) -> nn.Module:
    """Return a module with new weights, the same at every call, in evaluation mode."""
    with seeded(0):
        return build().eval()


def _slice(supernet: Supernet, architecture: Architecture, start: int, stop: int | None) -> nn.Module:
    return cast(nn.Sequential, supernet.extract(architecture))[start:stop].eval()


def images(channels: int, size: int, batch: int) -> Tensor:
    """Return standard normal images, shape (batch, channels, size, size), the same at every call."""
    return normal(batch, channels, size, size)
