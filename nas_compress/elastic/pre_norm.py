"""A transformer layer that normalises before its parts, plain and with elastic sizes."""

from __future__ import annotations

from torch import Tensor, nn

from nas_compress.elastic.attention import Attention, ElasticAttention
from nas_compress.elastic.feed_forward import ElasticFeedForward, FeedForward
from nas_compress.elastic.norm import ElasticLayerNorm


class PreNormLayer(nn.Module):
    """Self-attention, then a feed-forward part, each on normalised inputs and added to what came in.

    Source: Dosovitskiy et al., 2021, "An Image is Worth 16x16 Words", equations 2 and 3.

    Args:
        attention_norm: Normalises before the attention.
        attention: Mixes positions.
        feed_forward_norm: Normalises before the feed-forward part.
        feed_forward: Works on every position alone.
        dropout: Probability of dropping a feature of each part's outputs in training.
    """

    def __init__(
        self,
        attention_norm: nn.Module,
        attention: Attention,
        feed_forward_norm: nn.Module,
        feed_forward: FeedForward,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention_norm, self.attention = attention_norm, attention
        self.feed_forward_norm, self.feed_forward = feed_forward_norm, feed_forward
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (N, L, features) to the same shape; the mask is that of `Attention.attend`."""
        x = x + self.dropout(self.attention(self.attention_norm(x), mask=mask))
        y: Tensor = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        return y


class ElasticPreNormLayer(PreNormLayer):
    """A pre-norm layer with elastic features, heads, and width of attention and feed-forward part.

    Args:
        attention: Its features are those of the layer.
        feed_forward: Of the same features.
        eps: Added to variances by LayerNorm.
        dropout: See `PreNormLayer`.
    """

    attention_norm: ElasticLayerNorm
    attention: ElasticAttention
    feed_forward_norm: ElasticLayerNorm
    feed_forward: ElasticFeedForward

    def __init__(
        self, attention: ElasticAttention, feed_forward: ElasticFeedForward, eps: float = 1e-5, dropout: float = 0.0
    ) -> None:
        norms = [ElasticLayerNorm(attention.query.in_features, eps) for _ in range(2)]
        super().__init__(norms[0], attention, norms[1], feed_forward, dropout)

    def set_active(self, features: int, width: int, heads: int, hidden: int) -> None:
        """Use leading features, `heads` heads of `width / heads` features each, and leading hidden features."""
        self.attention_norm.active_features = self.feed_forward_norm.active_features = features
        self.attention.set_active(features, width, heads)
        self.feed_forward.set_active(features, hidden)

    def extract(self) -> PreNormLayer:
        """Return the active part with plain layers."""
        return PreNormLayer(
            self.attention_norm.extract(),
            self.attention.extract(),
            self.feed_forward_norm.extract(),
            self.feed_forward.extract(),
            self.dropout.p,
        )
