"""The configurations of chains of convolution blocks, without torch.

Source: the published configuration of DE-NAS's convolutional networks, on the blocks of Lin et al., 2021, "Zen-NAS: A
Zero-Shot NAS for High-Performance Image Recognition".
"""

from __future__ import annotations

from dataclasses import dataclass

from nas_compress.errors import ArchitectureError, ConfigError
from nas_compress.space.conv_chain import ConvChainSpace
from nas_compress.supernets.entry import network

DENAS_SEED = (
    "SuperConvK3BNRELU(3,8,1,1)"
    "SuperResK3K3(8,16,1,8,1)"
    "SuperResK3K3(16,32,2,16,1)"
    "SuperResK3K3(32,64,2,32,1)"
    "SuperResK3K3(64,64,2,32,1)"
    "SuperConvK1BNRELU(64,128,1,1)"
)
"""The chain that DE-NAS's search starts from."""


@dataclass(frozen=True)
class ConvChainConfig:
    """Everything that makes one space of chains, and the networks in it.

    Attributes:
        seed: The published string of the chain whose number of blocks, order and strides all others share.
        max_layers: The most sub-layers of a residual block.
        widening: Channels go up to so many times the seed's; None: up to 2048, the published bound, with which the
            largest network has 10^10 parameters, far too many for searches that measure the largest one first.
        resolution: Height and width of the images in pixels.
        num_classes: Number of logits.

    Raises:
        ConfigError: A value is out of range, or the seed is not a chain.
    """

    seed: str = DENAS_SEED
    max_layers: int = 8
    widening: float | None = 4
    resolution: int = 32
    num_classes: int = 10

    def __post_init__(self) -> None:
        for name in ("max_layers", "resolution", "num_classes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}; wants at least 1")
        try:
            self.space("seed")
        except ArchitectureError as error:
            raise ConfigError(f"seed: {error}") from None

    @property
    def in_channels(self) -> int:
        """Channels of the images: what the first block takes."""
        return self.space("seed").seed[0].in_channels

    def space(self, name: str) -> ConvChainSpace:
        """Return the space of chains."""
        return ConvChainSpace(name, self.seed, max_layers=self.max_layers, widening=self.widening)


DENAS_CNN = ConvChainConfig()
"""DE-NAS's chains for CIFAR-10: channels up to four times the seed's, up to 8 sub-layers."""

CONV_CHAINS = dict(
    [
        network(
            "denas_cnn",
            DENAS_CNN,
            "conv_chain",
            "DE-NAS's chains of convolution blocks, 32 pixels; no shared weights: for costs, latency, scores",
            metrics=(),
            dataset="cifar10",
            channels=3,
        )
    ]
)
"""The registry's entries of this family."""
