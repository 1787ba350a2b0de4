"""Exact MACs and parameters of BERT networks for many architectures at once, without torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas_compress.space import SearchSpace
from nas_compress.supernets.bert_config import BertConfig

IntVector = NDArray[np.int64]


@dataclass(frozen=True)
class BertSizes:
    """What the costs of sub-networks depend on; one entry per sub-network, shape (n,) each.

    Attributes:
        layers: Numbers of layers.
        heads: Attention heads of all layers together.
        intermediate: Hidden features of all feed-forward parts together.
        hidden: Features between the layers.
    """

    layers: IntVector
    heads: IntVector
    intermediate: IntVector
    hidden: IntVector

    @classmethod
    def of(cls, config: BertConfig, space: SearchSpace, encoded: NDArray[np.int64]) -> BertSizes:
        """Return the sizes of encoded architectures.

        Args:
            config: The network.
            space: Its space, or a part of that.
            encoded: Canonical choice indices, shape (n, genes).
        """
        totals = {name: values.sum(axis=1).astype(np.int64) for name, values in space.values(encoded).items()}
        layers = totals["num_layers"]
        repeats = 1 if config.per_layer else layers
        hidden = totals.get("hidden_size", np.full(len(encoded), config.hidden[0]))
        return cls(layers, totals["num_attention_heads"] * repeats, totals["intermediate_size"] * repeats, hidden)


def macs(config: BertConfig, sizes: BertSizes) -> IntVector:
    """Return the multiply-accumulates of one sequence of `config.length` tokens, shape (n,).

    Linear layers and both products of attention count. The published results of INC on `bert_base_sst2` count
    LayerNorm (an operation per element) and the masking of 128 tokens as well.
    """
    tokens, width = config.length, config.head_size
    per_head = 4 * sizes.hidden * width * tokens + 2 * tokens**2 * width
    per_feature = 2 * sizes.hidden * tokens
    return per_head * sizes.heads + per_feature * sizes.intermediate + _head_macs(config, sizes.hidden)


def _head_macs(config: BertConfig, hidden: IntVector) -> IntVector:
    if config.task == "answering":
        return config.length * hidden * config.num_classes
    return np.asarray(hidden * (hidden + config.num_classes))


def params(config: BertConfig, sizes: BertSizes) -> IntVector:
    """Return the numbers of parameters, shape (n,)."""
    hidden, norm = sizes.hidden, 2 * sizes.hidden
    per_head = (4 * hidden + 3) * config.head_size
    per_feature = 2 * hidden + 1
    per_layer = 2 * hidden + 2 * norm  # the biases of the attention's and the feed-forward's outputs, two norms
    embeddings = (config.vocabulary + config.positions + config.segments) * hidden + norm
    head = (hidden + 1) * config.num_classes
    if config.task == "classification":
        head = head + (hidden + 1) * hidden
    encoder = per_layer * sizes.layers + per_head * sizes.heads + per_feature * sizes.intermediate
    return np.asarray(embeddings + encoder + head)
