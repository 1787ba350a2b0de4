"""The parts of speech recognizers, of plain or of elastic layers.

Every class computes with whatever layers it is given; those called `Elastic...` are given elastic ones, and return
themselves with plain ones from `extract`.

Source: Vaswani et al., 2017, "Attention Is All You Need", with normalisation before each part of a layer.
"""

from __future__ import annotations

import copy
import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.elastic import (
    Attention,
    ElasticAttention,
    ElasticEmbedding,
    ElasticFeedForward,
    ElasticLayerNorm,
    ElasticLinear,
    ElasticPreNormLayer,
    FeedForward,
)
from nas_compress.supernets.asr_config import AsrConfig
from nas_compress.supernets.asr_cost import halved

ACTIVATION = "gelu"


def positions(length: int, width: int, most: int, like: Tensor) -> Tensor:
    """Return sinusoidal positions, shape (length, width), of the type and on the device of `like`.

    Vaswani et al., 2017, section 3.5, with sines and cosines in turn. Narrow layers have the leading features of the
    widest ones' positions, so that a shared feature means the same to all of them. They are computed in fp32 at least:
    in bf16, the angles of later positions would be off by up to a radian.

    Args:
        length: Number of positions.
        width: Number of features.
        most: Features of the widest layers.
        like: A tensor.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    rates = torch.exp(torch.arange(0, width, 2, dtype=dtype, device=like.device) * (-math.log(1e4) / most))
    angles = torch.arange(length, dtype=dtype, device=like.device)[:, None] * rates
    return torch.stack((angles.sin(), angles.cos()), 2).flatten(1)[:, :width].to(like.dtype)


def within(lengths: Tensor, frames: int) -> Tensor:
    """Return which of so many frames are no padding, shape (N, frames), for lengths of shape (N,)."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


class SpeechFront(nn.Module):
    """Two convolutions of stride 2 over time and mel bands, then a linear layer, and positions.

    Frames of padding are set to 0 before each convolution, which is how a convolution pads: an utterance gives the
    same frames alone and in a batch with longer ones.

    Args:
        convs: Two convolutions of one kernel size, stride 2, padded by half their size.
        project: Linear layer from all bands and channels to the features.
        width: Features of the widest layers; see `positions`.
        dropout: Probability of dropping a feature in training.
    """

    def __init__(self, convs: nn.ModuleList, project: nn.Module, width: int, dropout: float) -> None:
        super().__init__()
        self.convs, self.project, self.width = convs, project, width
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map (N, T, mels) to (N, T / 4, features), T / 4 rounded up.

        Args:
            features: Log-mel features.
            lengths: Frames of each utterance before padding, shape (N,); all T by default.
        """
        x = features[:, None]
        for conv in self.convs:
            if lengths is not None:
                x = x * within(lengths, x.shape[2])[:, None, :, None].to(x.dtype)
                lengths = (lengths + 1) // 2
            x = F.gelu(conv(x))
        x = self.project(x.transpose(1, 2).flatten(2))
        return cast(Tensor, self.dropout(x + positions(x.shape[1], x.shape[2], self.width, x)))

    def extract(self) -> SpeechFront:
        """Return the active part with plain layers; for an elastic linear layer."""
        project = cast(ElasticLinear, self.project).extract()
        return SpeechFront(copy.deepcopy(self.convs).cpu(), project, self.width, self.dropout.p)


def speech_front(config: AsrConfig, width: int) -> SpeechFront:
    """Return the elastic front of a configuration, of up to so many features."""
    channels, kernel = config.conv_channels, config.conv_kernel
    convs = nn.ModuleList(nn.Conv2d(i, channels, kernel, 2, kernel // 2) for i in (1, channels))
    project = ElasticLinear(channels * halved(halved(config.mels)), width)
    return SpeechFront(convs, project, max(config.widths), config.dropout)


def encoder_layer(width: int, hidden: int, heads: int, dropout: float) -> ElasticPreNormLayer:
    """Return an encoder layer with elastic features, heads and hidden features, of at most so many."""
    attention, feed_forward = ElasticAttention(width, width, heads), ElasticFeedForward(width, hidden, ACTIVATION)
    return ElasticPreNormLayer(attention, feed_forward, dropout=dropout)


class DecoderLayer(nn.Module):
    """Attention to the tokens before, attention to the utterance, and a feed-forward part.

    Args:
        attention: Attends to the tokens up to the present one.
        cross: Attends to the encoder's outputs.
        feed_forward: The feed-forward part.
        norms: The three normalisations.
        dropout: Probability of dropping a feature of each part's outputs in training.
    """

    def __init__(
        self, attention: Attention, cross: Attention, feed_forward: FeedForward, norms: list[nn.Module], dropout: float
    ) -> None:
        super().__init__()
        self.attention, self.cross, self.feed_forward = attention, cross, feed_forward
        self.norms = nn.ModuleList(norms)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (N, U, features) to the same shape.

        Args:
            x: The inputs, a position per token.
            memory: The encoder's outputs, shape (N, L, features).
            mask: Which of them are no padding, shape (N, 1, 1, L); all by default.
        """
        x = x + self.dropout(self.attention(self.norms[0](x), causal=True))
        x = x + self.dropout(self.cross(self.norms[1](x), memory, mask))
        return x + cast(Tensor, self.dropout(self.feed_forward(self.norms[2](x))))


class ElasticDecoderLayer(DecoderLayer):
    """A decoder layer with elastic features.

    Args:
        width: The most features.
        hidden: Hidden features of the feed-forward part.
        heads: Number of heads.
        dropout: See `DecoderLayer`.
    """

    attention: ElasticAttention
    cross: ElasticAttention
    feed_forward: ElasticFeedForward

    def __init__(self, width: int, hidden: int, heads: int, dropout: float) -> None:
        attentions = ElasticAttention(width, width, heads), ElasticAttention(width, width, heads)
        norms: list[nn.Module] = [ElasticLayerNorm(width) for _ in range(3)]
        super().__init__(*attentions, ElasticFeedForward(width, hidden, ACTIVATION), norms, dropout)
        self.hidden, self.heads = hidden, heads

    def set_active(self, width: int) -> None:
        """Use the leading features."""
        self.attention.set_active(width, width, self.heads)
        self.cross.set_active(width, width, self.heads)
        self.feed_forward.set_active(width, self.hidden)
        for norm in self.norms:
            cast(ElasticLayerNorm, norm).active_features = width

    def extract(self) -> DecoderLayer:
        """Return the active part with plain layers."""
        parts = self.attention.extract(), self.cross.extract(), self.feed_forward.extract()
        norms: list[nn.Module] = [cast(ElasticLayerNorm, norm).extract() for norm in self.norms]
        return DecoderLayer(*parts, norms, self.dropout.p)


class TokenEmbedding(nn.Module):
    """Features of tokens, times the root of their number, and positions.

    Args:
        embedding: The features, plain or elastic.
        width: Features of the widest layers; see `positions`.
        dropout: Probability of dropping a feature in training.
    """

    def __init__(self, embedding: nn.Module, width: int, dropout: float) -> None:
        super().__init__()
        self.embedding, self.width = embedding, width
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (N, U) to (N, U, features)."""
        x = self.embedding(tokens)
        x = x * math.sqrt(x.shape[2]) + positions(x.shape[1], x.shape[2], self.width, x)
        return cast(Tensor, self.dropout(x))

    def extract(self) -> TokenEmbedding:
        """Return the active part with plain layers; for an elastic embedding."""
        return TokenEmbedding(cast(ElasticEmbedding, self.embedding).extract(), self.width, self.dropout.p)
