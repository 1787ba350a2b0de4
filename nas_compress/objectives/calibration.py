"""BN recalibration: a sub-network's batch-norm statistics are not those of the super-network it came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nas_compress.allocator import keep_large_blocks
from nas_compress.backends.hardware import has_bf16_dot_product
from nas_compress.data.augment import Augmentation
from nas_compress.data.base import ImageData, resize
from nas_compress.errors import DataError
from nas_compress.objectives.modes import evaluating, laid_out, quick_relu
from nas_compress.space import Architecture
from nas_compress.supernets.base import ImageSupernet

CALIBRATION_BATCH = 200

MUCH_TO_COMPUTE = 2e10
"""Multiply-accumulates over all images from which on bf16 pays."""


def recalibrate_bn(module: nn.Module, batches: Iterable[Tensor]) -> int:
    """Replace running statistics by the average batch statistics over `batches`, weighted by their sizes.

    Once-for-All (Cai et al., 2020) uses 2,000 training images in batches of 200, at the sub-network's
    resolution. Other layers stay in evaluation mode (no dropout); a network without batch norm is left alone.

    Args:
        module: Changed in place and left in evaluation mode.
        batches: Images of shape (n, C, r, r). Those of one image are left out, for they have no variance.

    Returns:
        The number of images used.

    Raises:
        DataError: There is batch norm, but no batch of at least two images.
    """
    module.eval()
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        return 0
    momenta = [norm.momentum for norm in norms]
    seen = 0
    with torch.no_grad(), evaluating(module), quick_relu(module), laid_out(module) as lay_out:
        try:
            for norm in norms:
                norm.train()
            for images in batches:
                if len(images) > 1:
                    seen += len(images)
                    _observe(module, norms, lay_out(images), seen)
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
    if not seen:
        raise DataError("BN recalibration wants at least one batch of two images or more, got none")
    return seen


def _observe(module: nn.Module, norms: list[_BatchNorm], images: Tensor, seen: int) -> None:
    """Run one batch with the momentum that makes running statistics the average over all `seen` images."""
    for norm in norms:
        if seen == len(images):
            norm.reset_running_stats()
        norm.momentum = len(images) / seen
    module(images)


def calibrated_subnet(supernet: ImageSupernet, architecture: Architecture, data: ImageData, images: int) -> nn.Module:
    """Return an extracted sub-network with statistics of its own, from the first `images` training images.

    The images are changed as those were that the weights were trained on (`ImageSupernet.augmentation`), as
    Once-for-All's are: with black borders that training has and the statistics lack, say, accuracy falls by points.

    Where there is much to compute and the processor multiplies bf16 numbers, convolutions compute in bf16, in two
    thirds of the time; the statistics themselves are fp32 sums.

    Args:
        supernet: Where the weights come from; left as it is.
        architecture: Which sub-network.
        data: Its `train` part is used.
        images: How many images, at most; batches of 200, as in Once-for-All.
    """
    keep_large_blocks()
    subnet = supernet.extract(architecture)
    resolution = supernet.resolution(architecture)
    with torch.autocast("cpu", torch.bfloat16, calibrates_in_bf16(supernet, architecture, images)):
        recalibrate_bn(subnet, training_images(data, resolution, images, supernet.augmentation))
    return subnet


def training_images(
    data: ImageData, resolution: int, limit: int, augmentation: Augmentation | None = None
) -> Iterator[Tensor]:
    """Yield the first `limit` training images in batches of shape (200, C, resolution, resolution).

    Args:
        data: Its `train` part is used.
        resolution: Height and width in pixels.
        limit: How many, at most.
        augmentation: How they are changed, at their own size as in training; the same changes at every call.
    """
    generator, size = torch.Generator().manual_seed(0), data.native_resolution or resolution
    for indices in torch.split(torch.arange(min(limit, len(data.train))), CALIBRATION_BATCH):
        if augmentation is None:
            yield data.train.images(indices, resolution)
        else:
            yield resize(augmentation(data.train.images(indices, size), data.black, generator), resolution)


def calibrates_in_bf16(supernet: ImageSupernet, architecture: Architecture, images: int) -> bool:
    """Return whether `calibrated_subnet` computes in bf16."""
    return supernet.macs(architecture) * images > MUCH_TO_COMPUTE and has_bf16_dot_product()


def calibration_conditions(supernet: ImageSupernet, images: int) -> dict[str, Any]:
    """Return what `calibrated_subnet` depends on besides weights and data, as plain data.

    Args:
        supernet: Where the sub-networks come from.
        images: How many images, at most.
    """
    conditions: dict[str, Any] = {"calibration_images": images}
    if calibrates_in_bf16(supernet, supernet.space.largest(), images):
        conditions["calibration_precision"] = f"bf16 above {MUCH_TO_COMPUTE:g} multiply-accumulates"
    if supernet.augmentation is not None:
        conditions["calibration_augmentation"] = asdict(supernet.augmentation)
    return conditions
