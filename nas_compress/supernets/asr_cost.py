"""Exact MACs and parameters of speech recognizers, for many architectures at once, without torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas_compress.space import SearchSpace
from nas_compress.supernets.asr_config import AsrConfig

Vector = NDArray[np.float64]
"""A number per architecture; counts stay below 2^53, so that they are exact."""


def halved(length: int) -> int:
    """Return the length after a convolution of stride 2."""
    return -(-length // 2)


class AsrCost:
    """Costs of the sub-networks of one configuration, at batch 1 and the lengths of its example utterance.

    Args:
        config: The network.
    """

    def __init__(self, config: AsrConfig) -> None:
        self.config = config
        self.frames = halved(halved(config.frames))
        self.bands = halved(halved(config.mels))

    def costs(self, space: SearchSpace, encoded: NDArray[np.int64]) -> tuple[Vector, Vector]:
        """Return MACs and parameters, shape (n,) each.

        Args:
            space: The space that the rows are encoded in: the configuration's, or a part of it.
            encoded: Choice indices, shape (n, genes).
        """
        values = space.values(encoded)
        depth, width = values["depth"][:, 0], values["embed_dim"][:, 0]
        hidden = np.floor(width[:, None] * values["mlp_ratio"]).sum(1)
        front, decoder = self._front(width), self._decoder(width)
        t, outputs = self.frames, width * self.config.vocabulary
        macs = 4 * width**2 * t * depth + 2 * t**2 * width * depth + 2 * width * hidden * t
        params = (4 * width**2 + 9 * width) * depth + (2 * width + 1) * hidden
        heads = t * outputs, 2 * width + outputs + self.config.vocabulary
        parts = (front, (macs, params), heads, decoder)
        return sum(part[0] for part in parts), sum(part[1] for part in parts)  # type: ignore[return-value]

    def _front(self, width: Vector) -> tuple[Vector, Vector]:
        """Return the costs of the two convolutions and of the linear layer after them."""
        c = self.config
        first, second = c.conv_channels * c.conv_kernel**2, (c.conv_channels * c.conv_kernel) ** 2
        joined = c.conv_channels * self.bands
        convs = first * halved(c.frames) * halved(c.mels) + second * self.frames * self.bands
        macs = convs + self.frames * joined * width
        return macs, first + second + 2 * c.conv_channels + (joined + 1) * width

    def _decoder(self, width: Vector) -> tuple[Vector, Vector]:
        """Return the costs of the embedding, the decoder layers and the output layer."""
        c, u, t = self.config, self.config.tokens, self.frames
        own = 4 * width**2 * u + 2 * u**2 * width
        cross = 2 * width**2 * (u + t) + 2 * u * t * width
        layer = own + cross + 2 * width * c.decoder_hidden * u
        weights = 8 * width**2 + (8 + 1 + 6) * width + (2 * width + 1) * c.decoder_hidden
        ends = 2 * width * c.vocabulary + 2 * width + c.vocabulary
        return c.decoder_layers * layer + u * width * c.vocabulary, c.decoder_layers * weights + ends
