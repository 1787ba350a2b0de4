"""The layers of BERT, plain and elastic (Devlin et al., 2019, "BERT", in its published post-norm form).

Each elastic layer is the plain one made of elastic parts, with `set_active` and `extract`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from nas_compress.elastic import (
    Attention,
    ElasticAttention,
    ElasticEmbedding,
    ElasticFeedForward,
    ElasticLayerNorm,
    ElasticLinear,
    FeedForward,
)
from nas_compress.supernets.bert_config import BertConfig

Channels = Iterator[tuple[Tensor, int]]
"""Tensors, each with the dimension in which it has the features between the layers."""


MASKED = -10000.0
"""Added to attention scores of padding, as in the published code: its softmax is 0, and half precision holds it."""


def attention_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what is added to attention scores, shape (N, 1, 1, L): 0 where `mask` (N, L) is not 0, else `MASKED`."""
    return (mask == 0).to(dtype)[:, None, None, :] * MASKED


class BertEmbeddings(nn.Module):
    """The normalised sum of embeddings of word pieces, positions and token types.

    Args:
        words: Embedding of word pieces.
        positions: Embedding of positions.
        segments: Embedding of token types.
        norm: Layer normalisation.
        dropout: Probability of dropping a feature in training.
    """

    def __init__(
        self, words: nn.Embedding, positions: nn.Embedding, segments: nn.Embedding, norm: nn.LayerNorm, dropout: float
    ) -> None:
        super().__init__()
        self.words, self.positions, self.segments, self.norm = words, positions, segments, norm
        self.dropout = nn.Dropout(dropout)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        """Map int64 (N, L) each to (N, L, hidden)."""
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.words(input_ids) + self.segments(token_type_ids) + self.positions(places)
        y: Tensor = self.dropout(self.norm(x))
        return y


class PostNorm(nn.Module):
    """A part of a layer, its input added to its output, and the sum normalised.

    Args:
        inner: `Attention` or `FeedForward`.
        norm: Layer normalisation.
        dropout: Probability, in training, of dropping a feature of what `inner` gives.
    """

    def __init__(self, inner: Attention | FeedForward, norm: nn.LayerNorm, dropout: float) -> None:
        super().__init__()
        self.inner, self.norm = inner, norm
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Map (N, L, hidden) to the same shape; `bias` (see `attention_bias`) is for attention alone."""
        added = self.inner(x) if bias is None else self.inner(x, None, bias)
        y: Tensor = self.norm(x + self.dropout(added))
        return y


class BertLayer(nn.Module):
    """Attention, then the feed-forward part.

    Args:
        attention: See `PostNorm`.
        feed_forward: See `PostNorm`.
    """

    def __init__(self, attention: PostNorm, feed_forward: PostNorm) -> None:
        super().__init__()
        self.attention, self.feed_forward = attention, feed_forward

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Map (N, L, hidden) to the same shape."""
        y: Tensor = self.feed_forward(self.attention(x, bias))
        return y


class ClassificationHead(nn.Module):
    """The first token's features, through a linear layer with tanh (BERT's pooler), to logits.

    Args:
        pooler: From the features to as many.
        out: From the pooled features to the logits.
        dropout: Probability of dropping a pooled feature in training.
    """

    def __init__(self, pooler: nn.Linear, out: nn.Linear, dropout: float) -> None:
        super().__init__()
        self.pooler, self.out = pooler, out
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, hidden) to logits (N, classes)."""
        y: Tensor = self.out(self.dropout(torch.tanh(self.pooler(x[:, 0]))))
        return y


class AnswerHead(nn.Module):
    """Every token's logits of being the first and the last one of the answer.

    Args:
        out: From the features to the two logits.
    """

    def __init__(self, out: nn.Linear) -> None:
        super().__init__()
        self.out = out

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, hidden) to (N, L, 2)."""
        y: Tensor = self.out(x)
        return y


# -- elastic layers ----------------------------------------------------------------------------------------


class ElasticBertEmbeddings(BertEmbeddings):
    """Embeddings with an elastic number of features."""

    words: ElasticEmbedding
    positions: ElasticEmbedding
    segments: ElasticEmbedding
    norm: ElasticLayerNorm

    def __init__(self, config: BertConfig) -> None:
        hidden = max(config.hidden)
        super().__init__(
            ElasticEmbedding(config.vocabulary, hidden, padding_idx=config.padding),
            ElasticEmbedding(config.positions, hidden),
            ElasticEmbedding(config.segments, hidden),
            ElasticLayerNorm(hidden, config.eps),
            config.dropout,
        )

    def set_active(self, hidden: int) -> None:
        """Use the leading features."""
        self.words.active_dim = self.positions.active_dim = self.segments.active_dim = hidden
        self.norm.active_features = hidden

    def extract(self) -> BertEmbeddings:
        """Return the active part with plain layers."""
        words, positions, segments = self.words.extract(), self.positions.extract(), self.segments.extract()
        return BertEmbeddings(words, positions, segments, self.norm.extract(), self.dropout.p)

    def channels(self) -> Channels:
        """Yield the tensors of the features between the layers."""
        yield from ((table.weight, 1) for table in (self.words, self.positions, self.segments))
        yield from _norm_channels(self.norm)


class ElasticPostNorm(PostNorm):
    """A part of a layer with elastic widths."""

    norm: ElasticLayerNorm

    def extract(self) -> PostNorm:
        """Return the active part with plain layers."""
        inner: ElasticAttention | ElasticFeedForward = self.inner  # type: ignore[assignment]
        return PostNorm(inner.extract(), self.norm.extract(), self.dropout.p)


class ElasticBertLayer(BertLayer):
    """A layer with elastic features, heads and feed-forward features; heads keep their size."""

    attention: ElasticPostNorm
    feed_forward: ElasticPostNorm

    def __init__(self, config: BertConfig) -> None:
        hidden, heads = max(config.hidden), max(config.heads)
        attention = ElasticAttention(hidden, heads * config.head_size, heads)
        feed_forward = ElasticFeedForward(hidden, max(config.intermediate), config.activation)
        super().__init__(
            ElasticPostNorm(attention, ElasticLayerNorm(hidden, config.eps), config.dropout),
            ElasticPostNorm(feed_forward, ElasticLayerNorm(hidden, config.eps), config.dropout),
        )
        self.head_size = config.head_size

    @property
    def heads(self) -> ElasticAttention:
        """The attention itself."""
        return self.attention.inner  # type: ignore[return-value]

    @property
    def neurons(self) -> ElasticFeedForward:
        """The feed-forward part itself."""
        return self.feed_forward.inner  # type: ignore[return-value]

    def set_active(self, hidden: int, heads: int, intermediate: int) -> None:
        """Use the leading features, heads and feed-forward features."""
        self.heads.set_active(hidden, heads * self.head_size, heads)
        self.neurons.set_active(hidden, intermediate)
        self.attention.norm.active_features = self.feed_forward.norm.active_features = hidden

    def extract(self) -> BertLayer:
        """Return the active part with plain layers."""
        return BertLayer(self.attention.extract(), self.feed_forward.extract())

    def channels(self) -> Channels:
        """Yield the tensors of the features between the layers."""
        for linear in self.readers():
            yield linear.weight, 1
        for linear in (self.heads.out, self.neurons.down):
            yield linear.weight, 0
            yield linear.bias, 0
        yield from _norm_channels(self.attention.norm)
        yield from _norm_channels(self.feed_forward.norm)

    def readers(self) -> list[ElasticLinear]:
        """Return the linear layers that read the features between the layers."""
        return [self.heads.query, self.heads.key, self.heads.value, self.neurons.up]


class ElasticClassificationHead(ClassificationHead):
    """A classification head with an elastic number of features."""

    pooler: ElasticLinear
    out: ElasticLinear

    def __init__(self, config: BertConfig) -> None:
        hidden = max(config.hidden)
        super().__init__(ElasticLinear(hidden, hidden), ElasticLinear(hidden, config.num_classes), config.head_dropout)

    def set_active(self, hidden: int) -> None:
        """Use the leading features."""
        self.pooler.active_in = self.pooler.active_out = self.out.active_in = hidden

    def extract(self) -> ClassificationHead:
        """Return the active part with plain layers."""
        return ClassificationHead(self.pooler.extract(), self.out.extract(), self.dropout.p)

    def reader(self) -> ElasticLinear:
        """Return the linear layer that reads the features between the layers."""
        return self.pooler


class ElasticAnswerHead(AnswerHead):
    """An answering head with an elastic number of features."""

    out: ElasticLinear

    def __init__(self, config: BertConfig) -> None:
        super().__init__(ElasticLinear(max(config.hidden), config.num_classes))

    def set_active(self, hidden: int) -> None:
        """Use the leading features."""
        self.out.active_in = hidden

    def extract(self) -> AnswerHead:
        """Return the active part with plain layers."""
        return AnswerHead(self.out.extract())

    def reader(self) -> ElasticLinear:
        """Return the linear layer that reads the features between the layers."""
        return self.out


def _norm_channels(norm: nn.LayerNorm) -> Channels:
    yield norm.weight, 0
    yield norm.bias, 0
