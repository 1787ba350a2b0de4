"""The configurations of OFA-style super-networks, without torch: what a check needs to know before any work.

Source: Cai et al., 2020, "Once-for-All: Train One Network and Specialize it for Efficient Deployment", and its
published configurations.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from nas_compress.errors import ConfigError
from nas_compress.space import SearchSpace, compofa_space, mobilenet_space
from nas_compress.supernets.entry import network

ACTIVATIONS = ("relu", "relu6", "hswish")
_OFA = "https://raw.githubusercontent.com/han-cai/files/master/ofa/ofa_nets/"

LATER = ("single_stages", "outer_activation", "norm_eps")
"""Values that were added after the first records had been written."""


@dataclass(frozen=True)
class MobileNetConfig:
    """Everything that makes one net of this family; the defaults are the published MobileNetV3 w1.0.

    Attributes:
        width_mult: Multiplies all widths, which are then rounded to multiples of 8.
        stem_width: Channels of the first convolution and of the fixed first block's input.
        first_width: Output channels of the fixed first block.
        widths: Output channels of the elastic stages.
        final_width: Channels of the 1x1 convolution before pooling.
        feature_width: Channels of the 1x1 convolution after pooling; None for none, as in MobileNetV2.
        stem_stride: Stride of the first convolution.
        strides: Stride of the first block of each elastic stage.
        activations: Activation of the fixed first block, then of each elastic stage (`"relu"`, `"relu6"`, `"hswish"`).
        squeeze_excite: Which elastic stages have squeeze-and-excitation.
        kernel_sizes: Elastic depthwise kernel sizes.
        expand_ratios: Elastic expand ratios.
        depths: Elastic numbers of blocks per stage.
        resolutions: Elastic input heights and widths in pixels.
        in_channels: Channels of the images.
        num_classes: Number of logits.
        dropout: Probability of dropping a feature before the classifier.
        single_stages: How many of the last stages have one block, and so no elastic depth.
        outer_activation: Activation of the stem and the head.
        norm_eps: What batch normalisation adds to the variance.

    Raises:
        ConfigError: A value is out of range, or the stages' numbers of entries differ.
    """

    width_mult: float = 1.0
    stem_width: int = 16
    first_width: int = 16
    widths: tuple[int, ...] = (24, 40, 80, 112, 160)
    final_width: int = 960
    feature_width: int | None = 1280
    stem_stride: int = 2
    strides: tuple[int, ...] = (2, 2, 2, 1, 2)
    activations: tuple[str, ...] = ("relu", "relu", "relu", "hswish", "hswish", "hswish")
    squeeze_excite: tuple[bool, ...] = (False, True, False, True, True)
    kernel_sizes: tuple[int, ...] = (3, 5, 7)
    expand_ratios: tuple[float, ...] = (3, 4, 6)
    depths: tuple[int, ...] = (2, 3, 4)
    resolutions: tuple[int, ...] = tuple(range(128, 225, 4))
    in_channels: int = 3
    num_classes: int = 1000
    dropout: float = 0.1
    single_stages: int = 0
    outer_activation: str = "hswish"
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        stages = len(self.widths)
        for name, length in (("strides", stages), ("squeeze_excite", stages), ("activations", stages + 1)):
            if len(getattr(self, name)) != length:
                raise ConfigError(f"{name} has {len(getattr(self, name))} entries; {stages} stages want {length}")
        self._check_numbers()
        for activation in (*self.activations, self.outer_activation):
            if activation not in ACTIVATIONS:
                raise ConfigError(f"unknown activation {activation!r}; known: {', '.join(ACTIVATIONS)}")
        if not 0 <= self.single_stages < stages:
            raise ConfigError(f"single_stages = {self.single_stages}; wants 0 to {stages - 1} of {stages} stages")
        for size in self.kernel_sizes:
            if size % 2 == 0:
                raise ConfigError(f"kernel_sizes holds {size}; depthwise kernels are odd")

    def _check_numbers(self) -> None:
        for name in ("widths", "strides", "kernel_sizes", "expand_ratios", "depths", "resolutions"):
            values = getattr(self, name)
            if not values:
                raise ConfigError(f"{name} is empty; wants at least one entry")
            if name == "expand_ratios" and min(values) <= 0:
                raise ConfigError(f"{name} holds {min(values)}; wants more than 0")
            if name != "expand_ratios" and min(values) < 1:
                raise ConfigError(f"{name} holds {min(values)}; wants at least 1")
        for name in ("kernel_sizes", "expand_ratios", "depths", "resolutions"):
            values = getattr(self, name)
            if list(values) != sorted(set(values)):
                raise ConfigError(f"{name} = {values}; wants ascending, distinct values")
        widths = ("stem_width", "first_width", "final_width", "feature_width")
        for name in (*widths, "stem_stride", "in_channels", "num_classes"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}; wants at least 1")
        for name in ("width_mult", "norm_eps"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} = {getattr(self, name)}; wants more than 0")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout = {self.dropout}; wants at least 0 and less than 1")

    @property
    def blocks(self) -> tuple[int, ...]:
        """The largest number of blocks of each elastic stage."""
        return (max(self.depths),) * (len(self.widths) - self.single_stages) + (1,) * self.single_stages

    def describe(self) -> dict[str, Any]:
        """Return the values as plain data, those of `LATER` only where they are not the defaults.

        Records of measurements hold it, and those made before these values existed must still be recognised.
        """
        defaults = {f.name: f.default for f in fields(self) if f.name in LATER}
        return {name: value for name, value in asdict(self).items() if value != defaults.get(name, ...)}

    def space(self, name: str) -> SearchSpace:
        """Return the search space of a net of this configuration."""
        return mobilenet_space(
            name,
            stages=len(self.widths) - self.single_stages,
            kernel_sizes=self.kernel_sizes,
            expand_ratios=self.expand_ratios,
            depths=self.depths,
            resolutions=self.resolutions,
            single_stages=self.single_stages,
        )


@dataclass(frozen=True)
class CompOFAConfig(MobileNetConfig):
    """OFA's MobileNetV3 with CompOFA's coupled space (Sahni et al., 2021); the attributes are the same."""

    def space(self, name: str) -> SearchSpace:
        """Return the space in which the depth of a stage decides its expand ratios."""
        return compofa_space(name, self.resolutions)


OFA_MBV3_W1_0 = MobileNetConfig()
"""The published OFA MobileNetV3 net, width 1.0, resolutions 128 to 224."""

OFA_MBV3_W1_2 = MobileNetConfig(width_mult=1.2, resolutions=tuple(range(160, 225, 4)))
"""The published OFA MobileNetV3 net, width 1.2, resolutions 160 to 224."""

OFA_PROXYLESS_W1_3 = MobileNetConfig(
    width_mult=1.3,
    stem_width=32,
    widths=(24, 40, 80, 96, 192, 320),
    final_width=1280,
    feature_width=None,
    strides=(2, 2, 2, 1, 2, 1),
    activations=("relu6",) * 7,
    squeeze_excite=(False,) * 6,
    single_stages=1,
    outer_activation="relu6",
    norm_eps=1e-3,
)
"""The published OFA ProxylessNAS net, width 1.3, resolutions 128 to 224; its last stage has one block."""

FASHION_MNIST_MBV3 = MobileNetConfig(
    stem_width=8,
    first_width=8,
    widths=(24, 48, 96),
    final_width=192,
    feature_width=256,
    stem_stride=1,
    strides=(2, 2, 2),
    activations=("relu", "relu", "hswish", "hswish"),
    squeeze_excite=(False, False, True),
    kernel_sizes=(3, 5),
    expand_ratios=(2, 3, 4),
    depths=(1, 2, 3),
    resolutions=(24, 26, 28),
    in_channels=1,
    num_classes=10,
    dropout=0.0,
)
"""A small net for grey images of 28x28 pixels.

The first convolution keeps the resolution, where details of such images are; few channels and few expanded ones there
keep the depthwise convolutions cheap to train on a CPU.
"""

DIGITS_MBV3 = MobileNetConfig(
    stem_width=16,
    first_width=16,
    widths=(24, 32, 48),
    final_width=128,
    feature_width=128,
    stem_stride=1,
    strides=(2, 2, 1),
    activations=("relu", "relu", "hswish", "hswish"),
    squeeze_excite=(False, True, True),
    kernel_sizes=(3, 5),
    expand_ratios=(2, 3, 4),
    depths=(1, 2, 3),
    resolutions=(8, 12, 16),
    in_channels=1,
    num_classes=10,
    dropout=0.0,
)
"""A small net for scikit-learn's 8x8 digits, as they are or enlarged to 12 or 16 pixels."""

MOBILENETS = dict(
    [
        network(
            "ofa_mbv3_d234_e346_k357_w1.0",
            OFA_MBV3_W1_0,
            "mobilenet",
            "OFA MobileNetV3, width 1.0, ImageNet, 128 to 224 pixels (Cai et al., 2020)",
            dataset="imagenet",
            weights=_OFA + "ofa_mbv3_d234_e346_k357_w1.0",
            channels=3,
        ),
        network(
            "ofa_mbv3_d234_e346_k357_w1.2",
            OFA_MBV3_W1_2,
            "mobilenet",
            "OFA MobileNetV3, width 1.2, ImageNet, 160 to 224 pixels (Cai et al., 2020)",
            dataset="imagenet",
            weights=_OFA + "ofa_mbv3_d234_e346_k357_w1.2",
            channels=3,
        ),
        network(
            "ofa_proxyless_d234_e346_k357_w1.3",
            OFA_PROXYLESS_W1_3,
            "mobilenet",
            "OFA ProxylessNAS, width 1.3, ImageNet, 128 to 224 pixels (Cai et al., 2020)",
            dataset="imagenet",
            weights=_OFA + "ofa_proxyless_d234_e346_k357_w1.3",
            channels=3,
        ),
        network(
            "compofa_mbv3_w1.0",
            CompOFAConfig(),
            "mobilenet",
            "OFA MobileNetV3, width 1.0, with CompOFA's 243 sub-networks per resolution (Sahni et al., 2021)",
            dataset="imagenet",
            weights=_OFA + "ofa_mbv3_d234_e346_k357_w1.0",
            channels=3,
        ),
        network(
            "compofa_mbv3_w1.2",
            CompOFAConfig(width_mult=1.2, resolutions=OFA_MBV3_W1_2.resolutions),
            "mobilenet",
            "OFA MobileNetV3, width 1.2, with CompOFA's 243 sub-networks per resolution (Sahni et al., 2021)",
            dataset="imagenet",
            weights=_OFA + "ofa_mbv3_d234_e346_k357_w1.2",
            channels=3,
        ),
        network(
            "fashion_mnist_mbv3",
            FASHION_MNIST_MBV3,
            "mobilenet",
            "small MobileNetV3-style net for grey images of 28x28 pixels",
            dataset="fashion_mnist",
            channels=1,
        ),
        network(
            "digits_mbv3",
            DIGITS_MBV3,
            "mobilenet",
            "small MobileNetV3-style net for scikit-learn's digits",
            dataset="digits",
            channels=1,
        ),
    ]
)
"""The registry's entries of this family."""
