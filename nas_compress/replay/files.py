"""Published tables read from files, each checked before it is used."""

from __future__ import annotations

import gzip
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nas_compress.errors import DataError


def read_table(path: Path, *, text: Sequence[str], numbers: Sequence[str], rows: int) -> pd.DataFrame:
    """Read columns of a CSV file, plain or gzipped.

    Args:
        path: The file.
        text: Columns to read as text.
        numbers: Columns to read as finite numbers.
        rows: How many rows the published table has.

    Raises:
        DataError: The file is not the published table; the message names it and says what is wrong.
    """
    columns = [*text, *numbers]
    kinds: dict[str, Any] = dict.fromkeys(text, str) | dict.fromkeys(numbers, np.float64)
    try:
        table = pd.read_csv(path, usecols=columns, dtype=kinds, keep_default_na=False)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path} is not the published table: {error}") from error
    if len(table) != rows:
        raise DataError(f"{path} has {len(table)} rows; the published table has {rows}")
    if not np.isfinite(table[list(numbers)].to_numpy()).all():
        raise DataError(f"{path} has values that are not finite in the columns {', '.join(numbers)}")
    return table


def read_arrays(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[Any]]:
    """Read named arrays of given shapes from an `.npz` file.

    Raises:
        DataError: The file is damaged, or lacks an array of that shape; the message names it.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in shapes}
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be used: {error}") from error
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise DataError(f"{path}: {name} has the shape {arrays[name].shape}; want {shape}")
    return arrays


def read_json(path: Path) -> Any:
    """Read a gzipped JSON file.

    Raises:
        DataError: The file is damaged; the message names it.
    """
    try:
        return json.loads(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path} is not a gzipped JSON file: {error}") from error
