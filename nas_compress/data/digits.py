"""scikit-learn's handwritten digits: 1,797 grey images of 8x8, built in."""

from __future__ import annotations

from pathlib import Path

import torch

from nas_compress.data.base import ImageData, memory_data, stratified_split


def load(path: str | Path | None = None) -> ImageData:
    """Load the digits: about 60 % to train, 20 % to validate the search, 20 % to test, stratified.

    Args:
        path: Always None; the images come with scikit-learn.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    # The pixels are levels of 0 to 16.
    pixels = torch.from_numpy(digits.images / 16 * 255).round().to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(digits.target).long()
    rest, test = stratified_split(labels, 0.2)
    return memory_data(
        "digits",
        (pixels[rest], labels[rest]),
        (pixels[test], labels[test]),
        [str(c) for c in range(10)],
        val_fraction=0.25,
    )
