"""What a super-network is: shared weights, a space, and two ways to use one point of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_compress.data.augment import Augmentation
from nas_compress.errors import ConfigError
from nas_compress.space import Architecture, SearchSpace
from nas_compress.supernets.randomness import normal
from nas_compress.weights import hash_tensors

Cost = Literal["macs", "params"]

Inputs = Tensor | tuple[Tensor, ...]
"""What a network takes: one tensor, or several by position, the batch first in each."""


@dataclass(frozen=True)
class Block:
    """A part of a sub-network that is run as one: what a look-up table of latencies has an entry for.

    Two blocks of the same key take the same time. Running all blocks of an architecture one after the other is running
    the sub-network.

    Attributes:
        key: Type and sizes, readable: `"mbconv in=24 mid=144 out=40 k=5 s=2 se=1 act=relu r=56"`.
        build: Returns the block of plain torch layers, in evaluation mode, with any weights.
        example: Returns the inputs of the block for a batch size.
    """

    key: str
    build: Callable[[], nn.Module]
    example: Callable[[int], Inputs]


class Supernet(nn.Module, ABC):
    """A network whose sub-networks share its weights.

    Attributes:
        name: The registered name, or one of the user's.
        space: The architectures it contains.
    """

    name: str
    space: SearchSpace

    @contextmanager
    def activate(self, architecture: Architecture) -> Iterator[Self]:
        """Make `forward` compute one sub-network inside the `with` block, then restore the state before it.

        Raises:
            ArchitectureError: The architecture is not in the space.
        """
        self.space.validate(architecture)
        before = self._active
        self._set_active(architecture)
        try:
            yield self
        finally:
            self._set_active(before)

    @property
    def _active(self) -> Architecture:
        """The architecture that `forward` computes now; the largest one at first."""
        if "_active_architecture" not in self.__dict__:
            self.__dict__["_active_architecture"] = self.space.largest()
        active: Architecture = self.__dict__["_active_architecture"]
        return active

    def _set_active(self, architecture: Architecture) -> None:
        self._configure(architecture)
        self.__dict__["_active_architecture"] = architecture

    @abstractmethod
    def _configure(self, architecture: Architecture) -> None:
        """Set the active sizes of all elastic layers."""

    @abstractmethod
    def extract(self, architecture: Architecture) -> nn.Module:
        """Return the sub-network as an independent module of plain torch layers, weights copied.

        It is in evaluation mode, where it computes what the active sub-network computes, and on the CPU wherever the
        super-network is: searches and latency measurements are on the CPU.

        Raises:
            ArchitectureError: The architecture is not in the space.
        """

    @abstractmethod
    def example_input(self, batch: int = 1, architecture: Architecture | None = None) -> Inputs:
        """Return an input of the shape an architecture takes (the largest by default), the same at every call."""

    @abstractmethod
    def blocks(self, architecture: Architecture) -> list[Block]:
        """Return the blocks of an architecture in the order in which they run; none is built yet.

        Raises:
            ArchitectureError: The architecture is not in the space.
        """

    def macs(self, architecture: Architecture) -> int:
        """Return the multiply-accumulates of convolutions, linear layers and attention products at batch 1.

        Raises:
            ArchitectureError: The architecture is not in the space.
        """
        return int(self.encoded_cost("macs", self.space, self.space.encode([architecture]))[0])

    def params(self, architecture: Architecture) -> int:
        """Return the number of parameters of the extracted sub-network.

        Raises:
            ArchitectureError: The architecture is not in the space.
        """
        return int(self.encoded_cost("params", self.space, self.space.encode([architecture]))[0])

    @abstractmethod
    def encoded_cost(self, cost: Cost, space: SearchSpace, encoded: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return `macs` or `params` of many architectures, shape (n,): searches ask for thousands at once.

        Args:
            cost: `"macs"` or `"params"`.
            space: The space that the rows are encoded in: this net's, or a part of it.
            encoded: Canonical choice indices, shape (n, genes); `space.decode` gives the architectures.
        """

    def encoded_layers(self, space: SearchSpace, encoded: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the residual blocks, or transformer layers, of many architectures, shape (n,); see `encoded_cost`.

        Raises:
            ConfigError: The family does not count them.
        """
        raise ConfigError(f"supernet {self.name!r} does not count its layers (encoded_layers)")

    @abstractmethod
    def sort_by_importance(self) -> None:
        """Reorder shared channels, the most important first, without changing the largest sub-network.

        Importance is the L1 norm of the weights that read a channel (Once-for-All, section 3.3).
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return the configuration that makes this net again, as plain data (weights apart)."""

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the keys of the family's published checkpoints to ours; our own keys stay as they are."""
        return dict(state)

    def fingerprint(self) -> str:
        """Return a hash of configuration and weights: the `checkpoint` part of a measurement's context."""
        return hash_tensors(self.state_dict(), repr(sorted(self.describe().items())))


class ImageSupernet(Supernet):
    """A super-network for image classification.

    Inputs are normalised float images of shape (N, channels, r, r); outputs are logits of shape (N, classes).

    Attributes:
        in_channels: Channels of the input images.
        num_classes: Number of logits.
        augmentation: How the images were changed that its weights were trained on; None where they were not, or where
            it is not known. Batch statistics of sub-networks are taken from images that are changed alike.
    """

    in_channels: int
    num_classes: int
    augmentation: Augmentation | None = None

    def resolution(self, architecture: Architecture) -> int:
        """Return the input height and width in pixels that an architecture takes."""
        return int(architecture["r"][0])

    def example_input(self, batch: int = 1, architecture: Architecture | None = None) -> Tensor:
        """Return standard normal images of shape (batch, channels, r, r), the same at every call."""
        r = self.resolution(architecture or self.space.largest())
        return normal(batch, self.in_channels, r, r)
