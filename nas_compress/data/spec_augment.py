"""Random masks over features of speech."""

from __future__ import annotations

import torch
from torch import Tensor


def spec_augment(
    features: Tensor,
    lengths: Tensor,
    generator: torch.Generator,
    *,
    frequency_masks: int = 1,
    frequency_width: float = 0.2,
    time_masks: int = 1,
    time_width: float = 0.2,
) -> Tensor:
    """Return features with some bands and some stretches of time set to 0, which is their mean.

    Park et al., 2019, "SpecAugment", section 2, without its time warping: widths are drawn uniformly from 0 to the
    largest one, then places. Each utterance has masks of its own.

    Args:
        features: Log-mel features, shape (N, T, bands); left as they are.
        lengths: Frames of each utterance before padding, shape (N,).
        generator: Draws widths and places.
        frequency_masks: Masks over bands.
        frequency_width: Largest width of one, as a share of the bands.
        time_masks: Masks over time.
        time_width: Largest width of one, as a share of the utterance's frames.
    """
    bands = torch.full_like(lengths, features.shape[2])
    for _ in range(frequency_masks):
        features = features.masked_fill(_mask(bands, features.shape[2], frequency_width, generator)[:, None], 0.0)
    for _ in range(time_masks):
        features = features.masked_fill(_mask(lengths, features.shape[1], time_width, generator)[:, :, None], 0.0)
    return features


def _mask(sizes: Tensor, most: int, largest: float, generator: torch.Generator) -> Tensor:
    """Return where one mask of each row is, shape (N, most), within the row's first `sizes` (N,) places."""
    widths, starts = torch.rand(2, len(sizes), generator=generator)
    wide = (widths * ((sizes * largest).floor() + 1)).long()
    first = (starts * (sizes - wide + 1)).long()
    places = torch.arange(most)
    mask: Tensor = (places >= first[:, None]) & (places < (first + wide)[:, None])
    return mask
