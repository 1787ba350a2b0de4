"""The configurations of vision transformers, without torch: what a check needs to know before any work.

Sources: Dosovitskiy et al., 2021, "An Image is Worth 16x16 Words"; Chen et al., 2021, "AutoFormer: Searching
Transformers for Visual Recognition", and its published configurations; the spaces of DyNAS-T and of DE-NAS.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, NamedTuple

from nas_compress.errors import ArchitectureError, ConfigError
from nas_compress.space import Architecture, SearchSpace
from nas_compress.space.dimension import Dimension, depth_conditions
from nas_compress.supernets.entry import network

_AUTOFORMER = "https://github.com/silent-chen/AutoFormer-model-zoo/releases/download/v1.0/"

Form = Literal["ratios", "widths"]


class Names(NamedTuple):
    """What a published space calls its dimensions; `embed` is None where all layers always have all features."""

    depth: str
    heads: str
    mlp: str
    embed: str | None


class LayerSizes(NamedTuple):
    """The open sizes of one layer: heads of the attention, hidden features of the feed-forward part."""

    heads: int
    hidden: int


_NAMES: dict[Form, Names] = {
    "ratios": Names("depth", "num_heads", "mlp_ratio", "embed_dim"),
    "widths": Names("num_layers", "num_attention_heads", "vit_intermediate_sizes", None),
}


@dataclass(frozen=True)
class ViTConfig:
    """Everything that makes one net of this family; the defaults are the published AutoFormer-tiny.

    Attributes:
        depths: Elastic numbers of layers; the first ones are kept.
        heads: Elastic numbers of attention heads of each layer; the first ones are kept, and keep their size.
        mlp: Elastic widths of the feed-forward part of each layer, as `form` says.
        embed_dims: Elastic features of a token.
        form: `"ratios"`: `mlp` is relative to the features of a token; the genes are AutoFormer's (`depth`,
            `num_heads`, `mlp_ratio`, `embed_dim`). `"widths"`: `mlp` are features, those of a token are fixed; the
            genes are DyNAS-T's (`num_layers`, `num_attention_heads`, `vit_intermediate_sizes`).
        stored_embed: Features of a token that there are weights for; the largest of `embed_dims` by default.
        head_size: Features of one attention head.
        relative_positions: The largest distance in rows or columns of patches that attention has embeddings of its
            own for; None for no relative positions.
        joint_bias: Whether the values' biases are parts of one joint with queries and keys; see
            `ElasticJointBiasLinear`.
        pool: What classes are read from: the `"class"` token, or the `"mean"` of all others.
        eps: Added to variances by LayerNorm.
        image_size: Height and width of the images in pixels.
        patch_size: Height and width of a patch in pixels.
        in_channels: Channels of the images.
        num_classes: Number of logits.

    Raises:
        ConfigError: A value is out of range.
    """

    depths: tuple[int, ...] = (12, 13, 14)
    heads: tuple[int, ...] = (3, 4)
    mlp: tuple[float, ...] = (3.5, 4)
    embed_dims: tuple[int, ...] = (192, 216, 240)
    form: Form = "ratios"
    stored_embed: int | None = None
    head_size: int = 64
    relative_positions: int | None = 14
    joint_bias: bool = True
    pool: str = "mean"
    eps: float = 1e-5
    image_size: int = 224
    patch_size: int = 16
    in_channels: int = 3
    num_classes: int = 1000

    def __post_init__(self) -> None:
        for name in ("depths", "heads", "mlp", "embed_dims"):
            values = getattr(self, name)
            if not values:
                raise ConfigError(f"{name} is empty; wants at least one entry")
            if name == "mlp" and min(values) <= 0:
                raise ConfigError(f"{name} holds {min(values)}; wants more than 0")
            if name != "mlp" and min(values) < 1:
                raise ConfigError(f"{name} holds {min(values)}; wants at least 1")
        for name in ("head_size", "patch_size", "image_size", "in_channels", "num_classes", "relative_positions"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} = {value}; wants at least 1")
        if self.image_size % self.patch_size:
            raise ConfigError(f"image_size = {self.image_size} is no multiple of patch_size = {self.patch_size}")
        if self.eps <= 0:
            raise ConfigError(f"eps = {self.eps}; wants more than 0")
        self._check_words()

    def _check_words(self) -> None:
        if self.form not in _NAMES:
            raise ConfigError(f"unknown form {self.form!r}; known: {', '.join(_NAMES)}")
        if self.pool not in ("class", "mean"):
            raise ConfigError(f"unknown pool {self.pool!r}; known: class, mean")
        if self.form == "widths" and len(self.embed_dims) > 1:
            raise ConfigError(f"embed_dims has {len(self.embed_dims)} entries; the form 'widths' wants one")
        if self.features < max(self.embed_dims):
            raise ConfigError(f"stored_embed = {self.stored_embed}; embed_dims goes up to {max(self.embed_dims)}")
        for embed, mlp in product(self.embed_dims, self.mlp):
            if self.hidden(embed, mlp) < 1:
                raise ConfigError(f"mlp holds {mlp}: no hidden features of embed_dims {embed}")

    # -- sizes ---------------------------------------------------------------------------------------------

    @property
    def names(self) -> Names:
        """What the dimensions are called."""
        return _NAMES[self.form]

    @property
    def features(self) -> int:
        """The most features of a token that there are weights for."""
        return max(self.embed_dims) if self.stored_embed is None else self.stored_embed

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.image_size // self.patch_size, self.image_size // self.patch_size

    @property
    def tokens(self) -> int:
        """Number of tokens, the class token included."""
        return 1 + self.grid[0] * self.grid[1]

    def hidden(self, embed: int, mlp: float) -> int:
        """Return the hidden features of a feed-forward part, rounded down as in AutoFormer.

        Args:
            embed: Features of a token.
            mlp: The gene: a ratio or a number of features.
        """
        return int(embed * mlp) if self.form == "ratios" else int(mlp)

    def embed_dim(self, architecture: Architecture) -> int:
        """Return the features of a token of an architecture."""
        return self.embed_dims[0] if self.names.embed is None else int(architecture[self.names.embed][0])

    def layers(self, architecture: Architecture) -> Iterator[LayerSizes]:
        """Yield the sizes of the active layers of an architecture, from the first to the last."""
        embed, (depth,) = self.embed_dim(architecture), architecture[self.names.depth]
        genes = zip(architecture[self.names.heads], architecture[self.names.mlp], strict=True)
        for heads, mlp in list(genes)[: int(depth)]:
            yield LayerSizes(int(heads), self.hidden(embed, float(mlp)))

    # -- architectures -------------------------------------------------------------------------------------

    def space(self, name: str) -> SearchSpace:
        """Return the search space of a net of this configuration."""
        names, slots = self.names, max(self.depths)
        depth = Dimension.uniform(names.depth, self.depths)
        heads = Dimension.uniform(names.heads, self.heads, slots)
        mlp = Dimension.uniform(names.mlp, self.mlp, slots)
        conditions = depth_conditions(names.depth, (names.heads, names.mlp), [slots])
        if names.embed is None:
            return SearchSpace(name, (depth, heads, mlp), conditions)
        embed = Dimension.uniform(names.embed, self.embed_dims)
        return SearchSpace(name, (depth, mlp, heads, embed), conditions)

    def architecture(self, row: Sequence[float]) -> Architecture:
        """Return the architecture that AutoFormer and DE-NAS write as `(depth, *mlp_ratio, *num_heads, embed_dim)`.

        Their rows hold one ratio and one number of heads for every layer in use.

        Raises:
            ArchitectureError: The row's length does not go with its depth, or not with this space.
        """
        most = max(self.depths)
        depth = int(row[0]) if row else 0
        if self.names.embed is None or not 1 <= depth <= most or len(row) != 2 * depth + 2:
            raise ArchitectureError(f"not (depth, mlp_ratio..., num_heads..., embed_dim), depth up to {most}: {row}")
        unused = (0,) * (most - depth)
        mlp, heads = (*row[1 : 1 + depth], *unused), (*row[1 + depth : -1], *unused)
        names = self.names
        return Architecture({names.depth: depth, names.mlp: mlp, names.heads: heads, "embed_dim": row[-1]})


AUTOFORMER_TINY = ViTConfig(stored_embed=256)
"""The published AutoFormer-T supernet: 4 heads and 256 features, of which the space takes up to 240."""

AUTOFORMER_SMALL = ViTConfig(heads=(5, 6, 7), mlp=(3, 3.5, 4), embed_dims=(320, 384, 448))
"""The published AutoFormer-S supernet."""

AUTOFORMER_BASE = ViTConfig(
    depths=(14, 15, 16), heads=(9, 10), mlp=(3, 3.5, 4), embed_dims=(528, 576, 624), stored_embed=640
)
"""The published AutoFormer-B supernet: 10 heads and 640 features, of which the space takes up to 624."""

DENAS_VIT = ViTConfig(
    depths=tuple(range(12, 17)),
    heads=(3, 4, 5, 6, 7, 9, 10),
    mlp=(3, 3.5, 4),
    embed_dims=(192, 216, 240, 320, 384, 448, 528, 576, 624),
    stored_embed=640,
)
"""DE-NAS's ViT space, in a supernet of AutoFormer-B's sizes."""

VIT_BASE = ViTConfig(
    depths=(10, 11, 12),
    heads=(6, 8, 10, 12),
    mlp=(1024, 2048, 3072),
    embed_dims=(768,),
    form="widths",
    relative_positions=None,
    joint_bias=False,
    pool="class",
    eps=1e-6,
)
"""ViT-B/16 in DyNAS-T's space; as in the original, timm and torchvision, LayerNorm adds 1e-6 (Hugging Face: 1e-12)."""

CIFAR10_VIT = ViTConfig(
    depths=(3, 4, 5, 6),
    heads=(1, 2, 3),
    mlp=(2, 3, 4),
    embed_dims=(64, 80, 96),
    head_size=32,
    relative_positions=7,
    joint_bias=False,
    image_size=32,
    patch_size=4,
    num_classes=10,
)
"""A small net for CIFAR-10."""

DIGITS_VIT = ViTConfig(
    depths=(2, 3, 4),
    heads=(1, 2, 3),
    mlp=(1, 2, 3),
    embed_dims=(32, 40, 48),
    head_size=16,
    relative_positions=3,
    joint_bias=False,
    image_size=8,
    patch_size=2,
    in_channels=1,
    num_classes=10,
)
"""A small net for scikit-learn's 8x8 digits."""

VITS = dict(
    [
        network(
            "autoformer_tiny",
            AUTOFORMER_TINY,
            "vit",
            "AutoFormer-T, ImageNet, 224 pixels (Chen et al., 2021)",
            dataset="imagenet",
            weights=_AUTOFORMER + "supernet-tiny.pth",
            channels=3,
        ),
        network(
            "autoformer_small",
            AUTOFORMER_SMALL,
            "vit",
            "AutoFormer-S, ImageNet, 224 pixels (Chen et al., 2021)",
            dataset="imagenet",
            weights=_AUTOFORMER + "supernet-small.pth",
            channels=3,
        ),
        network(
            "autoformer_base",
            AUTOFORMER_BASE,
            "vit",
            "AutoFormer-B, ImageNet, 224 pixels (Chen et al., 2021)",
            dataset="imagenet",
            weights=_AUTOFORMER + "supernet-base.pth",
            channels=3,
        ),
        network(
            "denas_vit",
            DENAS_VIT,
            "vit",
            "DE-NAS's ViT space, ImageNet, 224 pixels",
            dataset="imagenet",
            channels=3,
        ),
        network(
            "vit_base_imagenet",
            VIT_BASE,
            "vit",
            "ViT-B/16 with DyNAS-T's elastic layers, heads and MLP, ImageNet, 224 pixels",
            dataset="imagenet",
            channels=3,
        ),
        network(
            "cifar10_vit",
            CIFAR10_VIT,
            "vit",
            "small AutoFormer-style net for CIFAR-10",
            dataset="cifar10",
            channels=3,
        ),
        network(
            "digits_vit",
            DIGITS_VIT,
            "vit",
            "small AutoFormer-style net for scikit-learn's digits",
            dataset="digits",
            channels=1,
        ),
    ]
)
"""The registry's entries of this family.

No weights are published for `denas_vit` (AutoFormer-B's fit it) and `vit_base_imagenet`, which takes those of ViT-B/16:
Hugging Face's `ViTForImageClassification`, timm's or torchvision's. DyNAS-T's own network is another one: it normalises
once more after every attention.
"""
