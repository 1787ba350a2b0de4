"""A data set and networks small enough to train in a second, for tests and the programs that they start."""

from __future__ import annotations

import torch
from torch import nn

from nas_compress.data.base import ImageData, memory_data
from nas_compress.supernets.mobilenet import MobileNetSupernet
from nas_compress.supernets.mobilenet_config import MobileNetConfig


def squares() -> ImageData:
    """Three classes of 8x8 images, told apart by the place of a bright square."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 60, (150, 1, 8, 8), dtype=torch.uint8, generator=generator)
    labels = torch.arange(150) % 3
    for i, label in enumerate(labels.tolist()):
        pixels[i, :, 1 + 2 * label : 4 + 2 * label, 2:6] += 150
    return memory_data("squares", (pixels[:120], labels[:120]), (pixels[120:], labels[120:]), ["a", "b", "c"])


def tiny_supernet(dropout: float = 0.2) -> MobileNetSupernet:
    """The same small net at every call; it has dropout, so that its randomness is tested too."""
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
        dropout=dropout,
    )
    return MobileNetSupernet("tiny", config, seed=1)


def plain_network() -> nn.Module:
    """The same network of 8x8 images at every call, without dropout and normalisation: parts of a batch add up."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        layers = (nn.Conv2d(1, 6, 3, 2), nn.ReLU(), nn.Conv2d(6, 8, 2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
        return nn.Sequential(*layers)


def weights(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return copies of a module's parameters and buffers."""
    return {key: tensor.detach().clone() for key, tensor in module.state_dict().items()}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Tell whether tensors by name are the same, bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Return the largest difference between tensors by name."""
    return max(float((a[key].double() - b[key].double()).abs().max()) for key in a)
