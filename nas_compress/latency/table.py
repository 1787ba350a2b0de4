"""The file of a latency table: what was measured, one line a measurement, and on what.

It is an archive as searches keep them (`nas_compress.archive`): lines are only ever appended, one that a killed process
left torn is removed, and a second process is refused. Its records are blocks, `{"block": [key]}`, and whole
sub-networks, each measured in several sweeps. At the end of a build, a line says which space is now measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from nas_compress.archive import Archive
from nas_compress.errors import ArchiveError, ConfigError
from nas_compress.latency.coverage import Finished
from nas_compress.latency.drift import without_drift
from nas_compress.objectives.timing import LatencyStats
from nas_compress.records import ArchiveContents, Record, differences, plain, read_archive
from nas_compress.space import Architecture

KIND = "latency table"
BLOCK = "block"
EMPTY = "empty network"
"""The key of a network that does next to nothing: what a call costs by itself."""

FINISHED = "finished"


@dataclass(frozen=True)
class LatencyTable:
    """What a table holds, the machine's drift taken out.

    Attributes:
        conditions: The super-network, and what was measured on: backend, versions, hardware, threads, batch, precision.
        blocks: Milliseconds of each block run alone, by key.
        subnets: Milliseconds of whole sub-networks.
        empty_ms: Milliseconds of a network that does next to nothing.
        noise: Standard deviation of single measurements, as a part of the value; NaN if there was one sweep alone.
        fingerprint: Changes with any measurement.
        finished: What was measured to the end; none of it for a table that is unfinished.
    """

    conditions: Mapping[str, Any]
    blocks: Mapping[str, float]
    subnets: Mapping[Architecture, float]
    empty_ms: float
    noise: float
    fingerprint: str
    finished: tuple[Finished, ...] = ()


def read_table(path: Path) -> LatencyTable:
    """Return what a table holds; one that is being written, or was left unfinished, may be read.

    Raises:
        ConfigError: The file is missing, or is not a latency table.
        ArchiveError: It is damaged.
    """
    contents = _read(path)
    records = [record for record in contents.records if record.value is not None]
    if not records:
        raise ConfigError(f"{path} holds no measurement yet; build it with: nas-compress build-lut")
    numbers = {item: i for i, item in enumerate(dict.fromkeys(record.architecture for record in records))}
    items = np.array([numbers[record.architecture] for record in records])
    times, noise = without_drift(items, np.array([record.value for record in records]))
    ms = {item: float(times[i]) for item, i in numbers.items()}
    blocks = {str(item[BLOCK][0]): value for item, value in ms.items() if _is_block(item)}
    empty_ms = blocks.pop(EMPTY, 0.0)
    subnets = {item: value for item, value in ms.items() if not _is_block(item)}
    finished = tuple(Finished(**each[FINISHED]) for each in contents.contexts.values() if FINISHED in each)
    return LatencyTable(contents.search, blocks, subnets, empty_ms, noise, _fingerprint(records), finished)


def read_conditions(path: Path) -> Mapping[str, Any]:
    """Return what a table was measured on; see `read_table`."""
    return _read(path).search


def _read(path: Path) -> ArchiveContents:
    try:
        contents = read_archive(path.read_bytes(), str(path))
    except OSError as error:
        raise ConfigError(f"cannot read the latency table {path}: {error.strerror}") from None
    except ArchiveError as error:
        raise ArchiveError(f"{error} (a latency table is wanted)") from None
    if contents.search.get("kind") != KIND:
        raise ConfigError(f"{path} is the archive of a search; wants a table that nas-compress build-lut wrote")
    return contents


def _is_block(item: Architecture) -> bool:
    return list(item) == [BLOCK]


def _fingerprint(records: list[Record]) -> str:
    import hashlib

    text = "\n".join(f"{record.architecture} {record.objective} {record.value!r}" for record in records)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def check_table(path: Path, conditions: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a table describes conditions; raises as `TableFile` does if one that is there has others."""
    wanted: dict[str, Any] = plain({"kind": KIND, **conditions}, "conditions")
    if path.exists() and path.stat().st_size:
        changed = list(differences(_read(path).search, wanted))
        if changed:
            reason = "; ".join(changed[:5])
            raise ArchiveError(f"{path} was measured on something else ({reason}); give another path")
    return wanted


class TableFile:
    """A table that is being built: what it has already, and adding to it.

    Args:
        path: The file; begun if it is not there.
        conditions: The super-network, and what is measured on.

    Raises:
        ArchiveError: The file holds something else, was measured on something else, is damaged, in use, or cannot be
            written.
        ConfigError: It is the archive of a search.
    """

    def __init__(self, path: Path, conditions: Mapping[str, Any]) -> None:
        wanted = check_table(path, conditions)
        self._archive = Archive.open(path, wanted)
        self._context = self._archive.add_context(wanted)

    def has(self, item: Architecture, sweep: int) -> bool:
        """Return whether an item was measured in a sweep."""
        return self._archive.get(item, _name(sweep), self._context) is not None

    def add(self, item: Architecture, sweep: int, ms: float, stats: LatencyStats) -> None:
        """Write a measurement; when this returns, it is on the disk."""
        provenance = {"runs": stats.runs, "disturbed": stats.disturbed, "best_ms": stats.best_ms}
        self._archive.append(Record(item, _name(sweep), self._context, ms, stats.error_ms, provenance))

    def finish(self, what: Finished) -> None:
        """Write that all of a space is measured."""
        self._archive.add_context({"kind": KIND, FINISHED: asdict(what)})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()


def _name(sweep: int) -> str:
    return f"latency, sweep {sweep}"


def block_item(key: str) -> Architecture:
    """Return what stands for a block in a table."""
    return Architecture({BLOCK: key})
