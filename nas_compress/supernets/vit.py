"""Super-networks of vision transformers: the published AutoFormers, ViT-B/16 and small ones, one class.

Sources: Dosovitskiy et al., 2021, "An Image is Worth 16x16 Words"; Chen et al., 2021, "AutoFormer: Searching
Transformers for Visual Recognition" (weight entanglement: all sub-networks use leading parts of the same weights; in
the published configuration nothing is rescaled for the width, and classes are read from the mean of the patches).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_compress.elastic import (
    ElasticAttention,
    ElasticFeedForward,
    ElasticJointBiasLinear,
    ElasticPatchEmbedding,
    ElasticPreNormLayer,
    ElasticTokenClassifier,
    RelativeDotProduct,
    permute,
)
from nas_compress.space import Architecture, SearchSpace
from nas_compress.supernets import vit_cost
from nas_compress.supernets.base import Block, Cost, ImageSupernet
from nas_compress.supernets.cut import part
from nas_compress.supernets.randomness import normal, seeded
from nas_compress.supernets.vit_checkpoint import renamed
from nas_compress.supernets.vit_config import LayerSizes, ViTConfig
from nas_compress.supernets.vit_cost import ViTSizes


class ViTSupernet(ImageSupernet):
    """A vision transformer that is elastic in depth, heads, feed-forward widths and features of a token.

    Args:
        name: The name in records.
        config: Sizes, choices and published form.
        seed: Seed of the initial weights; None draws them from torch's global generator.
    """

    def __init__(self, name: str, config: ViTConfig, seed: int | None = None) -> None:
        super().__init__()
        self.name = name
        self.config = config
        self.in_channels = config.in_channels
        self.num_classes = config.num_classes
        self.space = config.space(name)
        with seeded(seed):
            self._build()
        self._configure(self.space.largest())

    def _build(self) -> None:
        c = self.config
        self.embedding = ElasticPatchEmbedding(c.in_channels, c.features, c.patch_size, c.tokens - 1)
        self.layers = nn.ModuleList(self._layer() for _ in range(max(c.depths)))
        self.head = ElasticTokenClassifier(c.features, c.num_classes, c.pool, c.eps)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def _layer(self) -> ElasticPreNormLayer:
        c = self.config
        heads, relative = max(c.heads), c.relative_positions
        mixing = None if relative is None else RelativeDotProduct(c.grid, c.head_size, relative)
        attention = ElasticAttention(c.features, heads * c.head_size, heads, mixing=mixing)
        if c.joint_bias:
            attention.value = ElasticJointBiasLinear(c.features, heads * c.head_size)
        feed_forward = ElasticFeedForward(c.features, c.hidden(c.features, max(c.mlp)), "gelu")
        return ElasticPreNormLayer(attention, feed_forward, c.eps)

    # -- sub-networks --------------------------------------------------------------------------------------

    def resolution(self, architecture: Architecture) -> int:
        """Return the height and width of the images in pixels, the same for all architectures."""
        return self.config.image_size

    def _layers(self, architecture: Architecture) -> Iterator[tuple[ElasticPreNormLayer, LayerSizes]]:
        """Yield the active layers of an architecture with their sizes."""
        for layer, sizes in zip(self.layers, self.config.layers(architecture), strict=False):
            yield cast(ElasticPreNormLayer, layer), sizes

    def _configure(self, architecture: Architecture) -> None:
        embed = self.config.embed_dim(architecture)
        self.embedding.set_active(embed)
        self.head.set_active(embed)
        for layer, sizes in self._layers(architecture):
            layer.set_active(embed, sizes.heads * self.config.head_size, sizes.heads, sizes.hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, channels, r, r) to logits (N, classes) with the active sub-network."""
        x = self.embedding(x)
        for layer, _ in self._layers(self._active):
            x = layer(x)
        return cast(Tensor, self.head(x))

    def extract(self, architecture: Architecture) -> nn.Module:
        """Return `Sequential(patch embedding, layers..., head)`; see the base class."""
        with self.activate(architecture):
            layers = [layer.extract() for layer, _ in self._layers(architecture)]
            return nn.Sequential(self.embedding.extract(), *layers, self.head.extract()).cpu().eval()

    def blocks(self, architecture: Architecture) -> list[Block]:
        """Return the patch embedding, every active layer, and the head; see the base class."""
        self.space.validate(architecture)
        c, embed = self.config, self.config.embed_dim(architecture)
        tokens = partial(_tokens, c.tokens, embed)
        start = f"vit_embed in={c.in_channels} patch={c.patch_size} r={c.image_size} dim={embed}"
        blocks = [Block(start, part(self, architecture, self.embedding), self.example_input)]
        common = f"dim={embed} tokens={c.tokens}"
        relative = 0 if c.relative_positions is None else c.relative_positions
        for layer, sizes in self._layers(architecture):
            key = f"vit_layer {common} heads={sizes.heads}x{c.head_size} mlp={sizes.hidden} relative={relative}"
            blocks.append(Block(key, part(self, architecture, layer), tokens))
        end = f"vit_head {common} pool={c.pool} classes={c.num_classes}"
        return [*blocks, Block(end, part(self, architecture, self.head), tokens)]

    # -- weights -------------------------------------------------------------------------------------------

    def sort_by_importance(self) -> None:
        """Reorder heads and hidden features of all layers, and the features of a token if they are elastic.

        Those that not even the largest sub-network uses stay where they are; see the base class.
        """
        with self.activate(self.space.largest()):
            for layer, _ in self._layers(self._active):
                layer.attention.sort_heads(self.config.head_size)
                layer.feed_forward.sort_hidden()
            if len(self.config.embed_dims) > 1:
                self._sort_features(self.config.embed_dim(self._active))

    @torch.no_grad()
    def _sort_features(self, count: int) -> None:
        """Reorder the leading features of a token, by the weights of all layers that read them."""
        layers = [layer for layer, _ in self._layers(self._active)]
        readers, rows = [self.head.classifier.weight], [*self.embedding.patches.parameters()]
        rows += [*self.head.norm.parameters()]
        for layer in layers:
            attention, feed_forward = layer.attention, layer.feed_forward
            readers += [part.weight for part in (attention.query, attention.key, attention.value, feed_forward.up)]
            rows += [*attention.out.parameters(), *feed_forward.down.parameters()]
            rows += [*layer.attention_norm.parameters(), *layer.feed_forward_norm.parameters()]
        norms = torch.stack([weight[:, :count].abs().sum(0) for weight in readers]).sum(0)
        order = norms.argsort(descending=True, stable=True)
        permute([tensor[:count] for tensor in rows], order)
        permute([weight[:, :count] for weight in readers], order, dim=1)
        permute([tensor[..., :count] for tensor in (self.embedding.class_token, self.embedding.positions)], order, 2)

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the keys of AutoFormer's, Hugging Face's, timm's or torchvision's checkpoints; see the base class."""
        return renamed(state, self.config.joint_bias)

    # -- cost ----------------------------------------------------------------------------------------------

    def encoded_cost(self, cost: Cost, space: SearchSpace, encoded: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the costs of many architectures, MACs of one image; see the base class."""
        count = vit_cost.macs if cost == "macs" else vit_cost.params
        return count(self.config, ViTSizes.of(self.config, space, encoded)).astype(np.float64)

    def encoded_layers(self, space: SearchSpace, encoded: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the layers of many architectures; see the base class."""
        return space.values(encoded)[self.config.names.depth][:, 0]

    def describe(self) -> dict[str, Any]:
        """Return the configuration as plain data."""
        return {"family": "vit", "name": self.name, **asdict(self.config)}


def _tokens(tokens: int, features: int, batch: int) -> Tensor:
    return normal(batch, tokens, features)


def build(name: str, config: ViTConfig, num_classes: int | None = None, seed: int | None = None) -> ViTSupernet:
    """Return a super-network of a registered configuration, for any number of classes."""
    if num_classes is not None:
        config = replace(config, num_classes=num_classes)
    return ViTSupernet(name, config, seed)
