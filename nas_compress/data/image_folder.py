"""Folders of images, a sub-folder per class, as ImageNet is laid out."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nas_compress.data.base import ImageData, ImageSplit, normalise, stratified_split
from nas_compress.data.locate import IMAGE_SUFFIXES, folder_parts
from nas_compress.errors import DataError

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Statistics of ImageNet, with which published nets for photographs were trained."""

MEMORY_BUDGET = 2**30
"""Bytes of decoded images that each part of a data source may keep."""

_CROP = 0.875


class FolderSplit(ImageSplit):
    """Images decoded when asked for: shorter side resized to `resolution / 0.875`, then cropped to the centre.

    That is how Once-for-All nets are evaluated. Decoded images of one resolution are kept while they fit the
    budget, so that a small data set is decoded once per resolution.

    Args:
        files: Image files.
        labels: Class indices, one per file.
        memory_budget: Bytes of decoded images to keep, over all resolutions.
    """

    def __init__(self, files: Sequence[Path], labels: Sequence[int], memory_budget: int = MEMORY_BUDGET) -> None:
        self.files = list(files)
        self.labels = torch.tensor(labels, dtype=torch.int64)
        self._free = memory_budget
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}

    def images(self, indices: Tensor, resolution: int) -> Tensor:
        """Return normalised images; see `ImageSplit.images`.

        Raises:
            DataError: A file is missing or not an image.
        """
        return normalise(self._pixels(indices, resolution), MEAN, STD)

    def _pixels(self, indices: Tensor, resolution: int) -> Tensor:
        """Return uint8 images, shape (len(indices), 3, resolution, resolution)."""
        kept = self._memory(resolution)
        if kept is None:
            return self._decode(indices, resolution)
        pixels, present = kept
        missing = torch.unique(indices[~present[indices]])
        if len(missing):
            pixels[missing] = self._decode(missing, resolution)
            present[missing] = True
        return pixels[indices]

    def _memory(self, resolution: int) -> tuple[Tensor, Tensor] | None:
        """Return the kept images of a resolution and which of them are there yet; None if they do not fit."""
        size = len(self) * 3 * resolution**2
        if resolution not in self._kept and size <= self._free:
            self._free -= size
            pixels = torch.empty(len(self), 3, resolution, resolution, dtype=torch.uint8)
            self._kept[resolution] = (pixels, torch.zeros(len(self), dtype=torch.bool))
        return self._kept.get(resolution)

    def _decode(self, indices: Tensor, resolution: int) -> Tensor:
        files = [self.files[i] for i in indices.tolist()]
        # Pillow decodes outside of the interpreter's lock.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            arrays = list(pool.map(lambda file: decode(file, resolution), files))
        return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)


def decode(file: Path, resolution: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return an image as uint8 of shape (resolution, resolution, 3): resized, then cropped to the centre.

    Raises:
        DataError: The file is missing or not an image.
    """
    shorter = math.ceil(resolution / _CROP)
    try:
        with Image.open(file) as image:
            # JPEGs are decoded at a fraction of their size where that is still large enough.
            image.draft("RGB", (shorter, shorter))
            scale = shorter / min(image.size)
            size = (max(round(image.width * scale), shorter), max(round(image.height * scale), shorter))
            resized = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{file} cannot be decoded: {error}") from error
    left, top = (size[0] - resolution) // 2, (size[1] - resolution) // 2
    return np.asarray(resized.crop((left, top, left + resolution, top + resolution)))


def load(path: str | Path | None) -> ImageData:
    """List the images of `train`, `val` and, if there is one, `test`; nothing is decoded yet.

    Without `test`, `val` is the test part (ImageNet's published figures are on it), and the search-validation
    part is carved out of `train` (a tenth, at most 10,000 images).

    Raises:
        DataError: A folder is missing, holds no images, or other classes than `train`.
    """
    roots = folder_parts("image_folder", path)
    classes = sorted(entry.name for entry in roots["train"].iterdir() if entry.is_dir())
    parts = {part: _list(root, classes) for part, root in roots.items()}
    if "test" not in parts:
        files, labels = parts["train"]
        kept, carved = (part.tolist() for part in stratified_split(torch.tensor(labels), 0.1, at_most=10_000))
        parts["test"] = parts["val"]
        parts["train"] = [files[i] for i in kept], [labels[i] for i in kept]
        parts["val"] = [files[i] for i in carved], [labels[i] for i in carved]
    return ImageData(
        name="image_folder",
        train=FolderSplit(*parts["train"]),
        val=FolderSplit(*parts["val"]),
        test=FolderSplit(*parts["test"]),
        classes=tuple(classes),
        mean=MEAN,
        std=STD,
        native_resolution=None,
        fingerprint=_fingerprint([file for part in ("train", "val", "test") for file in parts[part][0]]),
    )


def _list(root: Path, classes: Sequence[str]) -> tuple[list[Path], list[int]]:
    """Return the image files under a folder and their labels, in a fixed order."""
    unknown = sorted({entry.name for entry in root.iterdir() if entry.is_dir()} - set(classes))
    if unknown:
        raise DataError(f"{root} holds the class {unknown[0]!r}, which the training images lack")
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(f for f in (root / name).rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES and f.is_file())
        files += found
        labels += [label] * len(found)
    if not files:
        raise DataError(
            f"{root} holds no images; want CLASS/IMAGE with a suffix of {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return files, labels


def _fingerprint(files: Sequence[Path]) -> str:
    """Return a hash of names and sizes: contents would take minutes to read."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{'/'.join(file.parts[-3:])} {file.stat().st_size}\n".encode())
    return digest.hexdigest()[:16]
