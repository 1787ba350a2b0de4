"""Folders of images, a sub-folder per class, as ImageNet is laid out."""

from __future__ import annotations

import hashlib
import math
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nas_compress.data.base import ImageData, ImageSplit, fair_order, normalise, stratified_split
from nas_compress.data.locate import IMAGE_SUFFIXES, folder_parts
from nas_compress.errors import DataError

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Statistics of ImageNet, with which published nets for photographs were trained."""

MEMORY_BUDGET = 2**31
"""Bytes of decoded images that each part of a data source may keep: 10,000 of 224 x 224 pixels fit."""

_CROP = 0.875
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
"""How files that are whole end, nearly all of them."""
_Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
_Listed = tuple[list[Path], list[int]]
"""Image files and their labels."""


class _Cache:
    """Decoded images by position and resolution, those dropped first that were not used for longest.

    Several threads may use it.

    Args:
        budget: Bytes to keep at most.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._used = 0
        self._kept: OrderedDict[tuple[int, int], _Pixels] = OrderedDict()
        self._lock = Lock()

    def get(self, key: tuple[int, int]) -> _Pixels | None:
        """Return an image, or None if it is not there."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: tuple[int, int], pixels: _Pixels) -> None:
        """Keep an image, unless it is larger than the budget."""
        with self._lock:
            if key in self._kept or pixels.nbytes > self._budget:
                return
            self._kept[key] = pixels
            self._used += pixels.nbytes
            while self._used > self._budget:
                self._used -= self._kept.popitem(last=False)[1].nbytes


class FolderSplit(ImageSplit):
    """Images decoded when asked for: shorter side resized to `resolution / 0.875`, then cropped to the centre.

    That is how Once-for-All nets are evaluated. The images used last are kept decoded, so that images that every
    candidate of a search sees are decoded once per resolution where they fit the budget.

    Args:
        files: Image files.
        labels: Class indices, one per file.
        memory_budget: Bytes of decoded images to keep, over all resolutions.
    """

    def __init__(self, files: Sequence[Path], labels: Sequence[int], memory_budget: int = MEMORY_BUDGET) -> None:
        self.files = list(files)
        self.labels = torch.tensor(labels, dtype=torch.int64)
        self._cache = _Cache(memory_budget)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        # Pillow decodes outside of the interpreter's lock.
        return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode")

    def images(self, indices: Tensor, resolution: int) -> Tensor:
        """Return normalised images; see `ImageSplit.images`.

        Raises:
            DataError: A file is missing or not an image.
        """
        return normalise(self._pixels(indices.tolist(), resolution), MEAN, STD)

    def _pixels(self, positions: Sequence[int], resolution: int) -> Tensor:
        """Return uint8 images, shape (len(positions), 3, resolution, resolution)."""
        found: dict[int, _Pixels] = {}
        missing: list[int] = []
        for position in dict.fromkeys(positions):
            kept = self._cache.get((position, resolution))
            if kept is None:
                missing.append(position)
            else:
                found[position] = kept
        decoded = self._pool.map(lambda position: decode(self.files[position], resolution), missing)
        for position, pixels in zip(missing, decoded, strict=True):
            found[position] = pixels
            self._cache.put((position, resolution), pixels)
        return torch.from_numpy(np.stack([found[position] for position in positions])).permute(0, 3, 1, 2)


def decode(file: Path, resolution: int) -> _Pixels:
    """Return an image as uint8 of shape (resolution, resolution, 3): resized, then cropped to the centre.

    Raises:
        DataError: The file is missing, not an image, or holds floating-point levels.
    """
    shorter = math.ceil(resolution / _CROP)
    with _named(file), Image.open(file) as image:
        # JPEGs are decoded at a fraction of their size where that is still large enough.
        image.draft("RGB", (shorter, shorter))
        scale = shorter / min(image.size)
        size = (max(round(image.width * scale), shorter), max(round(image.height * scale), shorter))
        resized = _rgb(image).resize(size, Image.Resampling.BILINEAR)
    left, top = (size[0] - resolution) // 2, (size[1] - resolution) // 2
    return np.asarray(resized.crop((left, top, left + resolution, top + resolution)))


def check_image(file: Path) -> None:
    """Check that a file begins and ends as an image does; those of which this cannot be told are decoded.

    Raises:
        DataError: As `decode` does.
    """
    with _named(file), file.open("rb") as content:
        end = _ENDS.get(Image.open(content).format or "")
        if end is not None:
            content.seek(-len(end), os.SEEK_END)
            if content.read() == end:
                return
    decode(file, 1)


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """Name the file where an image cannot be read."""
    try:
        yield
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{file} cannot be decoded: {error}") from error


def _rgb(image: Image.Image) -> Image.Image:
    """Return an image in 8 bits a channel; grey ones of 16 bits, which Pillow would cut off at 255, are scaled."""
    if image.mode == "F":
        raise ValueError("its levels are floating-point numbers of unknown range; want 8 or 16 bits a channel")
    if image.mode == "I" or image.mode.startswith("I;16"):
        levels = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray(((levels + 128) // 257).astype(np.uint8))
    return image.convert("RGB")


def load(path: str | Path | None) -> ImageData:
    """List the images of `train`, `val` and, if there is one, `test`.

    Files of the parts that quality is measured on, often hours after this, are looked at: one that is cut off is no
    image. Training images are decoded when they are asked for.

    Without `test`, `val` is the test part (ImageNet's published figures are on it), and the search-validation
    part is carved out of `train` (a tenth, at most 10,000 images).

    Raises:
        DataError: A folder is missing, holds other classes than `train`, or has a class without images; an image to
            measure quality on cannot be decoded.
    """
    roots = folder_parts("image_folder", path)
    classes = sorted(entry.name for entry in roots["train"].iterdir() if entry.is_dir())
    parts = {part: _list(root, classes) for part, root in roots.items()}
    if "test" not in parts:
        official = parts["train"]
        kept, carved = stratified_split(torch.tensor(official[1]), 0.1, at_most=10_000)
        parts = {"train": _select(official, kept), "val": _select(official, carved), "test": parts["val"]}
    parts = {part: _select(listed, fair_order(torch.tensor(listed[1]))) for part, listed in parts.items()}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(check_image, [*parts["val"][0], *parts["test"][0]]))
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


def _select(listed: _Listed, indices: Tensor) -> _Listed:
    files, labels = listed
    return [files[i] for i in indices.tolist()], [labels[i] for i in indices.tolist()]


def _list(root: Path, classes: Sequence[str]) -> _Listed:
    """Return the image files under a folder and their labels, in a fixed order."""
    unknown = sorted({entry.name for entry in root.iterdir() if entry.is_dir()} - set(classes))
    if unknown:
        raise DataError(f"{root} holds the class {unknown[0]!r}, which the training images lack")
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(f for f in (root / name).rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES and f.is_file())
        if not found:
            suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
            raise DataError(f"{root / name} holds no images; every class wants files with a suffix of {suffixes}")
        files += found
        labels += [label] * len(found)
    return files, labels


def _fingerprint(files: Sequence[Path]) -> str:
    """Return a hash of names and sizes: contents would take minutes to read."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{'/'.join(file.parts[-3:])} {file.stat().st_size}\n".encode())
    return digest.hexdigest()[:16]
