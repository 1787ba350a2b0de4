"""The two ends of a vision transformer: from an image to tokens, and from tokens to classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas_compress.elastic.conv import ElasticConv2d
from nas_compress.elastic.linear import ElasticLinear
from nas_compress.elastic.norm import ElasticLayerNorm
from nas_compress.elastic.plain import copied


class PatchEmbedding(nn.Module):
    """Patches of an image as tokens, after a class token, with learned positions added.

    Source: Dosovitskiy et al., 2021, "An Image is Worth 16x16 Words", equation 1.

    Args:
        patches: Convolution whose stride is its kernel size, from images to one vector for each patch.
        class_token: Of shape (1, 1, features).
        positions: Of shape (1, 1 + patches, features).
    """

    def __init__(self, patches: nn.Module, class_token: Tensor, positions: Tensor) -> None:
        super().__init__()
        self.patches = patches
        self.class_token, self.positions = nn.Parameter(class_token), nn.Parameter(positions)

    def active_parameters(self) -> tuple[Tensor, Tensor]:
        """Return class token and positions."""
        return self.class_token, self.positions

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, channels, r, r) to tokens (N, 1 + patches, features)."""
        class_token, positions = self.active_parameters()
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return torch.cat((class_token.expand(x.shape[0], -1, -1), tokens), 1) + positions


class ElasticPatchEmbedding(PatchEmbedding):
    """Tokens with elastic features.

    Args:
        in_channels: Channels of the images.
        features: The most features of a token.
        patch_size: Height and width of a patch in pixels.
        patches: Number of patches of an image.
    """

    patches: ElasticConv2d

    def __init__(self, in_channels: int, features: int, patch_size: int, patches: int) -> None:
        conv = ElasticConv2d(in_channels, features, patch_size, stride=patch_size, padding=0, bias=True)
        super().__init__(conv, torch.empty(1, 1, features), torch.empty(1, 1 + patches, features))
        for parameter in (self.class_token, self.positions):
            nn.init.trunc_normal_(parameter, std=0.02)

    def set_active(self, features: int) -> None:
        """Use the leading features."""
        self.patches.active_out = features

    def active_parameters(self) -> tuple[Tensor, Tensor]:
        """Return class token and positions in use, as views."""
        features = self.patches.active_out
        return self.class_token[..., :features], self.positions[..., :features]

    def extract(self) -> PatchEmbedding:
        """Return the active part with plain layers."""
        return PatchEmbedding(self.patches.extract(), *map(copied, self.active_parameters()))


class TokenClassifier(nn.Module):
    """Classes from normalised tokens: from the class token, or from the mean of all others.

    Args:
        norm: Normalises every token.
        classifier: From a token's features to logits.
        pool: `"class"` or `"mean"`.
    """

    def __init__(self, norm: nn.Module, classifier: nn.Module, pool: str) -> None:
        super().__init__()
        self.norm, self.classifier = norm, classifier
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (N, 1 + patches, features) to logits (N, classes)."""
        pooled = self.norm(x[:, 0]) if self.pool == "class" else self.norm(x[:, 1:]).mean(1)
        logits: Tensor = self.classifier(pooled)
        return logits


class ElasticTokenClassifier(TokenClassifier):
    """Classes from tokens of elastic features.

    Args:
        features: The most features of a token.
        num_classes: Number of logits.
        pool: `"class"` or `"mean"`.
        eps: Added to variances by LayerNorm.
    """

    norm: ElasticLayerNorm
    classifier: ElasticLinear

    def __init__(self, features: int, num_classes: int, pool: str, eps: float = 1e-5) -> None:
        super().__init__(ElasticLayerNorm(features, eps), ElasticLinear(features, num_classes), pool)

    def set_active(self, features: int) -> None:
        """Use the leading features."""
        self.norm.active_features = self.classifier.active_in = features

    def extract(self) -> TokenClassifier:
        """Return the active part with plain layers."""
        return TokenClassifier(self.norm.extract(), self.classifier.extract(), self.pool)
