"""Linear layers and embeddings with elastic widths."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.elastic.plain import plain_embedding, plain_linear


class ElasticLinear(nn.Linear):
    """A linear layer that uses its leading input and output features.

    Attributes:
        active_in: Number of input features in use.
        active_out: Number of output features in use.
    """

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias=bias)
        self.active_in = in_features
        self.active_out = out_features

    def active_weight(self) -> Tensor:
        """Return the weights in use, shape (active_out, active_in), as a view."""
        return self.weight[: self.active_out, : self.active_in]

    def active_bias(self) -> Tensor | None:
        """Return the bias in use, shape (active_out,), as a view; None without bias."""
        return None if self.bias is None else self.bias[: self.active_out]

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., active_in) to (..., active_out)."""
        return F.linear(x, self.active_weight(), self.active_bias())

    def extract(self) -> nn.Linear:
        """Return the active part as a plain linear layer."""
        return plain_linear(self.active_weight(), self.active_bias())


class ElasticJointBiasLinear(ElasticLinear):
    """The values' layer of an attention whose queries, keys and values have one joint bias.

    AutoFormer (Chen et al., 2021, in its published configuration) keeps the biases of queries, keys and values one
    after the other in a vector of three times the largest width, and gives a sub-network of width w the leading 3 w
    entries. The queries' part is the leading one whatever w is, the keys' does not change what attention computes (it
    shifts all of a query's logits alike), but the values' lies elsewhere for every w: the bias here is the whole
    vector, of which entries 2 w to 3 w are in use.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.bias = nn.Parameter(torch.zeros(3 * out_features))

    def active_bias(self) -> Tensor:
        """Return the bias in use, shape (active_out,), as a view."""
        return self.bias[2 * self.active_out : 3 * self.active_out]


class ElasticEmbedding(nn.Embedding):
    """An embedding that uses its leading features.

    Attributes:
        active_dim: Number of features in use.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, *, padding_idx: int | None = None) -> None:
        super().__init__(num_embeddings, embedding_dim, padding_idx=padding_idx)
        self.active_dim = embedding_dim

    def active_weight(self) -> Tensor:
        """Return the weights in use, shape (num_embeddings, active_dim), as a view."""
        return self.weight[:, : self.active_dim]

    def forward(self, indices: Tensor) -> Tensor:
        """Map indices of any shape to that shape with active_dim features at the end."""
        return F.embedding(indices, self.active_weight(), self.padding_idx)

    def extract(self) -> nn.Embedding:
        """Return the active part as a plain embedding."""
        return plain_embedding(self.active_weight(), self.padding_idx)
