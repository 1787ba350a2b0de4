"""IDX files, the format of MNIST and its likes (http://yann.lecun.com/exdb/mnist)."""

from __future__ import annotations

import gzip
import struct
import zlib
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from nas_compress.data.base import ImageData, memory_data
from nas_compress.data.locate import idx_files
from nas_compress.errors import DataError

FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_UNSIGNED_BYTE = 0x08


def load(path: str | Path | None) -> ImageData:
    """Load a folder of four IDX files, gzipped or not; a tenth of the training images validates the search.

    Raises:
        DataError: A file is missing, damaged, or does not fit the others.
    """
    return _load("idx", path, None)


def load_fashion_mnist(path: str | Path | None) -> ImageData:
    """Load Fashion-MNIST (Xiao et al., 2017) as `load` does, with the names of its classes.

    Raises:
        DataError: A file is missing, damaged, or does not fit the others.
    """
    return _load("fashion_mnist", path, FASHION_CLASSES)


def read_idx(path: Path, dimensions: int) -> Tensor:
    """Read one IDX file of unsigned bytes, gzipped if its name ends in `.gz`.

    Args:
        path: The file.
        dimensions: The number of dimensions it must have.

    Returns:
        A uint8 tensor of the shape that the file states.

    Raises:
        DataError: The file is damaged or holds something else.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if content[:4] != bytes([0, 0, _UNSIGNED_BYTE, dimensions]):
        raise DataError(
            f"{path} is not an IDX file of unsigned bytes in {dimensions} dimensions: it starts with {content[:4]!r}"
        )
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise DataError(f"{path} is cut off: its header has {len(content)} of {start} bytes")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    if len(content) - start != prod(shape):
        raise DataError(f"{path} is damaged: it holds {len(content) - start} values, its header states {prod(shape)}")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)[start:].view(shape)


def _load(name: str, path: str | Path | None, classes: tuple[str, ...] | None) -> ImageData:
    files = idx_files(name, path)
    train = _pair(files["train-images"], files["train-labels"])
    test = _pair(files["t10k-images"], files["t10k-labels"])
    if train[0].shape[1:] != test[0].shape[1:]:
        raise DataError(f"{files['t10k-images']} has images of another size than {files['train-images']}")
    count = int(max(train[1].max(), test[1].max())) + 1
    if classes is not None and count > len(classes):
        raise DataError(f"{files['train-labels']} has {count} classes; {name!r} has {len(classes)}")
    return memory_data(name, train, test, classes or [str(i) for i in range(count)])


def _pair(images_file: Path, labels_file: Path) -> tuple[Tensor, Tensor]:
    images, labels = read_idx(images_file, 3), read_idx(labels_file, 1)
    if len(images) != len(labels) or len(labels) == 0:
        raise DataError(f"{images_file} holds {len(images)} images, {labels_file} {len(labels)} labels")
    if images.shape[1] != images.shape[2]:
        raise DataError(f"{images_file} holds images of {images.shape[1]}x{images.shape[2]} pixels; want square ones")
    return images.unsqueeze(1), labels.long()
