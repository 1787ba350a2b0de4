"""What a search's archive holds, line by line: measurements, and what they were measured on."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from nas_compress.errors import ArchitectureError, ArchiveError, first_line
from nas_compress.space import Architecture

FORMAT = "nas_compress archive"
VERSION = 1
_OPENING = json.dumps({"format": FORMAT})[:-1].encode()
"""How every archive begins."""

Key = tuple[Architecture, str, str]


def _now() -> str:
    return datetime.now(UTC).isoformat(sep=" ", timespec="milliseconds")


FINALIST = "finalist"
"""In the provenance of what was measured after a search that went by predictions, and is no part of it."""


@dataclass(frozen=True)
class Record:
    """One measurement, or one failure to measure.

    Attributes:
        architecture: In canonical form.
        objective: The objective's name.
        context: Hash of what it was measured on, as `Archive.add_context` returns it.
        value: In the objective's unit; None if it failed.
        spread: Uncertainty of the value in the same unit; None if it is exact or unknown.
        provenance: How this value came about.
        error: Why it failed, else None.
        date: Date and time in UTC.
    """

    architecture: Architecture
    objective: str
    context: str
    value: float | None = None
    spread: float | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    date: str = field(default_factory=_now)

    def __post_init__(self) -> None:
        if (self.value is None) == (self.error is None):
            raise ArchiveError(f"a record of {self.objective} wants either a value or an error")
        if self.value is not None and not math.isfinite(self.value):
            raise ArchiveError(f"{self.objective} = {self.value} cannot be recorded as a value; record an error")

    @property
    def key(self) -> Key:
        """What identifies the measurement."""
        return self.architecture, self.objective, self.context


@dataclass(frozen=True)
class ArchiveContents:
    """What an archive holds.

    Attributes:
        search: What the search was, as it was given when the archive was made.
        contexts: What was measured on, by hash.
        records: The measurements in the order in which they were made.
        runs: What each run went by that did not go by the same as the one before: `contexts`, the hash of a context by
            objective, and the `reference` point of the hypervolume, None where none was given.
    """

    search: Mapping[str, Any]
    contexts: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    runs: list[Mapping[str, Any]] = field(default_factory=list)

    def latest(self) -> dict[Architecture, dict[str, Record]]:
        """Return records by architecture and objective, in order, those in the context of each objective's last run.

        What was measured after a search on predictions is left out, and so are failures under other conditions.
        """
        last = {record.objective: record.context for record in self.records if FINALIST not in record.provenance}
        for run in self.runs:
            last |= run["contexts"]
        found: dict[Architecture, dict[str, Record]] = {}
        for record in self.records:
            by_name = found.setdefault(record.architecture, {})
            if record.context == last.get(record.objective):
                by_name[record.objective] = record
        return found


def plain(value: object, where: str) -> Any:
    """Return `value` as JSON data; numbers that are not finite become None.

    Args:
        value: Mappings, lists, tuples, strings, numbers (of numpy too), paths, None.
        where: What the value is, for the message.

    Raises:
        ArchiveError: It holds something else.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise ArchiveError(f"{where} is of type {type(value).__name__}, which cannot be recorded; want plain JSON data")


def context_hash(context: Mapping[str, Any]) -> str:
    """Return 12 hexadecimal digits that are equal for equal contexts, whatever the order of their keys."""
    text = json.dumps(plain(context, "context"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield one text per field in which two records of plain data differ."""
    for key in dict.fromkeys([*before, *now]):
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from differences(old, new, f"{prefix}{key}.")
        elif old != new or (key in before) != (key in now):
            texts = [_short(side[key]) if key in side else "not set" for side in (before, now)]
            yield f"{prefix}{key}: {texts[0]} there, {texts[1]} now"


def _short(value: object, limit: int = 60) -> str:
    text = json.dumps(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def read_archive(data: bytes, name: str) -> ArchiveContents:
    """Read an archive's bytes without changing the file; a torn last line is left out.

    Args:
        data: The file's content.
        name: What to call the file in messages.

    Raises:
        ArchiveError: This is not an archive, or a line of it is damaged; the message gives the line's number.
    """
    contents, _ = parse_archive(data, name)
    if contents is None:
        raise ArchiveError(f"{name} is not a {FORMAT}: it is empty")
    return contents


def is_archive(data: bytes) -> bool:
    """Return whether a file's bytes begin as those of an archive."""
    return data.startswith(_OPENING)


def parse_archive(data: bytes, name: str) -> tuple[ArchiveContents | None, int]:
    """Return what whole lines hold (None if there is no header yet) and how many bytes they take.

    Args:
        data: The file's content; what follows its last whole line is not looked at.
        name: What to call the file in messages.

    Raises:
        ArchiveError: This is not an archive, or a whole line of it is damaged.
    """
    *lines, tail = data.split(b"\n")
    if tail and _is_whole(tail):
        lines.append(tail)
        tail = b""
    if not lines:
        if not (is_archive(tail) or _OPENING.startswith(tail)):
            raise ArchiveError(f"{name} is not a {FORMAT}; choose another path")
        return None, 0
    contents = ArchiveContents(_read_header(lines[0], name))
    for number, line in enumerate(lines[1:], start=2):
        try:
            _read_line(line, contents)
        except _DAMAGE as error:
            reason = f"no field {error}" if isinstance(error, KeyError) else first_line(error)
            raise ArchiveError(
                f"{name}, line {number} is damaged ({reason}); restore the file, or delete the line to measure it again"
            ) from error
    return contents, len(data) - len(tail)


_DAMAGE = (ValueError, KeyError, TypeError, AttributeError, RecursionError, ArchitectureError, ArchiveError)
"""What reading a line raises where it is not as it was written."""


def _is_whole(tail: bytes) -> bool:
    """Return whether a last line lacks nothing but its line end (no JSON object is the start of another)."""
    try:
        return isinstance(json.loads(tail), dict)
    except (ValueError, RecursionError):
        return False


def _read_header(line: bytes, name: str) -> Mapping[str, Any]:
    try:
        header = json.loads(line) if is_archive(line) else None
        if header is None or not isinstance(header["search"], dict):
            raise ArchiveError(f"{name} is not a {FORMAT}; choose another path")
        version = header["version"]
    except (ValueError, KeyError, RecursionError) as error:
        raise ArchiveError(f"{name}, line 1 is damaged ({error}); restore the file, or choose another path") from error
    if version != VERSION:
        raise ArchiveError(f"{name} has format version {version!r}; this version of nas_compress reads {VERSION}")
    search: Mapping[str, Any] = header["search"]
    return search


_NUMBER = int | float | None
_KINDS: Mapping[str, Any] = dict(
    objective=str, value=_NUMBER, spread=_NUMBER, provenance=Mapping, error=str | None, date=str
)
"""The types of a record's fields."""


def _read_line(line: bytes, contents: ArchiveContents) -> None:
    row = json.loads(line)
    if "measured_on" in row:
        if context_hash(row["measured_on"]) != row["context"]:
            raise ValueError("the context was changed")
        contents.contexts[row["context"]] = row["measured_on"]
        return
    if "run" in row:
        if stray := [key for key in row["run"]["contexts"].values() if key not in contents.contexts]:
            raise ValueError(f"context {stray[0]!r} is not in the file")
        reference = row["run"]["reference"]
        if reference is not None and not all(isinstance(value, int | float) for value in reference.values()):
            raise ValueError(f"reference is {reference!r}")
        contents.runs.append(row["run"])
        return
    if row["context"] not in contents.contexts:
        raise ValueError(f"context {row['context']!r} is not in the file")
    row["architecture"] = Architecture(row["architecture"])
    record = Record(**row)
    for name, kinds in _KINDS.items():
        if not isinstance(getattr(record, name), kinds):
            raise ValueError(f"{name} is {getattr(record, name)!r}")
    contents.records.append(record)
