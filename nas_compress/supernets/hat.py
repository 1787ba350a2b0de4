"""HAT's super-networks for translation: transformers whose layers differ from one another.

Source: Wang et al., 2020, "HAT: Hardware-Aware Transformers for Efficient Natural Language Processing", and its
published configurations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from itertools import islice
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_compress.data.vocabulary import EOS, PAD, SPECIALS
from nas_compress.space import Architecture, SearchSpace
from nas_compress.supernets.base import Block, Cost, Supernet
from nas_compress.supernets.hat_blocks import hat_blocks
from nas_compress.supernets.hat_checkpoint import our_names
from nas_compress.supernets.hat_config import HATConfig, decoder_sizes, encoder_sizes
from nas_compress.supernets.hat_cost import FloatArray, HATCost
from nas_compress.supernets.hat_layers import ElasticDecoderLayer, ElasticEncoderLayer
from nas_compress.supernets.randomness import seeded
from nas_compress.supernets.translator import Embedding, Translator, leading, sinusoids


class HATSupernet(Supernet):
    """The HAT super-network over widths, heads, hidden features, decoder depth, and what the decoder looks at.

    Its inputs are source tokens (N, S) and previous target tokens (N, T), its outputs logits (N, T, target tokens); see
    `Translator`. Costs, blocks and `example_input` are about that one pass over a sentence of the configuration's
    lengths. HAT times the encoder once and the decoder token by token instead: `decoding.FixedLengthDecoding`.

    Args:
        name: The name in records.
        config: Sizes and choices.
        seed: Seed of the initial weights; None draws them from torch's global generator.
    """

    def __init__(self, name: str, config: HATConfig, seed: int | None = None) -> None:
        super().__init__()
        self.name = name
        self.config = config
        self.space = config.space(name)
        with seeded(seed):
            self.net = _largest(config)
            _initialise(self.net)
        self._set_active(self.space.largest())

    # -- sub-networks --------------------------------------------------------------------------------------

    def _configure(self, architecture: Architecture) -> None:
        c = self.config
        for part, most, gene in (
            (self.net.source, c.encoder_embed_dim, "encoder_embed_dim"),
            (self.net.target, c.decoder_embed_dim, "decoder_embed_dim"),
        ):
            part.width = int(architecture[gene][0])
            part.dropout.p = c.dropout * part.width / max(most)
        self.net.depth = int(architecture["decoder_layer_num"][0])
        for encoder_layer, in_encoder in zip(self.net.encoder, encoder_sizes(architecture), strict=True):
            cast(ElasticEncoderLayer, encoder_layer).set_active(**in_encoder)
        for decoder_layer, in_decoder in zip(self.net.decoder, decoder_sizes(architecture), strict=False):
            cast(ElasticDecoderLayer, decoder_layer).set_active(**in_decoder)

    def forward(self, source: Tensor, previous: Tensor) -> Tensor:
        """Return logits (N, T, target tokens) of the active sub-network; see `Translator.forward`."""
        return cast(Tensor, self.net(source, previous))

    def extract(self, architecture: Architecture) -> Translator:
        """Return a `Translator` of plain layers; see the base class.

        Where embeddings are shared, the table is as wide as the wider one of encoder and decoder, and the other reads
        its leading features.
        """
        with self.activate(architecture):
            net = self.net
            source, target = net.source.extract(), net.target.extract()
            widths = {
                "all": [max(source.width, target.width)],
                "output": [source.width, target.width],
                "none": [source.width, target.width, target.width],
            }[self.config.sharing]
            tables = [leading(cast(nn.Embedding, t), w) for t, w in zip(net.tables, widths, strict=True)]
            encoder = [cast(ElasticEncoderLayer, layer).extract() for layer in net.encoder]
            decoder = [cast(ElasticDecoderLayer, layer).extract() for layer in islice(net.decoder, net.depth)]
        return Translator(tables, source, target, encoder, decoder).cpu().eval()

    def sort_by_importance(self) -> None:
        """Reorder the hidden features of all feed-forward parts; see the base class.

        Features between the layers stay in their order, since positions are added to them, and so do heads, since all
        features of queries, keys and values are in use whatever the number of heads.
        """
        for layer in (*self.net.encoder, *self.net.decoder):
            cast(ElasticEncoderLayer, layer).feed_forward.sort_hidden()

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the keys of a HAT checkpoint (fairseq's names); see the base class."""
        return our_names(state, self.config.sharing)

    def example_input(self, batch: int = 1, architecture: Architecture | None = None) -> tuple[Tensor, Tensor]:
        """Return source and previous target tokens of the configuration's lengths; see the base class."""
        c = self.config
        generator = torch.Generator().manual_seed(0)
        first = len(SPECIALS)
        source = torch.randint(first, c.source_vocabulary, (batch, c.source_length), generator=generator)
        previous = torch.randint(first, c.target_vocabulary, (batch, c.target_length), generator=generator)
        source[:, -1] = previous[:, 0] = EOS
        return source, previous

    def blocks(self, architecture: Architecture) -> list[Block]:
        """Return embeddings, layers and the output; see the base class and `hat_blocks`."""
        return hat_blocks(self, architecture)

    # -- cost ----------------------------------------------------------------------------------------------

    def encoded_cost(self, cost: Cost, space: SearchSpace, encoded: NDArray[np.int64]) -> FloatArray:
        """Return the costs of many architectures: MACs of one pass over a sentence of the configuration's lengths.

        Shared tables count once among the parameters; see the base class and `HATCost`.
        """
        counts = HATCost(self.config)
        return (counts.macs if cost == "macs" else counts.params)(space.values(encoded))

    def encoded_layers(self, space: SearchSpace, encoded: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the layers of many architectures, the encoder's included; see the base class."""
        return self.config.encoder_layer_num + space.values(encoded)["decoder_layer_num"][:, 0]

    def describe(self) -> dict[str, Any]:
        """Return the configuration as plain data."""
        return {"family": "hat", "name": self.name, **asdict(self.config)}


def _largest(c: HATConfig) -> Translator:
    encoder, decoder = max(c.encoder_embed_dim), max(c.decoder_embed_dim)
    sizes = {
        "all": [(c.source_vocabulary, c.width)],
        "output": [(c.source_vocabulary, encoder), (c.target_vocabulary, decoder)],
        "none": [(c.source_vocabulary, encoder), *[(c.target_vocabulary, decoder)] * 2],
    }[c.sharing]
    heads, crossing = max(c.decoder_self_attention_heads), max(c.decoder_ende_attention_heads)
    hidden = max(c.encoder_ffn_embed_dim), max(c.decoder_ffn_embed_dim)
    return Translator(
        [nn.Embedding(tokens, width, padding_idx=PAD) for tokens, width in sizes],
        Embedding(sinusoids(c.max_positions, encoder), encoder, c.dropout),
        Embedding(sinusoids(c.max_positions, decoder), decoder, c.dropout),
        [
            ElasticEncoderLayer(encoder, c.qkv_dim, max(c.encoder_self_attention_heads), hidden[0], c.dropout)
            for _ in range(c.encoder_layer_num)
        ],
        [
            ElasticDecoderLayer(decoder, encoder, c.qkv_dim, heads, crossing, hidden[1], c.dropout)
            for _ in range(c.decoder_layers)
        ],
    )


def _initialise(net: Translator) -> None:
    """Draw weights as fairseq does: tables so that embeddings have unit variance, linear layers by Glorot's rule."""
    for module in net.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
            nn.init.zeros_(module.weight[PAD])
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)


def build(name: str, config: HATConfig, num_classes: int | None = None, seed: int | None = None) -> HATSupernet:
    """Return a super-network of a registered configuration, for any number of target tokens.

    Where one table is shared by all, it is the number of source tokens, too.
    """
    if num_classes is not None:
        source = num_classes if config.sharing == "all" else config.source_vocabulary
        config = replace(config, source_vocabulary=source, target_vocabulary=num_classes)
    return HATSupernet(name, config, seed)
