"""Multi-head attention, plain and with elastic heads and widths."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.elastic.channels import permute
from nas_compress.elastic.linear import ElasticLinear


class DotProduct(nn.Module):
    """Mixes values by softmax(Q K^T / sqrt(w)).

    Source: Vaswani et al., 2017, "Attention Is All You Need", section 3.2.1.
    """

    def forward(
        self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, *, causal: bool = False
    ) -> Tensor:
        """Return the mixed values, shape (N, heads, L, w); see `Attention.attend`."""
        if causal and mask is not None:
            seen = torch.ones(queries.shape[2], keys.shape[2], dtype=torch.bool, device=queries.device).tril()
            mask = mask & seen if mask.dtype == torch.bool else mask.masked_fill(~seen, -torch.inf)
            causal = False
        return F.scaled_dot_product_attention(queries, keys, values, mask, is_causal=causal)


class Attention(nn.Module):
    """Scaled dot-product attention of several heads.

    Source: Vaswani et al., 2017, "Attention Is All You Need", section 3.2.

    Args:
        query: Linear layer from the inputs to all heads' queries, head after head.
        key: The same from the memory to the keys.
        value: The same from the memory to the values.
        out: Linear layer from all heads' results to the outputs.
        heads: Number of heads.
        mixing: Maps queries, keys and values of all heads to what the outputs are made of; `DotProduct()` by default.
    """

    def __init__(
        self,
        query: nn.Module,
        key: nn.Module,
        value: nn.Module,
        out: nn.Module,
        heads: int,
        mixing: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = query, key, value, out
        self.heads = heads
        self.mixing = DotProduct() if mixing is None else mixing

    def split(self, x: Tensor) -> Tensor:
        """Return (N, L, heads * w) as (N, heads, L, w)."""
        n, length, _ = x.shape
        return x.view(n, length, self.heads, -1).transpose(1, 2)

    def keys_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values of a memory (N, S, memory features), shape (N, heads, S, w) each."""
        return self.split(self.key(memory)), self.split(self.value(memory))

    def attend(
        self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, *, causal: bool = False
    ) -> Tensor:
        """Return the outputs, shape (N, L, features), of inputs of that shape.

        Args:
            x: What asks.
            keys: See `keys_values`.
            values: See `keys_values`.
            mask: What scaled_dot_product_attention takes: True (or 0, as a float that is added) where one may look;
                broadcast to (N, heads, L, S).
            causal: Whether position i may look at the positions up to i alone, and only where the mask allows it.
        """
        mixed = self.mixing(self.split(self.query(x)), keys, values, mask, causal=causal)
        y: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return y

    def forward(
        self, x: Tensor, memory: Tensor | None = None, mask: Tensor | None = None, *, causal: bool = False
    ) -> Tensor:
        """Return what `x` (N, L, features) finds in `memory` (itself by default); see `attend`."""
        return self.attend(x, *self.keys_values(x if memory is None else memory), mask, causal=causal)


class ElasticAttention(Attention):
    """Attention with elastic features, heads and width of all heads.

    Args:
        features: The most features of inputs and outputs.
        width: The most features of all heads' queries (and keys, and values).
        heads: The most heads.
        memory_features: The most features of the memory; `features` by default.
        bias: Whether the linear layers have one.
        mixing: See `Attention`; its sizes are not elastic.
    """

    query: ElasticLinear
    key: ElasticLinear
    value: ElasticLinear
    out: ElasticLinear

    def __init__(
        self,
        features: int,
        width: int,
        heads: int,
        *,
        memory_features: int | None = None,
        bias: bool = True,
        mixing: nn.Module | None = None,
    ) -> None:
        memory = features if memory_features is None else memory_features
        super().__init__(
            ElasticLinear(features, width, bias=bias),
            ElasticLinear(memory, width, bias=bias),
            ElasticLinear(memory, width, bias=bias),
            ElasticLinear(width, features, bias=bias),
            heads,
            mixing,
        )

    def set_active(self, features: int, width: int, heads: int, *, memory_features: int | None = None) -> None:
        """Use the leading `features`, and `heads` heads of `width / heads` features each."""
        self.heads = heads
        self.query.active_in = self.out.active_out = features
        self.key.active_in = self.value.active_in = features if memory_features is None else memory_features
        self.query.active_out = self.key.active_out = self.value.active_out = self.out.active_in = width

    def extract(self) -> Attention:
        """Return the active part with plain layers."""
        query, key, value, out = (layer.extract() for layer in (self.query, self.key, self.value, self.out))
        return Attention(query, key, value, out, self.heads, copy.deepcopy(self.mixing).cpu())

    def sort_heads(self, head_width: int, importance: Tensor | None = None) -> None:
        """Reorder the heads in use, the most important first; see `Supernet.sort_by_importance`.

        Args:
            head_width: Features of one head, the same however many are in use.
            importance: Of the weights of `out` in use, same shape; their size by default.
        """
        with torch.no_grad():
            weights = self.out.active_weight() if importance is None else importance
            norms = weights.abs().sum(0).view(-1, head_width).sum(1)
            heads = norms.argsort(descending=True, stable=True)
            order = (heads[:, None] * head_width + torch.arange(head_width, device=heads.device)).flatten()
            for layer in (self.query, self.key, self.value):
                permute([layer.weight[: len(order)], layer.active_bias()], order)
            permute([self.out.weight[:, : len(order)]], order, dim=1)
