"""Exact MACs and parameters of HAT's transformers for many architectures at once, without torch.

The MACs are those of one teacher-forced pass, encoder and decoder, over one sentence of `source_length` and
`target_length` tokens (30 each for WMT and 23 for IWSLT, as HAT counts its FLOPs): linear layers, both products of
every attention (the masked half of causal attention included), and the projection on the vocabulary; looking up
embeddings costs nothing. Decoding the same sentence token by token with a cache costs the same, but for causal
attention, where a step looks at the tokens before it alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas_compress.supernets.hat_config import HATConfig

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class HATCost:
    """Costs of the sub-networks of one configuration.

    Attributes:
        config: The network.
    """

    config: HATConfig

    def macs(self, genes: Mapping[str, FloatArray]) -> FloatArray:
        """Return the MACs at batch 1, shape (n,).

        Args:
            genes: Values by dimension, shape (n, slots) each; 0 in genes that are not used.
        """
        c = self.config
        source, target, qkv = c.source_length, c.target_length, c.qkv_dim
        encoder, decoder, depth = self._sizes(genes)
        memories = _memories(genes).sum(axis=1)
        self_attention = c.encoder_layer_num * (4 * source * encoder * qkv + 2 * source**2 * qkv)
        feed_forward = 2 * source * encoder * genes["encoder_ffn_embed_dim"].sum(axis=1)
        causal = depth * (4 * target * decoder * qkv + 2 * target**2 * qkv)
        crossing = depth * 2 * target * decoder * qkv + memories * (
            2 * source * encoder * qkv + 2 * target * source * qkv
        )
        decoding = 2 * target * decoder * genes["decoder_ffn_embed_dim"].sum(axis=1)
        head = target * decoder * c.target_vocabulary
        return np.asarray(self_attention + feed_forward + causal + crossing + decoding + head)

    def params(self, genes: Mapping[str, FloatArray]) -> FloatArray:
        """Return the numbers of parameters, shape (n,); the arguments are those of `macs`."""
        layers, qkv = self.config.encoder_layer_num, self.config.qkv_dim
        encoder, decoder, depth = self._sizes(genes)

        def attention(width: FloatArray, memory: FloatArray) -> FloatArray:
            return np.asarray(2 * width * qkv + 2 * memory * qkv + 3 * qkv + width)

        in_encoder = layers * (attention(encoder, encoder) + 4 * encoder)
        in_decoder = depth * (attention(decoder, decoder) + attention(decoder, encoder) + 6 * decoder)
        in_encoder += _feed_forward(encoder, genes["encoder_ffn_embed_dim"])
        in_decoder += _feed_forward(decoder, genes["decoder_ffn_embed_dim"])
        return np.asarray(in_encoder + in_decoder + self._tables(encoder, decoder))

    def _sizes(self, genes: Mapping[str, FloatArray]) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return encoder width, decoder width and decoder depth, shape (n,) each."""
        return genes["encoder_embed_dim"][:, 0], genes["decoder_embed_dim"][:, 0], genes["decoder_layer_num"][:, 0]

    def _tables(self, encoder: FloatArray, decoder: FloatArray) -> FloatArray:
        c = self.config
        if c.sharing == "all":
            return np.asarray(c.source_vocabulary * np.maximum(encoder, decoder))
        copies = 1 if c.sharing == "output" else 2
        return np.asarray(c.source_vocabulary * encoder + copies * c.target_vocabulary * decoder)


def _memories(genes: Mapping[str, FloatArray]) -> FloatArray:
    """Return how many encoder layers each decoder layer looks at, shape (n, slots); 0 where it is not used."""
    used = genes["decoder_ffn_embed_dim"] > 0
    return np.asarray((np.maximum(genes["decoder_arbitrary_ende_attn"], 0) + 1) * used)


def _feed_forward(width: FloatArray, hidden: FloatArray) -> FloatArray:
    """Return the parameters of feed-forward parts, summed over the layers in use, shape (n,)."""
    return np.asarray(((2 * width[:, None] + 1) * hidden + width[:, None]).sum(axis=1, where=hidden > 0))
