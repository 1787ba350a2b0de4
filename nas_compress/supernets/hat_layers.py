"""The layers of HAT's transformers, plain and elastic."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas_compress.elastic import Attention, ElasticAttention, ElasticFeedForward, ElasticLayerNorm, FeedForward
from nas_compress.supernets.hat_config import memory_layers


class EncoderLayer(nn.Module):
    """Self-attention, then a feed-forward part, each followed by the sum with its input and its normalisation.

    Source: Vaswani et al., 2017, "Attention Is All You Need", section 3.1.

    Args:
        attention: Self-attention.
        attention_norm: Normalisation after it.
        feed_forward: The feed-forward part.
        feed_forward_norm: Normalisation after that.
        dropout: Probability of dropping a feature before each sum.
    """

    def __init__(
        self,
        attention: Attention,
        attention_norm: nn.LayerNorm,
        feed_forward: FeedForward,
        feed_forward_norm: nn.LayerNorm,
        dropout: float,
    ) -> None:
        super().__init__()
        self.attention, self.attention_norm = attention, attention_norm
        self.feed_forward, self.feed_forward_norm = feed_forward, feed_forward_norm
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map (N, S, width) to the same shape.

        Args:
            x: The inputs.
            mask: True where there is a token, shape (N, 1, 1, S).
        """
        x = self.attention_norm(x + self.dropout(self.attention(x, mask=mask)))
        y: Tensor = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        return y


class ElasticEncoderLayer(EncoderLayer):
    """An encoder layer with elastic width, heads and hidden features.

    Args:
        width: The largest width.
        qkv: Width of all heads' queries, keys and values, the same for every number of heads.
        heads: The most heads.
        hidden: The most hidden features.
        dropout: Dropout of the widest net; in narrower ones it is smaller in proportion, as in HAT.
    """

    attention: ElasticAttention
    attention_norm: ElasticLayerNorm
    feed_forward: ElasticFeedForward
    feed_forward_norm: ElasticLayerNorm

    def __init__(self, width: int, qkv: int, heads: int, hidden: int, dropout: float) -> None:
        attention, feed_forward = ElasticAttention(width, qkv, heads), ElasticFeedForward(width, hidden, "relu")
        super().__init__(attention, ElasticLayerNorm(width), feed_forward, ElasticLayerNorm(width), dropout)
        self._width, self._qkv, self._dropout = width, qkv, dropout

    def set_active(self, width: int, heads: int, hidden: int) -> None:
        """Use the leading features, so many heads, and the leading hidden features."""
        self.attention.set_active(width, self._qkv, heads)
        self.feed_forward.set_active(width, hidden)
        self.attention_norm.active_features = self.feed_forward_norm.active_features = width
        self.dropout.p = self._dropout * width / self._width

    def extract(self) -> EncoderLayer:
        """Return the active part with plain layers."""
        return EncoderLayer(
            self.attention.extract(),
            self.attention_norm.extract(),
            self.feed_forward.extract(),
            self.feed_forward_norm.extract(),
            self.dropout.p,
        )


@dataclass
class LayerCache:
    """What a decoder layer keeps between the tokens that it decodes, for N sentences with B hypotheses each.

    Attributes:
        memory: Keys and values of the encoder's outputs, shape (N, heads, S, w) each.
        mask: True where the encoder's outputs are of a token, shape (N, 1, 1, S).
        own: Keys and values of the tokens so far, shape (N * B, heads, t, w) each; None before the first.
    """

    memory: tuple[Tensor, Tensor]
    mask: Tensor
    own: tuple[Tensor, Tensor] | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add keys and values of shape (N * B, heads, 1, w); return those of all tokens so far."""
        if self.own is not None:
            keys, values = torch.cat((self.own[0], keys), 2), torch.cat((self.own[1], values), 2)
        self.own = keys, values
        return self.own


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the encoder, and a feed-forward part, as in `EncoderLayer`.

    Args:
        attention: Self-attention.
        attention_norm: Normalisation after it.
        crossing: Attention to the encoder's outputs.
        crossing_norm: Normalisation after it.
        feed_forward: The feed-forward part.
        feed_forward_norm: Normalisation after that.
        dropout: Probability of dropping a feature before each sum.
        memories: How many layers of the encoder it looks at, counted from the last one (HAT, section 3.1).
    """

    def __init__(
        self,
        attention: Attention,
        attention_norm: nn.LayerNorm,
        crossing: Attention,
        crossing_norm: nn.LayerNorm,
        feed_forward: FeedForward,
        feed_forward_norm: nn.LayerNorm,
        dropout: float,
        memories: int,
    ) -> None:
        super().__init__()
        self.attention, self.attention_norm = attention, attention_norm
        self.crossing, self.crossing_norm = crossing, crossing_norm
        self.feed_forward, self.feed_forward_norm = feed_forward, feed_forward_norm
        self.dropout = nn.Dropout(dropout)
        self.memories = memories

    def forward(self, x: Tensor, mask: Tensor, *outputs: Tensor) -> Tensor:
        """Map (N, T, width) to the same shape.

        Padding is to the right of the target, where no token looks, so that it needs no mask.

        Args:
            x: The inputs.
            mask: True where the source has a token, shape (N, 1, 1, S).
            outputs: Outputs of the encoder's layers, the last one first, shape (N, S, encoder width) each.
        """
        cache = self.remember(mask, *outputs)
        return self._rest(x, self.attention(x, causal=True), cache)

    def remember(self, mask: Tensor, *outputs: Tensor) -> LayerCache:
        """Return the keys and values of the encoder's outputs; the arguments are those of `forward`."""
        if self.memories == 1:
            return LayerCache(self.crossing.keys_values(outputs[0]), mask)
        memory = torch.cat(outputs[: self.memories], 1)
        return LayerCache(self.crossing.keys_values(memory), torch.cat([mask] * self.memories, 3))

    def step(self, x: Tensor, cache: LayerCache) -> Tensor:
        """Map one more token of every hypothesis, shape (N, B, width), to the same shape."""
        own = x.flatten(0, 1).unsqueeze(1)
        attended = self.attention.attend(own, *cache.append(*self.attention.keys_values(own)))
        # The hypotheses of a sentence stand where a sentence's tokens do, so that they share its keys and values.
        return self._rest(x, attended.view_as(x), cache)

    def _rest(self, x: Tensor, attended: Tensor, cache: LayerCache) -> Tensor:
        x = self.attention_norm(x + self.dropout(attended))
        x = self.crossing_norm(x + self.dropout(self.crossing.attend(x, *cache.memory, cache.mask)))
        y: Tensor = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        return y


class ElasticDecoderLayer(DecoderLayer):
    """A decoder layer with elastic widths, heads, hidden features, and outputs of the encoder to look at.

    Args:
        width: The largest width.
        encoder_width: The largest width of the encoder.
        qkv: Width of all heads' queries, keys and values, the same for every number of heads.
        heads: The most heads of self-attention.
        crossing_heads: The most heads of attention to the encoder.
        hidden: The most hidden features.
        dropout: Dropout of the widest net; in narrower ones it is smaller in proportion, as in HAT.
    """

    attention: ElasticAttention
    attention_norm: ElasticLayerNorm
    crossing: ElasticAttention
    crossing_norm: ElasticLayerNorm
    feed_forward: ElasticFeedForward
    feed_forward_norm: ElasticLayerNorm

    def __init__(
        self, width: int, encoder_width: int, qkv: int, heads: int, crossing_heads: int, hidden: int, dropout: float
    ) -> None:
        super().__init__(
            ElasticAttention(width, qkv, heads),
            ElasticLayerNorm(width),
            ElasticAttention(width, qkv, crossing_heads, memory_features=encoder_width),
            ElasticLayerNorm(width),
            ElasticFeedForward(width, hidden, "relu"),
            ElasticLayerNorm(width),
            dropout,
            memories=1,
        )
        self._width, self._qkv, self._dropout = width, qkv, dropout

    def set_active(
        self, width: int, encoder_width: int, heads: int, crossing_heads: int, hidden: int, arbitrary: int
    ) -> None:
        """Use the leading features, so many heads, and the outputs that `arbitrary` stands for (see `HATConfig`)."""
        self.attention.set_active(width, self._qkv, heads)
        self.crossing.set_active(width, self._qkv, crossing_heads, memory_features=encoder_width)
        self.feed_forward.set_active(width, hidden)
        for norm in (self.attention_norm, self.crossing_norm, self.feed_forward_norm):
            norm.active_features = width
        self.memories = memory_layers(arbitrary)
        self.dropout.p = self._dropout * width / self._width

    def extract(self) -> DecoderLayer:
        """Return the active part with plain layers."""
        return DecoderLayer(
            self.attention.extract(),
            self.attention_norm.extract(),
            self.crossing.extract(),
            self.crossing_norm.extract(),
            self.feed_forward.extract(),
            self.feed_forward_norm.extract(),
            self.dropout.p,
            self.memories,
        )
