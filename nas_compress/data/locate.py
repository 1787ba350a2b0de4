"""Where the files of each data source are: cheap checks that need no torch and read no contents."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nas_compress.errors import DataError

FASHION_MNIST = "/usr/share/datasets/fashion-mnist"
"""Where Debian's package `dataset-fashion-mnist` puts its files."""

IDX_PARTS = ("train-images", "train-labels", "t10k-images", "t10k-labels")
CIFAR10_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
CIFAR10_TEST = "test_batch.bin"
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".gif", ".tif", ".tiff"})


def no_files(name: str, path: str | Path | None) -> None:
    """Refuse a path for a data source that is built in."""
    if path is not None:
        raise DataError(f"dataset_path = {str(path)!r}: the data source {name!r} is built in and takes no path")


def folder(name: str, path: str | Path | None) -> Path:
    """Return `path` as an existing folder."""
    if path is None:
        raise DataError(f"the data source {name!r} needs the folder that holds its files; none is given")
    found = Path(path).expanduser()
    if not found.is_dir():
        problem = "is not a folder" if found.exists() else "does not exist"
        raise DataError(f"dataset_path = {str(path)!r} {problem}; the data source {name!r} needs a folder of its files")
    return found


def file_or_folder(name: str, path: str | Path | None) -> Path:
    """Return `path` as an existing file or folder."""
    if path is None:
        raise DataError(f"the data source {name!r} needs its file or folder; none is given")
    found = Path(path).expanduser()
    if not found.exists():
        raise DataError(f"dataset_path = {str(path)!r} does not exist; the data source {name!r} needs it")
    return found


def beginning(name: str, path: str | Path | None) -> Path:
    """Return `path` as an existing file or folder, or the beginning of the names of files (`folder/stsa_binary`)."""
    if path is None:
        raise DataError(f"the data source {name!r} needs its folder, or the beginning of its files; none is given")
    found = Path(path).expanduser()
    if not found.exists() and not any(found.parent.glob(f"{found.name}*")):
        raise DataError(f"dataset_path = {str(path)!r}: no file or folder begins so; {name!r} needs its files")
    return found


def multi30k_files(name: str, path: str | Path | None) -> None:
    """Look for the German and English files of all parts."""
    from nas_compress.data.parallel import parallel_files

    parallel_files(name, path, ("de", "en"))


def idx_files(name: str, path: str | Path | None) -> dict[str, Path]:
    """Return the four IDX files of a folder by part (`"train-images"`, ...)."""
    root = folder(name, path)
    files = {}
    for part in IDX_PARTS:
        stem = f"{part}{{}}idx{3 if part.endswith('images') else 1}-ubyte"
        # Both spellings are in use: with a dash as published, with a dot after some unpackers.
        candidates = [root / (stem.format(mark) + suffix) for mark in "-." for suffix in (".gz", "")]
        files[part] = _first(candidates, f"{candidates[1].name} or {candidates[0].name}", name)
    return files


def cifar10_files(name: str, path: str | Path | None) -> dict[str, Path]:
    """Return the binary files of CIFAR-10 by file name; the folder inside the published archive serves too."""
    root = folder(name, path)
    inner = root / "cifar-10-batches-bin"
    root = inner if inner.is_dir() else root
    return {file: _first([root / file], file, name) for file in (*CIFAR10_TRAIN, CIFAR10_TEST)}


def folder_parts(name: str, path: str | Path | None) -> dict[str, Path]:
    """Return the folders `train`, `val` and, if there is one, `test`; each must hold at least one class folder."""
    root = folder(name, path)
    parts = {part: root / part for part in ("train", "val")}
    if (root / "test").is_dir() and _has_folder(root / "test"):
        parts["test"] = root / "test"
    for part, where in parts.items():
        if not where.is_dir():
            raise DataError(f"{where} is missing: the data source {name!r} needs {part}/CLASS/IMAGE files in {root}")
        if not _has_folder(where):
            raise DataError(f"{where} holds no class folders; the data source {name!r} needs {part}/CLASS/IMAGE files")
    return parts


def _has_folder(where: Path) -> bool:
    return any(entry.is_dir() for entry in where.iterdir())


def _first(candidates: Iterable[Path], wanted: str, name: str) -> Path:
    candidates = list(candidates)
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise DataError(f"{candidates[0].parent} has no file {wanted}, which the data source {name!r} needs")
