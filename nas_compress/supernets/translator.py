"""A transformer from sentences to their translations, with a cache to decode token by token."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.data.vocabulary import PAD
from nas_compress.elastic.plain import plain_embedding
from nas_compress.supernets.hat_layers import DecoderLayer, EncoderLayer, LayerCache


class Embedding(nn.Module):
    """Token embeddings times the square root of the width, plus positions, in the leading features of a table.

    The table is an argument, since the source, the target and the output may share one.

    Args:
        positions: See `sinusoids`.
        width: Features in use.
        dropout: Probability of dropping a feature.
    """

    positions: Tensor

    def __init__(self, positions: Tensor, width: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("positions", positions, persistent=False)
        self.width = width
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, table: nn.Embedding) -> Tensor:
        """Map tokens (N, L) to features (N, L, width); padding does not count as a position."""
        there = tokens.ne(PAD).long()
        positions = F.embedding(there.cumsum(1) * there + PAD, self.positions[:, : self.width])
        return self._sum(table(tokens), positions)

    def step(self, tokens: Tensor, table: nn.Embedding, position: int) -> Tensor:
        """Map the tokens (N, B) at one position, counted from 0, to features (N, B, width)."""
        return self._sum(table(tokens), self.positions[PAD + 1 + position, : self.width])

    def _sum(self, features: Tensor, positions: Tensor) -> Tensor:
        y: Tensor = self.dropout(features[..., : self.width] * math.sqrt(self.width) + positions)
        return y

    @property
    def longest(self) -> int:
        """The longest sentence in tokens."""
        return len(self.positions) - PAD - 1

    def extract(self) -> Embedding:
        """Return the active part."""
        return Embedding(self.positions[:, : self.width].clone(), self.width, self.dropout.p)


def leading(table: nn.Embedding, width: int) -> nn.Embedding:
    """Return an independent table of the leading features."""
    return plain_embedding(table.weight[:, :width], PAD)


def sinusoids(length: int, width: int) -> Tensor:
    """Return fairseq's table of positions, shape (length + PAD + 1, width), all sines first, then all cosines.

    Row PAD is that of padding, 0; the first token's is the next one. Narrower nets take the leading features of the
    widest one's table, as in HAT.

    Source: Vaswani et al., 2017, section 3.5, in the variant of tensor2tensor.

    Args:
        length: The longest sentence in tokens.
        width: An even number of features.
    """
    half = width // 2
    rates = torch.exp(torch.arange(half, dtype=torch.float64) * (-math.log(10000) / max(half - 1, 1)))
    angles = torch.arange(length + PAD + 1, dtype=torch.float64)[:, None] * rates
    table = torch.cat((angles.sin(), angles.cos()), 1)
    table[PAD] = 0
    return table.float()


@dataclass
class DecodingState:
    """Everything that decoding goes on with, for N sentences with B hypotheses each.

    Attributes:
        layers: The caches of the decoder's layers.
        position: Tokens decoded so far.
    """

    layers: list[LayerCache]
    position: int = 0

    def select(self, hypotheses: Tensor, sentences: Tensor | None = None) -> None:
        """Keep some hypotheses, in a new order.

        Args:
            hypotheses: Their numbers, those of the first sentence first (of N * B).
            sentences: The sentences that are kept, if not all.
        """
        for cache in self.layers:
            if cache.own is not None:
                cache.own = cache.own[0][hypotheses], cache.own[1][hypotheses]
            if sentences is not None:
                cache.memory = cache.memory[0][sentences], cache.memory[1][sentences]
                cache.mask = cache.mask[sentences]


class Translator(nn.Module):
    """A transformer from a sentence to its translation.

    Args:
        tables: Embeddings by token of the source, of the target, and of the output (whose product with the decoder's
            features is the logits); two where target and output share theirs, one where all do. In tables that are
            wider than a part of the net, its leading features are used.
        source: Makes the encoder's inputs.
        target: Makes the decoder's inputs.
        encoder: Layers of the encoder.
        decoder: Layers of the decoder.

    Attributes:
        depth: Number of the decoder's layers in use.
    """

    def __init__(
        self,
        tables: Sequence[nn.Embedding],
        source: Embedding,
        target: Embedding,
        encoder: Sequence[EncoderLayer],
        decoder: Sequence[DecoderLayer],
    ) -> None:
        super().__init__()
        self.tables = nn.ModuleList(tables)
        self.source, self.target = source, target
        self.encoder, self.decoder = nn.ModuleList(encoder), nn.ModuleList(decoder)
        self.depth = len(decoder)

    def table(self, part: int) -> nn.Embedding:
        """Return the embeddings of the source (0), of the target (1) or of the output (2)."""
        return cast(nn.Embedding, self.tables[min(part, len(self.tables) - 1)])

    def forward(self, source: Tensor, previous: Tensor) -> Tensor:
        """Return the logits of every next token, shape (N, T, target tokens), given the right ones before it.

        Args:
            source: Source tokens, filled up with PAD, shape (N, S).
            previous: EOS and the target tokens but the last, filled up with PAD at the end, shape (N, T).
        """
        encoded = self.encode(source)
        x = self.target(previous, self.table(1))
        for layer in self._decoder():
            x = layer(x, *encoded)
        return self.logits(x)

    def _decoder(self) -> Iterator[DecoderLayer]:
        return islice(cast(Iterable[DecoderLayer], self.decoder), self.depth)

    def logits(self, x: Tensor) -> Tensor:
        """Map the decoder's features (..., width) to logits (..., target tokens)."""
        return F.linear(x, self.table(2).weight[:, : self.target.width])

    def encode(self, source: Tensor) -> list[Tensor]:
        """Return where tokens are, shape (N, 1, 1, S), and all layers' outputs (N, S, width), the last one first."""
        mask = source.ne(PAD)[:, None, None, :]
        outputs = [self.source(source, self.table(0))]
        for layer in self.encoder:
            outputs.append(layer(outputs[-1], mask))
        return [mask, *reversed(outputs[1:])]

    def begin(self, source: Tensor) -> DecodingState:
        """Encode source tokens (N, S) and return what decoding starts from."""
        encoded = self.encode(source)
        return DecodingState([layer.remember(*encoded) for layer in self._decoder()])

    def step(self, tokens: Tensor, state: DecodingState) -> Tensor:
        """Return the logits of the next tokens, shape (N, B, target tokens), and add to the state.

        Args:
            tokens: The last token of each hypothesis, shape (N, B); EOS at first.
            state: What came before.
        """
        x = self.target.step(tokens, self.table(1), state.position)
        for layer, cache in zip(self._decoder(), state.layers, strict=True):
            x = layer.step(x, cache)
        state.position += 1
        return self.logits(x)
