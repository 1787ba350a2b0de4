"""The feed-forward part of a transformer layer, plain and with elastic widths."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nas_compress.elastic.channels import by_importance, permute
from nas_compress.elastic.linear import ElasticLinear

FEED_FORWARD_ACTIVATIONS: Mapping[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU}


class FeedForward(nn.Module):
    """Two linear layers with an activation between them, on every position alone.

    Source: Vaswani et al., 2017, "Attention Is All You Need", section 3.3.

    Args:
        up: From the features to the hidden ones.
        down: From the hidden features back.
        activation: `"relu"` or `"gelu"`.
    """

    def __init__(self, up: nn.Module, down: nn.Module, activation: str) -> None:
        super().__init__()
        self.up, self.down = up, down
        self.act = FEED_FORWARD_ACTIVATIONS[activation]()
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., features) to the same shape."""
        y: Tensor = self.down(self.act(self.up(x)))
        return y


class ElasticFeedForward(FeedForward):
    """A feed-forward part with elastic features and hidden features.

    Args:
        features: The most features of inputs and outputs.
        hidden: The most hidden features.
        activation: `"relu"` or `"gelu"`.
    """

    up: ElasticLinear
    down: ElasticLinear

    def __init__(self, features: int, hidden: int, activation: str) -> None:
        super().__init__(ElasticLinear(features, hidden), ElasticLinear(hidden, features), activation)

    def set_active(self, features: int, hidden: int) -> None:
        """Use the leading features and hidden features."""
        self.up.active_in = self.down.active_out = features
        self.up.active_out = self.down.active_in = hidden

    def extract(self) -> FeedForward:
        """Return the active part with plain layers."""
        return FeedForward(self.up.extract(), self.down.extract(), self.activation)

    def sort_hidden(self, importance: Tensor | None = None) -> None:
        """Reorder the hidden features in use, the most important first; see `Supernet.sort_by_importance`.

        Args:
            importance: Of the weights of `down` in use, same shape; their size by default.
        """
        with torch.no_grad():
            order = by_importance(self.down.active_weight() if importance is None else importance)
            permute([self.up.weight[: len(order)], self.up.active_bias()], order)
            permute([self.down.weight[:, : len(order)]], order, dim=1)
