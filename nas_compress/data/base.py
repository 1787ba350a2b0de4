"""What a data source delivers: labelled images in three parts, as normalised tensors at any resolution."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from nas_compress.errors import DataError

Split = TypeVar("Split", bound=Sized)

SPLIT_SEED = 0
"""Seeds every split of images into parts, so that the parts are the same in every run and on every machine."""


class ImageSplit(ABC):
    """One part of a data source.

    The parts of every registered source are stored in `fair_order`, the same in every run: their first n images are
    a fair sample of all of them, with all classes in proportion, whatever the order of the files. Calibration and
    partial evaluation rely on it and take the first n.

    Attributes:
        labels: Class indices, int64 of shape (n,).
        task: What the data is for, as the registries have it.
    """

    labels: Tensor
    task: ClassVar[str] = "images"

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def images(self, indices: Tensor, resolution: int) -> Tensor:
        """Return normalised images, float32 of shape (len(indices), channels, resolution, resolution)."""


class MemorySplit(ImageSplit):
    """Square images held in memory.

    Args:
        pixels: uint8 of shape (n, channels, size, size).
        labels: Class indices, shape (n,).
        mean: Mean per channel on the scale of 0 to 1.
        std: Standard deviation per channel on the same scale.
    """

    def __init__(self, pixels: Tensor, labels: Tensor, mean: Sequence[float], std: Sequence[float]) -> None:
        self.pixels = pixels
        self.labels = labels.long()
        self._mean = mean
        self._std = std

    def images(self, indices: Tensor, resolution: int) -> Tensor:
        """Return normalised images, resized from the stored size; see `ImageSplit.images`."""
        return resize(normalise(self.pixels[indices], self._mean, self._std), resolution)


class Parts(Generic[Split]):
    """A data source in three parts.

    The search may look at `val` as often as it likes; no architecture is ever chosen on `test`.

    Attributes:
        name: Name in records.
        train: For training.
        val: For the search.
        test: What neither training nor search see.
        fingerprint: Hash of contents and split: the data part of a measurement's context.
    """

    name: str
    train: Split
    val: Split
    test: Split
    fingerprint: str

    def split(self, name: str) -> Split:
        """Return the part called `"train"`, `"val"` or `"test"`."""
        parts = {"train": self.train, "val": self.val, "test": self.test}
        if name not in parts:
            raise DataError(f"split = {name!r} is not a part of the data; allowed: {', '.join(parts)}")
        return parts[name]


@dataclass(frozen=True)
class ImageData(Parts[ImageSplit]):
    """A data source in three parts.

    The search may look at `val` as often as it likes; no architecture is ever chosen on `test`.

    Attributes:
        name: Registered name of the data source.
        train: Images for training and for BN recalibration.
        val: Search-validation images, carved out of the official training images by a fixed, stratified split.
        test: Images that neither training nor search see.
        classes: Class names; labels index them.
        mean: Mean per channel on the scale of 0 to 1.
        std: Standard deviation per channel on the same scale.
        native_resolution: Height and width of the stored images; None where they vary.
        fingerprint: Hash of contents and split: the data part of a measurement's context.
    """

    name: str
    train: ImageSplit
    val: ImageSplit
    test: ImageSplit
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    native_resolution: int | None
    fingerprint: str

    @property
    def channels(self) -> int:
        """Number of image channels."""
        return len(self.mean)

    @property
    def black(self) -> tuple[float, ...]:
        """Normalised value of black, per channel."""
        return tuple(-m / s for m, s in zip(self.mean, self.std, strict=True))


def check_fit(data: ImageData, channels: int, classes: int) -> None:
    """Check that a network and the data are made for each other.

    Args:
        data: The data.
        channels: Channels of the images that the network takes.
        classes: Number of its logits.

    Raises:
        DataError: One of the two differs.
    """
    if data.channels != channels:
        raise DataError(f"data {data.name!r} has images of {data.channels} channels, the net takes {channels}")
    if len(data.classes) != classes:
        raise DataError(f"data {data.name!r} has {len(data.classes)} classes, the net has {classes} outputs")


def normalise(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return `(pixels / 255 - mean) / std` per channel for uint8 images of shape (n, channels, h, w)."""
    shape = (1, -1, 1, 1)
    scale = torch.tensor([1 / (255 * s) for s in std]).view(shape)
    shift = torch.tensor([m / s for m, s in zip(mean, std, strict=True)]).view(shape)
    return pixels.float().mul_(scale).sub_(shift)


def resize(images: Tensor, resolution: int) -> Tensor:
    """Resize float images of shape (n, c, h, w) to (n, c, resolution, resolution), bilinear and antialiased."""
    if images.shape[-2:] == (resolution, resolution):
        return images
    return F.interpolate(images, size=(resolution, resolution), mode="bilinear", antialias=True)


def channel_statistics(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel, on the scale of 0 to 1, of uint8 images (n, c, h, w)."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in pixels.unbind(1):
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        mean = float((share * levels).sum())
        means.append(mean)
        stds.append(max(float((share * (levels - mean).square()).sum()) ** 0.5, 1e-3))
    return tuple(means), tuple(stds)


def batches(
    split: ImageSplit,
    batch_size: int,
    resolution: int,
    *,
    limit: int | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (images, labels) in batches of `batch_size`, the last one possibly smaller.

    Args:
        split: Where the images come from.
        batch_size: Images per batch.
        resolution: Height and width of the images.
        limit: Stop after so many images; without a generator, the first ones are a fair sample (`ImageSplit`).
        generator: Draws the order; without it the order is that of the split.
    """
    order = torch.arange(len(split)) if generator is None else torch.randperm(len(split), generator=generator)
    order = order[:limit]
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        yield split.images(indices, resolution), split.labels[indices]


def stratified_split(labels: Tensor, fraction: float, at_most: int | None = None) -> tuple[Tensor, Tensor]:
    """Split positions into (kept, carved) with the same class shares in both, always in the same way.

    Args:
        labels: Class indices, shape (n,).
        fraction: Share to carve out, in all (rounded) and of every class (by largest remainder); but at least one
            image of each class is carved and at least one is left.
        at_most: Upper bound on the images carved in all; with more classes than that, one of each is carved.

    Returns:
        Two sorted index tensors that partition `range(n)`.

    Raises:
        DataError: A class has a single image, so that it cannot be in both parts.
    """
    counts = torch.bincount(labels)
    if 1 in counts:
        single = int((counts == 1).nonzero()[0])
        raise DataError(f"class {single} has a single training image; want at least 2, one for validation")
    total = math.ceil(len(labels) * fraction - 0.5)
    shares = _largest_remainder(counts, total if at_most is None else min(total, at_most))
    order, ranks = _shuffled(labels, torch.Generator().manual_seed(SPLIT_SEED))
    first = ranks < shares[labels[order]]
    return order[~first].sort().values, order[first].sort().values


def fair_order(labels: Tensor) -> Tensor:
    """Return an order of positions in which every beginning holds the classes in proportion, always the same.

    The images of each class are shuffled and spread over the whole: with n images of a class, one comes at a random
    place in each n-th of it (stratified sampling).

    Args:
        labels: Class indices, shape (n,).
    """
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    order, ranks = _shuffled(labels, generator)
    jitter = torch.rand(len(labels), generator=generator, dtype=torch.float64)
    places = (ranks + jitter) / torch.bincount(labels)[labels[order]]
    return order[places.argsort(stable=True)]


def _shuffled(labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return a random order of positions, and for each of its entries the rank among those of its class."""
    order = torch.randperm(len(labels), generator=generator)
    grouped = labels[order].argsort(stable=True)
    counts = torch.bincount(labels)
    starts = counts.cumsum(0) - counts
    ranks = torch.empty_like(order)
    ranks[grouped] = torch.arange(len(labels)) - starts[labels[order][grouped]]
    return order, ranks


def _largest_remainder(counts: Tensor, total: int) -> Tensor:
    """Share out `total` images in proportion to classes of two images or more (or none), by largest remainder.

    Returns:
        A number per class, at least 1 and less than its count (0 for empty classes); their sum is `total`, or the
        closest that these bounds allow.
    """
    least, most = counts.clamp(max=1), (counts - 1).clamp(min=0)
    total = min(max(total, int(least.sum())), int(most.sum()))
    quotas = (counts * total).double() / counts.sum()
    shares = torch.clamp(quotas.long(), least, most)
    while missing := total - int(shares.sum()):
        sign = 1 if missing > 0 else -1
        room = shares < most if missing > 0 else shares > least
        urgency = torch.where(room, (quotas - shares) * sign, -torch.inf)
        chosen = urgency.argsort(descending=True, stable=True)[: min(abs(missing), int(room.sum()))]
        shares[chosen] += sign
    return shares


def memory_data(
    name: str,
    official_train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    classes: Sequence[str],
    *,
    val_fraction: float = 0.1,
) -> ImageData:
    """Assemble an `ImageData` from (pixels, labels) pairs held in memory.

    Args:
        name: Registered name of the data source.
        official_train: Training images, of which `val_fraction` become the search-validation part. uint8
            pixels of shape (n, channels, size, size), labels of shape (n,).
        test: Test images, in the same form.
        classes: Class names.
        val_fraction: Share of the training images to carve out.

    Raises:
        DataError: Pixels or labels are of another form, or a class has a single image.
    """
    _check_images("official_train", *official_train, len(classes))
    _check_images("test", *test, len(classes))
    pixels, labels = official_train
    kept, carved = stratified_split(labels, val_fraction, at_most=10_000)
    parts = [_in_fair_order(*part) for part in ((pixels[kept], labels[kept]), (pixels[carved], labels[carved]), test)]
    mean, std = channel_statistics(parts[0][0])
    digest = hashlib.sha256()
    for part in parts:
        for tensor in part:
            digest.update(tensor.contiguous().numpy().tobytes())
    train_split, val_split, test_split = (MemorySplit(p, y, mean, std) for p, y in parts)
    return ImageData(
        name=name,
        train=train_split,
        val=val_split,
        test=test_split,
        classes=tuple(classes),
        mean=mean,
        std=std,
        native_resolution=int(pixels.shape[-1]),
        fingerprint=digest.hexdigest()[:16],
    )


def _check_images(part: str, pixels: Tensor, labels: Tensor, classes: int) -> None:
    shape = tuple(pixels.shape)
    if pixels.dtype != torch.uint8 or pixels.ndim != 4 or shape[2] != shape[3] or not len(pixels):
        found = f"{str(pixels.dtype).removeprefix('torch.')} of shape {shape}"
        raise DataError(f"{part}: the pixels are {found}; want uint8 (0 to 255) of shape (n, channels, size, size)")
    if labels.dtype != torch.int64 or labels.shape != shape[:1]:
        found = f"{str(labels.dtype).removeprefix('torch.')} of shape {tuple(labels.shape)}"
        raise DataError(f"{part}: the labels are {found}; want int64 of shape ({shape[0]},)")
    if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise DataError(f"{part}: labels are {int(labels.min())} to {int(labels.max())}; want 0 to {classes - 1}")


def _in_fair_order(pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    order = fair_order(labels)
    return pixels[order], labels[order]
