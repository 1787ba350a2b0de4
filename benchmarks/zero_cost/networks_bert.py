"""FlexiBERT-style encoders of the 250 BERTs with published GLUE scores, as plain torch modules.

Sources: Tuli et al., 2022, "FlexiBERT", section 3.1, for the operations; Serianni and Kalita, 2023, "Training-free
Neural Architecture Search for RNNs and Transformers", section 4.2, for the networks: ELECTRA-small with its layers
replaced. Their published numbers of parameters are those of networks that all have 256 features and 1024 hidden ones
(`nas_bench_bert(layers, 256, intermediate=1024)` without its head); here each has the sizes it was trained with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

VOCABULARY, POSITIONS, SEGMENTS, EMBEDDING = 30522, 512, 2, 128


class Embeddings(nn.Module):
    """The normalised sum of embeddings of word pieces, positions and segments, projected to the hidden size."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        sizes = (VOCABULARY, POSITIONS, SEGMENTS)
        self.words, self.positions, self.segments = (nn.Embedding(size, EMBEDDING) for size in sizes)
        self.norm = nn.LayerNorm(EMBEDDING)
        self.project = nn.Identity() if hidden == EMBEDDING else nn.Linear(EMBEDDING, hidden)

    def forward(self, ids: Tensor) -> Tensor:
        """Map int64 (N, L) to (N, L, hidden)."""
        places = torch.arange(ids.shape[1])
        x: Tensor = self.words(ids) + self.segments(torch.zeros_like(ids)) + self.positions(places)
        y: Tensor = self.project(self.norm(x))
        return y


def split(x: Tensor, heads: int) -> Tensor:
    """Return (N, L, heads * w) as (N, heads, L, w)."""
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    """Return (N, heads, L, w) as (N, L, heads * w)."""
    return x.transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Scaled dot-product attention; weighted multiplicative: queries go through one more matrix."""

    def __init__(self, hidden: int, heads: int, weighted: bool) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(hidden, hidden) for _ in range(3))
        self.weight = nn.Linear(hidden, hidden, bias=False) if weighted else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, hidden) to the same shape."""
        parts = (split(part, self.heads) for part in (self.weight(self.query(x)), self.key(x), self.value(x)))
        return joined(F.scaled_dot_product_attention(*parts))


class ConvolutionAttention(nn.Module):
    """Half of the heads attend, the other half are span-based dynamic convolutions (ConvBERT)."""

    def __init__(self, hidden: int, heads: int, size: int) -> None:
        super().__init__()
        self.heads, self.size = max(heads // 2, 1), size
        width = self.heads * (hidden // heads)
        self.query, self.key, self.value = (nn.Linear(hidden, width) for _ in range(3))
        self.depthwise = nn.Conv1d(hidden, hidden, size, padding=size // 2, groups=hidden, bias=False)
        self.pointwise = nn.Conv1d(hidden, width, 1)
        self.kernel = nn.Linear(width, self.heads * size)
        self.span = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, hidden) to the same shape."""
        query, key, value = self.query(x), self.key(x), self.value(x)
        mixed = F.scaled_dot_product_attention(*(split(part, self.heads) for part in (query, key, value)))
        keys = self.pointwise(self.depthwise(x.transpose(1, 2))).transpose(1, 2)
        kernels = self.kernel(keys * query).unflatten(2, (self.heads, self.size)).softmax(3)
        half = self.size // 2
        spans = F.pad(self.span(x), (0, 0, half, half)).unfold(1, self.size, 1).unflatten(2, (self.heads, -1))
        convolved = (spans @ kernels[..., None]).squeeze(-1)
        return torch.cat((joined(mixed), convolved.flatten(2)), 2)


class LinearTransform(nn.Module):
    """A linear layer, then a two-dimensional Fourier or cosine transform of each head over tokens and features."""

    def __init__(self, hidden: int, heads: int, kind: str) -> None:
        super().__init__()
        self.heads, self.input = heads, nn.Linear(hidden, hidden)
        self.transform: Callable[[Tensor], Tensor] = fourier if kind == "DFT" else cosine

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, hidden) to the same shape."""
        return joined(self.transform(split(self.input(x), self.heads)))


def fourier(x: Tensor) -> Tensor:
    """Return the real part of the Fourier transform over the last two dimensions."""
    return torch.fft.fft2(x).real


def cosine(x: Tensor) -> Tensor:
    """Return the cosine transform (type II, not normalised) over the last two dimensions."""
    rows, columns = (cosine_matrix(size, x) for size in x.shape[-2:])
    return rows @ x @ columns.T


def cosine_matrix(size: int, like: Tensor) -> Tensor:
    """Return the matrix 2 cos(pi k (2 n + 1) / (2 size)), shape (size, size)."""
    n = torch.arange(size, dtype=like.dtype)
    return 2 * torch.cos(math.pi / (2 * size) * n[:, None] * (2 * n[None, :] + 1))


class AttentionOutput(nn.Module):
    """An operation, a linear layer, the input added, and the sum normalised."""

    def __init__(self, operation: nn.Module, hidden: int) -> None:
        super().__init__()
        self.operation, self.out, self.norm = operation, nn.Linear(hidden, hidden), nn.LayerNorm(hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, hidden) to the same shape."""
        y: Tensor = self.norm(x + self.out(self.operation(x)))
        return y


class FeedForward(nn.Module):
    """One or three hidden layers with GELU, the input added, and the sum normalised."""

    def __init__(self, hidden: int, intermediate: int, layers: int) -> None:
        super().__init__()
        sizes = [hidden, *[intermediate] * layers]
        pairs = zip(sizes, sizes[1:], strict=False)
        inner = [part for pair in pairs for part in (nn.Linear(*pair), nn.GELU())]
        self.layers, self.norm = nn.Sequential(*inner, nn.Linear(intermediate, hidden)), nn.LayerNorm(hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, hidden) to the same shape."""
        y: Tensor = self.norm(x + self.layers(x))
        return y


class FirstToken(nn.Module):
    """Classes from the first token's features."""

    def __init__(self, hidden: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, hidden) to logits (N, classes)."""
        y: Tensor = self.layers(x[:, 0])
        return y


def operation(layer: Mapping[str, Any], hidden: int) -> nn.Module:
    """Return what mixes the tokens of a layer."""
    kind, parameter, heads = (
        layer[f"{key}"] for key in ("operation_type", "operation_parameter", "num_operation_heads")
    )
    if kind == "LT":
        return LinearTransform(hidden, heads, parameter)
    if kind == "DSC":
        return AttentionOutput(ConvolutionAttention(hidden, heads, int(parameter)), hidden)
    return AttentionOutput(SelfAttention(hidden, heads, parameter == "WMA"), hidden)


def nas_bench_bert(
    layers: Sequence[Mapping[str, Any]], hidden: int, *, intermediate: int | None = None, classes: int = 2
) -> nn.Sequential:
    """Return an encoder with a classifier.

    Args:
        layers: As the published table describes them.
        hidden: Features of a token.
        intermediate: Hidden features of all feed-forward parts; those of each layer by default.
        classes: Number of logits.
    """
    parts: list[nn.Module] = [Embeddings(hidden)]
    for layer in layers:
        width = intermediate or int(layer["feed_forward_dimension"])
        parts += [operation(layer, hidden), FeedForward(hidden, width, int(layer["num_feed_forward"]))]
    return nn.Sequential(*parts, FirstToken(hidden, classes))
