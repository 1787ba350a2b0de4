"""The configurations of OFA-style ResNets, without torch.

Source: Cai et al., 2020, "Once-for-All: Train One Network and Specialize it for Efficient Deployment", and the
published configuration of its ResNet50.
"""

from __future__ import annotations

from dataclasses import dataclass

from nas_compress.errors import ConfigError
from nas_compress.space import SearchSpace, resnet_space
from nas_compress.supernets.entry import network
from nas_compress.supernets.widths import make_divisible

_OFA = "https://raw.githubusercontent.com/han-cai/files/master/ofa/ofa_nets/"


@dataclass(frozen=True)
class ResNetConfig:
    """Everything that makes one net of this family; the defaults are the published OFA ResNet50.

    Attributes:
        stem_width: Channels of the stem's last convolution; those before it have half as many.
        widths: Output channels of the stages.
        width_mults: Elastic multipliers of all these, ascending; the products are rounded to multiples of 8.
        stem_stride: Stride of the first convolution.
        pool: Whether the stem ends with max pooling of stride 2.
        strides: Stride of the first block of each stage.
        base_depths: Blocks of each stage that are always used.
        depths: Elastic numbers of further blocks per stage. The stem's residual block is used at the largest.
        expand_ratios: Elastic ratios of a block's middle channels to its output channels.
        resolutions: Elastic input heights and widths in pixels.
        in_channels: Channels of the images.
        num_classes: Number of logits.
        dropout: Probability of dropping a feature before the classifier.

    Raises:
        ConfigError: A value is out of range, or the stages' numbers of entries differ.
    """

    stem_width: int = 64
    widths: tuple[int, ...] = (256, 512, 1024, 2048)
    width_mults: tuple[float, ...] = (0.65, 0.8, 1.0)
    stem_stride: int = 2
    pool: bool = True
    strides: tuple[int, ...] = (1, 2, 2, 2)
    base_depths: tuple[int, ...] = (2, 2, 4, 2)
    depths: tuple[int, ...] = (0, 1, 2)
    expand_ratios: tuple[float, ...] = (0.2, 0.25, 0.35)
    resolutions: tuple[int, ...] = tuple(range(128, 225, 4))
    in_channels: int = 3
    num_classes: int = 1000
    dropout: float = 0.0

    def __post_init__(self) -> None:
        stages = len(self.widths)
        for name in ("strides", "base_depths"):
            if len(getattr(self, name)) != stages:
                raise ConfigError(f"{name} has {len(getattr(self, name))} entries; {stages} stages want {stages}")
        self._check_rows()
        for name in ("stem_width", "stem_stride", "in_channels", "num_classes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}; wants at least 1")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout = {self.dropout}; wants at least 0 and less than 1")

    def _check_rows(self) -> None:
        for name in ("widths", "strides", "base_depths", "resolutions", "depths", "width_mults", "expand_ratios"):
            values = getattr(self, name)
            if not values:
                raise ConfigError(f"{name} is empty; wants at least one entry")
            if name in ("width_mults", "expand_ratios", "depths") and tuple(sorted(set(values))) != values:
                raise ConfigError(f"{name} holds {values}; wants ascending, distinct values")
            if name in ("width_mults", "expand_ratios") and values[0] <= 0:
                raise ConfigError(f"{name} holds {values[0]}; wants more than 0")
            least = 0 if name in ("depths", "width_mults", "expand_ratios") else 1
            if min(values) < least:
                raise ConfigError(f"{name} holds {min(values)}; wants at least {least}")

    @property
    def blocks(self) -> tuple[int, ...]:
        """The largest number of blocks of each stage."""
        return tuple(base + max(self.depths) for base in self.base_depths)

    @property
    def outputs(self) -> tuple[tuple[int, ...], ...]:
        """Channels by width gene and its choice: the stem's first layers, its last one, and the stages."""
        stem = tuple(make_divisible(self.stem_width * mult) for mult in self.width_mults)
        stages = (tuple(make_divisible(width * mult) for mult in self.width_mults) for width in self.widths)
        return tuple(make_divisible(width // 2) for width in stem), stem, *stages

    def middle(self, out_channels: int, expand_ratio: float) -> int:
        """Return the channels of a block's 3x3 convolution."""
        return make_divisible(round(out_channels * expand_ratio))

    def space(self, name: str) -> SearchSpace:
        """Return the search space of a net of this configuration."""
        return resnet_space(
            name,
            base_depths=self.base_depths,
            depths=self.depths,
            expand_ratios=self.expand_ratios,
            widths=len(self.width_mults),
            resolutions=self.resolutions,
        )


OFA_RESNET50 = ResNetConfig()
"""The published OFA ResNet50, resolutions 128 to 224.

Its width genes 0 and 1 of the stem's first layers both come to 24 channels; they count as two, as published.
"""

CIFAR10_RESNET = ResNetConfig(
    stem_width=40,
    widths=(64, 128, 256),
    stem_stride=1,
    strides=(1, 2, 2),
    base_depths=(1, 1, 1),
    expand_ratios=(0.25, 0.35, 0.5),
    resolutions=(24, 28, 32),
    num_classes=10,
)
"""A small net for colour images of 32x32 pixels."""

FASHION_MNIST_RESNET = ResNetConfig(
    stem_width=32,
    widths=(32, 64, 128),
    stem_stride=1,
    strides=(1, 2, 2),
    base_depths=(1, 1, 1),
    expand_ratios=(0.25, 0.35, 0.5),
    resolutions=(20, 24, 28),
    in_channels=1,
    num_classes=10,
)
"""A small net for grey images of 28x28 pixels."""

DIGITS_RESNET = ResNetConfig(
    stem_width=40,
    widths=(48, 96),
    stem_stride=1,
    pool=False,
    strides=(1, 2),
    base_depths=(1, 1),
    expand_ratios=(0.25, 0.35, 0.5),
    resolutions=(8, 12, 16),
    in_channels=1,
    num_classes=10,
)
"""A small net for scikit-learn's 8x8 digits, as they are or enlarged to 12 or 16 pixels."""

RESNETS = dict(
    [
        network(
            "ofa_resnet50",
            OFA_RESNET50,
            "resnet",
            "OFA ResNet50, ImageNet, 128 to 224 pixels (Cai et al., 2020)",
            dataset="imagenet",
            weights=_OFA + "ofa_resnet50_d=0+1+2_e=0.2+0.25+0.35_w=0.65+0.8+1.0",
            channels=3,
        ),
        network(
            "cifar10_resnet",
            CIFAR10_RESNET,
            "resnet",
            "small ResNet for colour images of 32x32 pixels; dense convolutions, which gain from int8",
            dataset="cifar10",
            channels=3,
        ),
        network(
            "fashion_mnist_resnet",
            FASHION_MNIST_RESNET,
            "resnet",
            "small ResNet for grey images of 28x28 pixels; dense convolutions, which gain from int8",
            dataset="fashion_mnist",
            channels=1,
        ),
        network(
            "digits_resnet",
            DIGITS_RESNET,
            "resnet",
            "small ResNet for scikit-learn's digits; dense convolutions, which gain from int8",
            dataset="digits",
            channels=1,
        ),
    ]
)
"""The registry's entries of this family."""
