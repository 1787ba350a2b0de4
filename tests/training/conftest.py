"""A super-network and a data set small enough to train in a second."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from nas_compress.data.base import ImageData, memory_data
from nas_compress.supernets.mobilenet import MobileNetSupernet
from nas_compress.supernets.mobilenet_config import MobileNetConfig


@pytest.fixture
def data() -> ImageData:
    """Three classes of 8x8 images, told apart by the place of a bright square."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 60, (150, 1, 8, 8), dtype=torch.uint8, generator=generator)
    labels = torch.arange(150) % 3
    for i, label in enumerate(labels.tolist()):
        pixels[i, :, 1 + 2 * label : 4 + 2 * label, 2:6] += 150
    return memory_data("squares", (pixels[:120], labels[:120]), (pixels[120:], labels[120:]), ["a", "b", "c"])


@pytest.fixture
def make_supernet() -> Callable[[], MobileNetSupernet]:
    """Builds the same small net at every call; it has dropout, so that its randomness is tested too."""
    config = MobileNetConfig(
        stem_width=8,
        first_width=8,
        widths=(8, 16),
        final_width=16,
        feature_width=16,
        stem_stride=1,
        strides=(2, 1),
        activations=("relu", "relu", "hswish"),
        squeeze_excite=(False, True),
        kernel_sizes=(3, 5),
        expand_ratios=(2, 3),
        depths=(1, 2),
        resolutions=(8, 12),
        in_channels=1,
        num_classes=3,
        dropout=0.2,
    )
    return lambda: MobileNetSupernet("tiny", config, seed=1)
