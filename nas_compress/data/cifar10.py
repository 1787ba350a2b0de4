"""CIFAR-10 in its binary version: files of 10,000 records, a label byte and 3,072 pixel bytes each."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from nas_compress.data.base import ImageData, memory_data
from nas_compress.data.locate import CIFAR10_TEST, CIFAR10_TRAIN, cifar10_files
from nas_compress.errors import DataError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_RECORD = 1 + 3 * 32 * 32


def load(path: str | Path | None) -> ImageData:
    """Load CIFAR-10 (Krizhevsky, 2009); a tenth of the training images validates the search.

    Args:
        path: The folder of the `.bin` files, or the one around `cifar-10-batches-bin`.

    Raises:
        DataError: A file is missing or damaged.
    """
    files = cifar10_files("cifar10", path)
    batches = [_read(files[file]) for file in CIFAR10_TRAIN]
    train = (torch.cat([pixels for pixels, _ in batches]), torch.cat([labels for _, labels in batches]))
    return memory_data("cifar10", train, _read(files[CIFAR10_TEST]), CLASSES)


def _read(path: Path) -> tuple[Tensor, Tensor]:
    try:
        content = bytearray(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not content or len(content) % _RECORD:
        raise DataError(f"{path} is damaged: {len(content)} bytes are no whole number of {_RECORD}-byte records")
    records = torch.frombuffer(content, dtype=torch.uint8).view(-1, _RECORD)
    labels = records[:, 0].long()
    if int(labels.max()) >= len(CLASSES):
        raise DataError(f"{path} is damaged: a label is {int(labels.max())}; want 0 to {len(CLASSES) - 1}")
    return records[:, 1:].reshape(-1, 3, 32, 32), labels
