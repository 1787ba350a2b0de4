"""The layout in memory in which convolutions run fastest on CPUs: channels last."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def is_image(inputs: Tensor) -> bool:
    """Return whether an input is one of images: floating numbers of shape (N, C, H, W)."""
    return inputs.ndim == 4 and inputs.is_floating_point()


def channels_last(inputs: Tensor) -> Tensor:
    """Return an input with the channels last in memory if it is one of images, else as it is.

    The layout of a layer's input decides that of its output, and so of all layers after it. Images of one channel are
    laid out either way, and PyTorch takes their strides for those of channels first: they get the others.
    """
    import torch

    if not is_image(inputs):
        return inputs
    laid_out = inputs.contiguous(memory_format=torch.channels_last)
    _, channels, height, width = inputs.shape
    return laid_out.as_strided(inputs.shape, (height * width, 1, width, 1)) if channels == 1 else laid_out
