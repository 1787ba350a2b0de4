"""The blocks of HAT's sub-networks, for look-up tables of latencies."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from nas_compress.data.vocabulary import SPECIALS
from nas_compress.space import Architecture
from nas_compress.supernets.base import Block
from nas_compress.supernets.cut import part
from nas_compress.supernets.hat_config import decoder_sizes, encoder_sizes, memory_layers
from nas_compress.supernets.randomness import normal
from nas_compress.supernets.translator import Embedding, leading

if TYPE_CHECKING:
    from nas_compress.supernets.hat import HATSupernet


def hat_blocks(supernet: HATSupernet, architecture: Architecture) -> list[Block]:
    """Return source embedding, encoder layers, target embedding, decoder layers and output; see `Supernet.blocks`.

    A layer of the decoder takes the outputs of the encoder's last layers besides those of the layer before it. Each
    embedding, and the output, has a table of its own, whatever the sub-network's parts share: that costs no time.
    """
    supernet.space.validate(architecture)
    width = int(architecture["decoder_embed_dim"][0])
    return [
        _embedding(supernet, 0, int(architecture["encoder_embed_dim"][0])),
        *(_encoder_layer(supernet, architecture, i, sizes) for i, sizes in enumerate(encoder_sizes(architecture))),
        _embedding(supernet, 1, width),
        *(_decoder_layer(supernet, architecture, i, sizes) for i, sizes in enumerate(decoder_sizes(architecture))),
        _output(supernet, width),
    ]


class EmbeddingBlock(nn.Module):
    """An embedding with its own table.

    Args:
        embedding: The embedding.
        table: Its table.
    """

    def __init__(self, embedding: Embedding, table: nn.Embedding) -> None:
        super().__init__()
        self.embedding, self.table = embedding, table

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (N, L) to features (N, L, width)."""
        return cast(Tensor, self.embedding(tokens, self.table))


class OutputBlock(nn.Module):
    """The product of features and a table.

    Args:
        table: Embeddings of the output's tokens.
    """

    def __init__(self, table: nn.Embedding) -> None:
        super().__init__()
        self.table = table

    def forward(self, x: Tensor) -> Tensor:
        """Map features (N, L, width) to logits (N, L, tokens)."""
        return nn.functional.linear(x, self.table.weight)


def _embedding(supernet: HATSupernet, part: int, width: int) -> Block:
    c, net = supernet.config, supernet.net
    tokens, length = ((c.source_vocabulary, c.source_length), (c.target_vocabulary, c.target_length))[part]

    def build() -> nn.Module:
        positions = (net.source, net.target)[part].positions[:, :width].clone()
        return EmbeddingBlock(Embedding(positions, width, 0.0), leading(net.table(part), width)).cpu().eval()

    def example(batch: int) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randint(len(SPECIALS), tokens, (batch, length), generator=generator)

    return Block(f"hat_embedding tokens={tokens} width={width} len={length}", build, example)


def _encoder_layer(supernet: HATSupernet, architecture: Architecture, i: int, sizes: dict[str, int]) -> Block:
    c = supernet.config

    def example(batch: int) -> tuple[Tensor, ...]:
        return _features(batch, c.source_length, sizes["width"]), _mask(batch, c.source_length)

    key = f"hat_encoder_layer {_text(sizes)} qkv={c.qkv_dim} len={c.source_length}"
    return Block(key, part(supernet, architecture, supernet.net.encoder[i]), example)


def _decoder_layer(supernet: HATSupernet, architecture: Architecture, i: int, sizes: dict[str, int]) -> Block:
    c = supernet.config

    def example(batch: int) -> tuple[Tensor, ...]:
        memory = _features(batch, c.source_length, sizes["encoder_width"])
        x, mask = _features(batch, c.target_length, sizes["width"]), _mask(batch, c.source_length)
        return (x, mask, *[memory] * memory_layers(sizes["arbitrary"]))

    key = f"hat_decoder_layer {_text(sizes)} qkv={c.qkv_dim} len={c.target_length} source_len={c.source_length}"
    return Block(key, part(supernet, architecture, supernet.net.decoder[i]), example)


def _output(supernet: HATSupernet, width: int) -> Block:
    tokens, length = supernet.config.target_vocabulary, supernet.config.target_length

    def build() -> nn.Module:
        return OutputBlock(leading(supernet.net.table(2), width)).cpu().eval()

    key = f"hat_output tokens={tokens} width={width} len={length}"
    return Block(key, build, lambda batch: _features(batch, length, width))


def _text(sizes: dict[str, int]) -> str:
    return " ".join(f"{name}={size}" for name, size in sizes.items())


def _features(batch: int, length: int, width: int) -> Tensor:
    return normal(batch, length, width)


def _mask(batch: int, length: int) -> Tensor:
    return torch.ones(batch, 1, 1, length, dtype=torch.bool)
