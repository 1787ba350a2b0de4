"""CIFAR-10's binary version from files of JPEGs, for where the original cannot be had.

    python benchmarks/cifar10_bin.py DATA/cifar10_jpeg cifar10

The JPEGs are lossy: figures on them are not those of the original.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image

FILES = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
RECORDS = 10_000


def records(path: Path) -> np.ndarray:
    """Return records of a label byte and 3,072 pixel bytes, shape (n, 3073).

    Args:
        path: An npz file of JPEGs: data (bytes), offsets, labels.
    """
    with np.load(path) as file:
        data, offsets, labels = file["data"], file["offsets"], file["labels"]
    rows = np.empty((len(labels), 3073), np.uint8)
    rows[:, 0] = labels
    for i, row in enumerate(rows):
        image = Image.open(io.BytesIO(data[offsets[i] : offsets[i + 1]].tobytes())).convert("RGB")
        row[1:] = np.asarray(image).transpose(2, 0, 1).reshape(-1)
    return rows


def main() -> None:
    """Write the six files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder of cifar10_train_jpeg.npz and cifar10_test_jpeg.npz")
    parser.add_argument("target", type=Path, help="folder to write to")
    arguments = parser.parse_args()
    arguments.target.mkdir(parents=True, exist_ok=True)
    for part, names in FILES.items():
        rows = records(arguments.source / f"cifar10_{part}_jpeg.npz")
        for number, name in enumerate(names):
            (arguments.target / name).write_bytes(rows[number * RECORDS : (number + 1) * RECORDS].tobytes())


if __name__ == "__main__":
    main()
