"""Tables of search results: our own CSV is written, those of INC, of DyNAS-T and of published spaces are read."""

from __future__ import annotations

import csv
import gzip
import io
import logging
import math
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from nas_compress.errors import ArchitectureError, ArchiveError, ConfigError
from nas_compress.objectives import objectives as registered
from nas_compress.objectives.base import Objective
from nas_compress.records import is_archive, read_archive
from nas_compress.search.trial import Trial
from nas_compress.space import Architecture, SearchSpace, Value

logger = logging.getLogger(__name__)

HYPERVOLUME = "Hypervolume"
"""The last column: the normalised hypervolume after each trial, see `search.volume`."""

COLUMNS = ("Sub-network", "Date", "Latency (ms)", " MACs", "Top-1 Acc (%)")
"""The columns of INC's results, which every table of ours begins with (the space is INC's)."""

Rows = list[tuple[Architecture, dict[str, float]]]

_OBJECTIVES = {
    "acc": ("top1acc", "top1", "imagenettop1", "top1accuracy", "acc", "accuracy", "accuracytop1", "sst2acc"),
    "latency": ("latencyms", "latency", "latms", "lat"),
    "macs": ("macs", "mac"),
    "params": ("modelparameters", "parameters", "params"),
    "model_size": ("modelsizemb", "modelsize"),
    "bleu": ("bleu",),
}
"""Headers of others' tables, reduced to letters and digits, by the objective that they stand for. Where it was not
measured, these tables have 0."""

_BY_HEADER = {header: name for name, headers in _OBJECTIVES.items() for header in headers}


class ResultsCSV:
    """The readable table beside a search's archive, one row per trial. The archive is what counts.

    Every start writes the table anew; values that were not measured are empty cells, and so is the hypervolume of the
    first rows until its reference point is known.

    Args:
        path: The file; its folder is made if need be.
        objectives: What is measured. Those without one of INC's columns get columns of their own.
        replace: Whether the rows of an earlier table may be replaced.

    Raises:
        ArchiveError: The file holds something else than a results table, or rows while `replace` is false, or cannot
            be written.
        ConfigError: Two objectives have the same column.
    """

    def __init__(self, path: str | os.PathLike[str], objectives: Sequence[Objective], *, replace: bool) -> None:
        self.path = Path(path)
        self._columns = _columns(objectives)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._check_replaceable(replace)
            self._stream = open(self.path, "w", newline="", encoding="utf-8")
        except OSError as error:
            raise self._unwritable(error) from error
        self._header = [*COLUMNS, *(c for c in self._columns if c not in COLUMNS), HYPERVOLUME]
        self._rows: list[dict[str, str]] = []
        self._write([self._header])

    def _check_replaceable(self, replace: bool) -> None:
        if not self.path.exists():
            return
        with open(self.path, encoding="utf-8", errors="replace") as stream:
            header, row = stream.readline(), stream.readline()
        if header and not header.startswith(COLUMNS[0]):
            raise ArchiveError(f"{self.path} is not a table of search results; choose another results_csv_path")
        if row and not replace:
            raise ArchiveError(
                f"{self.path} holds results of another search; choose another results_csv_path, or delete the file"
            )

    def append(self, trial: Trial, date: str, hypervolumes: Sequence[float] = ()) -> None:
        """Write a row.

        Args:
            trial: The trial.
            date: When it was measured.
            hypervolumes: The hypervolume after every trial up to this one; empty while it is not known. As soon as it
                is, the rows before are written again.

        Raises:
            ArchiveError: The file cannot be written.
        """
        cells = {"Sub-network": str(trial.architecture), "Date": date}
        for column, name in self._columns.items():
            cells[column] = _number(trial.values[name]) if name in trial.values else ""
        self._rows.append(cells)
        if len(self._rows) > 1 and hypervolumes and HYPERVOLUME not in self._rows[-2]:
            self.fill(hypervolumes)
            return
        if hypervolumes:
            cells[HYPERVOLUME] = f"{hypervolumes[-1]:.6g}"
        self._write([self._cells(cells)])

    def fill(self, hypervolumes: Sequence[float]) -> None:
        """Write all rows again, with the hypervolume after every trial; raises `ArchiveError` as `append` does."""
        for cells, volume in zip(self._rows, hypervolumes, strict=True):
            cells[HYPERVOLUME] = f"{volume:.6g}"
        try:
            self._stream.seek(0)
            self._stream.truncate()
        except OSError as error:
            raise self._unwritable(error) from error
        self._write([self._header, *map(self._cells, self._rows)])

    def _cells(self, cells: Mapping[str, str]) -> list[str]:
        return [cells.get(column, "") for column in self._header]

    def _write(self, rows: Iterable[Sequence[str]]) -> None:
        try:
            csv.writer(self._stream, lineterminator="\n").writerows(rows)
            self._stream.flush()
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> ArchiveError:
        return ArchiveError(f"cannot write the results table {self.path}: {error.strerror}")

    def close(self) -> None:
        """Close the file."""
        try:
            self._stream.close()
        except OSError as error:
            raise self._unwritable(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _columns(objectives: Sequence[Objective]) -> dict[str, str]:
    """Return the objectives' names by column, INC's columns in INC's spelling."""
    spelling = {column.strip(): column for column in COLUMNS}
    columns: dict[str, str] = {}
    for objective in objectives:
        column = spelling.get(objective.column.strip(), objective.column)
        if column in columns:
            raise ConfigError(f"objectives {columns[column]!r} and {objective.name!r} have the same column {column!r}")
        columns[column] = objective.name
    return columns


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def read_results(path: str | os.PathLike[str], space: SearchSpace) -> Rows:
    """Read measured architectures from an archive or a table, plain or gzipped.

    Tables have either a column `Sub-network` with a dictionary as text (ours, INC's and DyNAS-T's, where 0 and an
    empty cell stand for not measured) or one column of space-separated numbers per dimension. Known spellings of
    headers become the names of objectives (`"MACS"` is `macs`, `"imagenet_top1"` is `acc`), other columns are left
    out. Accuracies are in percent: a column without any value above 1 is taken to hold fractions.

    Args:
        path: The file.
        space: The space that the architectures belong to.

    Returns:
        One canonical architecture and its values by objective per row, in the file's order, repeats included; one per
        architecture for an archive. Failed and unmeasured rows have no values.

    Raises:
        ArchiveError: The file is missing, empty, torn, of another format, or holds architectures of another space; the
            message names the file, the line and the reason.
    """
    data = _read_bytes(Path(path))
    if is_archive(data):
        return _archive_rows(data, str(path), space)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ArchiveError(f"{path} is not a table of search results: it is not text") from error
    if not text.strip():
        raise ArchiveError(f"{path} is empty; want a table of search results")
    return _table_rows(text, str(path), space)


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ArchiveError(f"{path} is a damaged gzip file: {error}") from error
    except OSError as error:
        raise ArchiveError(f"cannot read the results {path}: {error.strerror}") from error


def _archive_rows(data: bytes, name: str, space: SearchSpace) -> Rows:
    rows: dict[Architecture, dict[str, float]] = {}
    for architecture, records in read_archive(data, name).latest().items():
        try:
            values = rows.setdefault(space.canonicalize(architecture), {})
        except ArchitectureError as error:
            raise ArchiveError(f"{name} holds an architecture of another space: {error}") from error
        values |= {objective: record.value for objective, record in records.items() if record.value is not None}
    return list(rows.items())


def _table_rows(text: str, name: str, space: SearchSpace) -> Rows:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: Rows = []
    try:
        header = [cell.strip() for cell in next(reader)]
        objectives = _objectives(header)
        dictionaries = "Sub-network" in header
        dimensions = [d.name for d in space.dimensions]
        if not dictionaries and not set(dimensions) <= set(header):
            wanted = ", ".join(dimensions)
            raise ArchiveError(f"{name}, line 1: want a column 'Sub-network', or the columns {wanted}; got {header}")
        for cells in reader:
            if cells:
                row = _cells(header, cells)
                architecture = _architecture(row, dimensions, dictionaries)
                rows.append(
                    (space.canonicalize(architecture), _values(row, objectives, zero_is_value=not dictionaries))
                )
    except (csv.Error, ValueError, ArchitectureError) as error:
        raise ArchiveError(f"{name}, line {reader.line_num}: {error}") from error
    if not rows:
        raise ArchiveError(f"{name} has a header and no results")
    _to_percent(rows)
    return rows


def _objectives(header: Sequence[str]) -> dict[str, str]:
    """Return the objectives' names by header, for the headers that are known."""
    own = {_reduced(registered.entry(name).info["column"]): name for name in registered}
    names = own | _BY_HEADER
    found = {column: name for column in header if (name := names.get(_reduced(column))) is not None}
    ignored = [c for c in header if c not in found]
    logger.debug("columns that are not read as objectives: %s", ", ".join(ignored))
    return found


def _reduced(header: str) -> str:
    return re.sub(r"[^a-z0-9]", "", header.lower())


def _cells(header: Sequence[str], cells: Sequence[str]) -> Mapping[str, str]:
    if len(cells) != len(header):
        cut = " (was the file cut off?)" if len(cells) < len(header) else ""
        raise ValueError(f"{len(cells)} cells, want {len(header)}{cut}")
    return dict(zip(header, cells, strict=True))


def _architecture(row: Mapping[str, str], dimensions: Sequence[str], dictionaries: bool) -> Architecture:
    if dictionaries:
        return Architecture.parse(row["Sub-network"])
    return Architecture({name: list(_genes(row[name])) for name in dimensions})


def _genes(cell: str) -> Iterator[Value]:
    for text in cell.split():
        number = float(text)
        yield int(number) if number.is_integer() else number


def _values(row: Mapping[str, str], objectives: Mapping[str, str], *, zero_is_value: bool) -> dict[str, float]:
    values: dict[str, float] = {}
    for column, name in objectives.items():
        text = row[column].strip()
        if not text:
            continue
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"{column} = {text!r} is not a number") from None
        if math.isfinite(value) and (value != 0 or zero_is_value or name not in _OBJECTIVES):
            if name in values:
                raise ValueError(f"two columns stand for {name}")
            values[name] = value
    return values


def _to_percent(rows: Rows) -> None:
    """Turn accuracies given as fractions into percent, in place."""
    if max((values["acc"] for _, values in rows if "acc" in values), default=100.0) <= 1.0:
        for _, values in rows:
            if "acc" in values:
                values["acc"] *= 100.0
