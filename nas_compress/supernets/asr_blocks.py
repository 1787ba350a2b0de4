"""The blocks of speech recognizers, for look-up tables of latencies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nas_compress.supernets.asr_config import AsrConfig
from nas_compress.supernets.asr_cost import halved
from nas_compress.supernets.asr_layers import (
    ElasticDecoderLayer,
    TokenEmbedding,
    encoder_layer,
    speech_front,
)
from nas_compress.supernets.base import Block, Inputs
from nas_compress.supernets.cut import Elastic, fresh
from nas_compress.supernets.randomness import normal


def example_utterances(config: AsrConfig, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return standard normal features (N, T, mels), tokens (N, U) and lengths (N,) without padding, always the same."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(batch, config.frames, config.mels, generator=generator)
    tokens = torch.randint(config.vocabulary, (batch, config.tokens), generator=generator)
    return features, tokens, torch.full((batch,), config.frames)


def asr_blocks(config: AsrConfig, layers: Sequence[tuple[int, int]], width: int) -> list[Block]:
    """Return the blocks of a sub-network in the order in which they run.

    Args:
        config: The network.
        layers: Hidden width and heads of each encoder layer.
        width: Features of all layers.
    """
    return [*_encoder(config, layers, width), *_decoder(config, width)]


def _encoder(c: AsrConfig, layers: Sequence[tuple[int, int]], width: int) -> list[Block]:
    t = halved(halved(c.frames))

    def layer(hidden: int, heads: int) -> Block:
        build = partial(_plain, encoder_layer, width, hidden, heads, 0.0)
        return _block(f"asr_encoder d={width} f={hidden} h={heads} t={t}", build, lambda n: (states(n), _seen(n, t)))

    def states(batch: int) -> Tensor:
        return normal(batch, t, width)

    sizes = f"mels={c.mels} c={c.conv_channels} k={c.conv_kernel}"
    return [
        _block(
            f"asr_front {sizes} d={width} t={c.frames}",
            partial(_plain, speech_front, c, width),
            lambda n: example_utterances(c, n)[::2],
        ),
        *[layer(hidden, heads) for hidden, heads in layers],
        _block(f"asr_norm d={width} t={t}", lambda: nn.LayerNorm(width), states),
        _block(
            f"asr_ctc d={width} v={c.vocabulary} t={t}",
            lambda: nn.Sequential(nn.Linear(width, c.vocabulary), nn.LogSoftmax(2)),
            states,
        ),
    ]


def _decoder(c: AsrConfig, width: int) -> list[Block]:
    t, words = halved(halved(c.frames)), f"d={width} v={c.vocabulary} u={c.tokens}"

    def states(batch: int) -> Tensor:
        return normal(batch, c.tokens, width)

    layer = _block(
        f"asr_decoder d={width} f={c.decoder_hidden} h={c.decoder_heads} u={c.tokens} t={t}",
        partial(_plain, ElasticDecoderLayer, width, c.decoder_hidden, c.decoder_heads, 0.0),
        lambda n: (states(n), normal(n, t, width), _seen(n, t)),
    )
    return [
        _block(
            f"asr_embedding {words}",
            lambda: TokenEmbedding(nn.Embedding(c.vocabulary, width), width, 0.0),
            lambda n: example_utterances(c, n)[1],
        ),
        *[layer] * c.decoder_layers,
        _block(
            f"asr_output {words}",
            lambda: nn.Sequential(nn.LayerNorm(width), nn.Linear(width, c.vocabulary)),
            states,
        ),
    ]


def _block(key: str, build: Callable[[], nn.Module], example: Callable[[int], Inputs]) -> Block:
    return Block(key, partial(fresh, build), example)


def _plain(make: Callable[..., Elastic], *sizes: Any) -> nn.Module:
    """Return an elastic layer of just these sizes, with plain layers in it."""
    return make(*sizes).extract()


def _seen(batch: int, frames: int) -> Tensor:
    return torch.ones(batch, 1, 1, frames, dtype=torch.bool)
