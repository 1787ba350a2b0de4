"""Exact MACs and parameters of vision transformers for many architectures at once, without torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas_compress.space import SearchSpace
from nas_compress.supernets.vit_config import ViTConfig

IntVector = NDArray[np.int64]


@dataclass(frozen=True)
class ViTSizes:
    """What the costs of sub-networks depend on; one entry per sub-network, shape (n,) each.

    Attributes:
        embed: Features of a token.
        layers: Numbers of layers.
        heads: Attention heads of all layers together.
        hidden: Hidden features of all feed-forward parts together.
    """

    embed: IntVector
    layers: IntVector
    heads: IntVector
    hidden: IntVector

    @classmethod
    def of(cls, config: ViTConfig, space: SearchSpace, encoded: NDArray[np.int64]) -> ViTSizes:
        """Return the sizes of encoded architectures.

        Args:
            config: The network.
            space: Its space, or a part of that.
            encoded: Canonical choice indices, shape (n, genes).
        """
        values, names = space.values(encoded), config.names
        depth, heads, mlp = values[names.depth], values[names.heads], values[names.mlp]
        embed = np.full((len(encoded), 1), config.embed_dims[0]) if names.embed is None else values[names.embed]
        hidden = np.floor(embed * mlp if config.form == "ratios" else mlp)
        return cls(*(part.sum(axis=1).astype(np.int64) for part in (embed, depth, heads, hidden)))


def macs(config: ViTConfig, sizes: ViTSizes) -> IntVector:
    """Return the multiply-accumulates of one image, shape (n,).

    The convolution, linear layers and products of attention count, those with relative positions as they are taken
    here (see `RelativeDotProduct`): fewer than in AutoFormer's own code, which takes them with every patch.
    """
    tokens, patches, width = config.tokens, config.tokens - 1, config.head_size
    embedding = patches * config.in_channels * config.patch_size**2 * sizes.embed
    per_head = 4 * tokens * sizes.embed * width + 2 * tokens**2 * width
    if config.relative_positions is not None:
        per_head = per_head + 2 * patches * (sum(config.grid) + 2) * width
    per_feature = 2 * tokens * sizes.embed
    head = sizes.embed * config.num_classes
    return np.asarray(embedding + per_head * sizes.heads + per_feature * sizes.hidden + head)


def params(config: ViTConfig, sizes: ViTSizes) -> IntVector:
    """Return the numbers of parameters, shape (n,)."""
    embed, width = sizes.embed, config.head_size
    embedding = (config.in_channels * config.patch_size**2 + 1) * embed + (1 + config.tokens) * embed
    per_layer = 6 * embed  # two norms, the biases of the attention's and of the feed-forward part's outputs
    if config.relative_positions is not None:
        per_layer = per_layer + 4 * (2 * config.relative_positions + 2) * width
    per_head, per_feature = (4 * embed + 3) * width, 2 * embed + 1
    head = 2 * embed + (embed + 1) * config.num_classes
    layers = per_layer * sizes.layers + per_head * sizes.heads + per_feature * sizes.hidden
    return np.asarray(embedding + layers + head)
