"""Replay problems: searches whose values come from published tables, to choose a search's settings in seconds.

Importing this package and listing its names reads no table and imports nothing heavy.
"""

from __future__ import annotations

from pathlib import Path

from nas_compress.registry import Entry, Registry
from nas_compress.replay import catalog
from nas_compress.replay.base import Replay
from nas_compress.replay.catalog import Description


def _entry(description: Description, target: str) -> tuple[str, Entry]:
    return description.name, Entry(f"{__name__}.{target}", description.summary, {"description": description})


replays: Registry[type[Replay]] = Registry(
    "replay problem",
    dict(
        [
            _entry(catalog.NAS_BENCH_201, "nas_bench:NasBench201"),
            _entry(catalog.NAS_BENCH_MACRO, "nas_bench:NasBenchMacro"),
            _entry(catalog.OFA_MBV3, "ofa_mbv3:OfaMobileNetV3"),
            _entry(catalog.OFA_MBV3_W1_2, "ofa_mbv3:OfaMobileNetV3Phone"),
            _entry(catalog.OFA_MBV3_MEASURED, "ofa_mbv3:OfaMobileNetV3Measured"),
            _entry(catalog.BERT_SST2, "bert_sst2:BertSst2"),
        ]
    ),
)
"""The problems by name; `Entry.info` holds the `Description` under `"description"`."""


def load_replay(name: str, folder: str | Path) -> Replay:
    """Return a problem.

    Args:
        name: A name in `replays`.
        folder: The folder of published tables.

    Raises:
        UnknownNameError: No problem has this name.
        DataError: A file is missing or damaged; the message names it.
    """
    return replays.get(name)(folder)


__all__ = ["Description", "Replay", "load_replay", "replays"]
