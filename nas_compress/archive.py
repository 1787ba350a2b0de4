"""The record of a search: every measurement, appended the moment it is known, and what it was measured on.

An archive is a text file of JSON lines. The first one says which search it belongs to; then follow contexts
(all that a value depends on besides the architecture, written once and referred to by their hash) and
measurements. Lines are only ever appended, each with one write and an `fsync`, so a process that dies at any
moment leaves at most one torn line at the end, which the next opening removes.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from nas_compress.errors import ArchiveError
from nas_compress.records import (
    FORMAT,
    VERSION,
    ArchiveContents,
    Key,
    Record,
    context_hash,
    differences,
    parse_archive,
    plain,
)
from nas_compress.space import Architecture

if sys.platform != "win32":
    import fcntl

logger = logging.getLogger(__name__)


class Archive:
    """Measurements by canonical architecture, objective and context.

    Made plainly, it is kept in memory alone; `Archive.open` keeps it in a file. A later record of the same key
    replaces an earlier one.

    Args:
        search: What the search is, as plain data.

    Attributes:
        path: The file, None for an archive in memory.
        search: What the search is.
    """

    def __init__(self, search: Mapping[str, Any] | None = None) -> None:
        self.path: Path | None = None
        self.search: Mapping[str, Any] = plain(search or {}, "search")
        self._file: _AppendOnlyFile | None = None
        self._contexts: dict[str, Mapping[str, Any]] = {}
        self._runs: list[Mapping[str, Any]] = []
        self._records: dict[Key, Record] = {}

    @classmethod
    def open(cls, path: str | os.PathLike[str], search: Mapping[str, Any]) -> Self:
        """Open the archive of a search for reading and appending, or begin it; the first record makes the header.

        Args:
            path: The file; its folder is made if need be.
            search: All that decides which architectures are asked for, and in what order, as plain data. The number of
                evaluations does not belong here: a search may be continued with more.

        Raises:
            ArchiveError: The file belongs to another search or program, is damaged, is used by another process, or
                cannot be read and written.
        """
        archive = cls(search)
        file = _AppendOnlyFile(Path(path))
        try:
            contents = file.load()
            if contents is not None:
                archive._take(contents, file.path)
        except BaseException:
            file.close()
            raise
        archive.path, archive._file = file.path, file
        return archive

    def _take(self, contents: ArchiveContents, path: Path) -> None:
        changed = list(differences(contents.search, self.search))
        if changed:
            more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
            raise ArchiveError(
                f"{path} belongs to another search ({'; '.join(changed[:5])}{more}); choose another results_csv_path "
                "to begin a new search, or delete this file and its CSV"
            )
        self._contexts, self._runs = contents.contexts, contents.runs
        self._records = {record.key: record for record in contents.records}

    @property
    def records(self) -> Sequence[Record]:
        """All measurements, in the order in which they were made."""
        return tuple(self._records.values())

    @property
    def contexts(self) -> Mapping[str, Mapping[str, Any]]:
        """What was measured on, by hash."""
        return dict(self._contexts)

    def add_context(self, context: Mapping[str, Any]) -> str:
        """Record what measurements are made on and return its hash; a context known already is not written again.

        Raises:
            ArchiveError: It is not plain JSON data, or the file cannot be written.
        """
        context = plain(context, "context")
        key = context_hash(context)
        if key not in self._contexts:
            self._write({"context": key, "measured_on": context})
            self._contexts[key] = context
        return key

    def begin_run(self, contexts: Mapping[str, str], reference: Mapping[str, float] | None) -> None:
        """Record what a run goes by, where that is not what the run before went by; see `ArchiveContents.runs`.

        Args:
            contexts: Hashes of contexts by objective.
            reference: The reference point of the hypervolume, if one is given.

        Raises:
            ArchiveError: The file cannot be written.
        """
        run = plain({"contexts": contexts, "reference": reference}, "run")
        if self._runs[-1:] != [run]:
            self._write({"run": run})
            self._runs.append(run)

    def get(self, architecture: Architecture, objective: str, context: str) -> Record | None:
        """Return the measurement or failure of a canonical architecture under a context's hash, if there is one."""
        return self._records.get((architecture, objective, context))

    def append(self, record: Record) -> None:
        """Add a record; when this returns, it is on the disk.

        Raises:
            ArchiveError: The context is unknown, or the file cannot be written; it still holds all earlier records.
        """
        if record.context not in self._contexts:
            raise ArchiveError(f"context {record.context!r} was not added to the archive before its first record")
        row = {"architecture": record.architecture.to_dict(), "objective": record.objective, "context": record.context}
        for name in ("value", "spread", "provenance", "error"):
            value = plain(getattr(record, name), f"{record.objective}: {name}")
            if value not in (None, {}):
                row[name] = value
        self._write({**row, "date": record.date})
        self._records[record.key] = record

    def _write(self, row: Mapping[str, Any]) -> None:
        if self._file is not None:
            if self._file.empty:
                self._file.append({"format": FORMAT, "version": VERSION, "search": self.search})
            self._file.append(row)
        elif self.path is not None:
            raise ArchiveError(f"the archive {self.path} is closed")

    def close(self) -> None:
        """Let go of the file, and remove it if nothing was written; a second call does nothing."""
        if self._file is not None:
            if self._file.empty:
                self._file.remove()
            self._file.close()
            self._file = None

    def __len__(self) -> int:
        return len(self._records)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def archive_path(results_csv_path: Path) -> Path:
    """Return the archive that lies beside a results table: `.jsonl` in place of `.csv`, or after another name."""
    path = results_csv_path
    return path.with_suffix(".jsonl") if path.suffix == ".csv" else path.with_name(path.name + ".jsonl")


class _AppendOnlyFile:
    """A file of JSON lines with one writer, in which a line is either whole or absent."""

    def __init__(self, path: Path) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, flags, 0o666)
        except OSError as error:
            raise ArchiveError(f"cannot open the archive {path} for writing: {error.strerror}") from error
        try:
            self._lock()
        except BaseException:
            self.close()
            raise

    def _lock(self) -> None:
        if sys.platform == "win32":
            return
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise ArchiveError(
                    f"the archive {self.path} is in use by another search; wait for its end, or choose another "
                    "results_csv_path"
                ) from error
            logger.warning("cannot lock %s (%s): do not run two searches on it at once", self.path, error.strerror)

    def load(self) -> ArchiveContents | None:
        """Return what the file holds, None if it was just made; a torn last line is cut off."""
        with open(self._fd, "rb", closefd=False) as stream:
            stream.seek(0)
            data = stream.read()
        contents, keep = parse_archive(data, str(self.path))
        if keep < len(data):
            logger.warning("%s: the last line is torn (%d bytes) and was removed", self.path, len(data) - keep)
            os.ftruncate(self._fd, keep)
        elif data and not data.endswith(b"\n"):
            self._write(b"\n")
        return contents

    @property
    def empty(self) -> bool:
        """Whether nothing is in the file."""
        return os.fstat(self._fd).st_size == 0

    def remove(self) -> None:
        """Take the file's name away, if it still has one."""
        self.path.unlink(missing_ok=True)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one line through to the disk, or leave the file as it was and raise `ArchiveError`."""
        if os.fstat(self._fd).st_nlink == 0:
            raise ArchiveError(f"the archive {self.path} was deleted while the search was using it")
        new = self.empty
        self._write(json.dumps(row, allow_nan=False).encode() + b"\n")
        if new:
            self._sync_folder()

    def _write(self, data: bytes) -> None:
        size = os.fstat(self._fd).st_size
        try:
            written = 0
            while written < len(data):
                written += os.write(self._fd, data[written:])
            os.fsync(self._fd)
        except BaseException as error:
            self._undo(size)
            if isinstance(error, OSError):
                raise ArchiveError(
                    f"cannot write to the archive {self.path}: {error.strerror}; all measurements before this one are "
                    "kept: mend that and start again to go on"
                ) from error
            raise

    def _undo(self, size: int) -> None:
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:  # the torn line is removed by the next opening
            logger.warning("%s: cannot remove a torn line: %s", self.path, error.strerror)

    def _sync_folder(self) -> None:
        """Make the file's name as durable as its content."""
        if sys.platform == "win32":
            return
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        os.close(self._fd)
