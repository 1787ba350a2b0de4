"""Data sources by name; each has fixed train, search-validation and test parts.

Importing this package, listing its names and `check` cost no import of torch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nas_compress.data.locate import FASHION_MNIST, cifar10_files, folder_parts, idx_files, no_files
from nas_compress.registry import Entry, Registry

if TYPE_CHECKING:
    from nas_compress.data.base import ImageData

data_sources: Registry[Callable[..., ImageData]] = Registry(
    "data source",
    {
        "digits": Entry(
            "nas_compress.data.digits:load",
            "scikit-learn's handwritten digits, 1,797 grey images of 8x8 (built in, no files)",
            {"locate": no_files, "default_path": None, "channels": 1},
        ),
        "fashion_mnist": Entry(
            "nas_compress.data.idx:load_fashion_mnist",
            f"Fashion-MNIST, 70,000 grey images of 28x28 (default path: {FASHION_MNIST})",
            {"locate": idx_files, "default_path": FASHION_MNIST, "channels": 1},
        ),
        "idx": Entry(
            "nas_compress.data.idx:load",
            "a folder of IDX files as MNIST's (train-images-idx3-ubyte[.gz] and so on)",
            {"locate": idx_files, "default_path": None, "channels": 1},
        ),
        "cifar10": Entry(
            "nas_compress.data.cifar10:load",
            "CIFAR-10, binary version, 60,000 colour images of 32x32 (data_batch_1.bin and so on)",
            {"locate": cifar10_files, "default_path": None, "channels": 3},
        ),
        "image_folder": Entry(
            "nas_compress.data.image_folder:load",
            "a folder with train/CLASS/IMAGE and val/CLASS/IMAGE, optionally test/ (ImageNet's layout)",
            {"locate": folder_parts, "default_path": None, "channels": 3},
        ),
    },
    aliases={"imagenet": "image_folder", "mnist": "idx", "mnist_like": "idx"},
)
"""Data sources that configs and recipes name.

`Entry.info` holds what must be known without loading: how to find the files (`locate`), their `default_path`, and the
`channels` of the images.
"""


def check(name: str, path: str | Path | None = None) -> None:
    """Check that a data source's files are there, without reading them or importing torch.

    Raises:
        UnknownNameError: No data source has this name.
        DataError: A path or a file is missing.
    """
    info = data_sources.entry(name).info
    info["locate"](name, path or info["default_path"])


def load_data(name: str, path: str | Path | None = None) -> ImageData:
    """Load a data source by name.

    Args:
        name: A name in `data_sources`.
        path: The folder of its files, where it has files and no default path (or other ones than the default).

    Raises:
        UnknownNameError: No data source has this name.
        DataError: A path or a file is missing or damaged.
    """
    check(name, path)
    return data_sources.get(name)(path or data_sources.entry(name).info["default_path"])
