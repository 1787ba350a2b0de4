"""What each step of a recipe did to the network: quality, size and latency before and after it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nas_compress.report.comparison import figure, latency_text, plus_minus, speed_up
from nas_compress.report.conditions import CLOCKS, backend_text, measured_on
from nas_compress.tasks import Quality, quality_of

if TYPE_CHECKING:
    import pandas as pd

Entry = Mapping[str, Any]


def step_headers(outcomes: Mapping[str, Entry]) -> tuple[str, ...]:
    """Return the headers of `steps_rows`."""
    return ("after", _quality(outcomes).header, "file (kB)", "latency (ms)", "times as fast as before it", "")


def steps_table(outcomes: Mapping[str, Entry]) -> pd.DataFrame:
    """Return a row per network that a step made, the largest sub-network first.

    Columns: `step`; `accuracy` on search-validation images in % and `accuracy_error` (with other tasks `f1`, `bleu` or
    `wer`, and its error); `size` of the file in bytes;
    `latency` of one run in ms and `latency_error`, its `clock` (see `CLOCKS`), `backend`; `speed_up` over the network
    before the step, measured in turns with it, and `speed_up_error`, None where the clocks of the two do not compare;
    `note`, which says why a step's network was dropped. Errors are standard errors.

    Args:
        outcomes: What each step came to, by its label.
    """
    import pandas as pd

    return pd.DataFrame(list(_rows(outcomes)))


def _rows(outcomes: Mapping[str, Entry]) -> Iterator[dict[str, Any]]:
    for label, outcome in outcomes.items():
        if "measured" not in outcome:
            continue
        before, after = outcome["measured"]["before"], outcome["measured"]["after"]
        if label == "select":
            yield {"step": "largest", **_figures(before), **_speed_up(before, None), "note": ""}
        yield {"step": label, **_figures(after), **_speed_up(before, after), "note": _note(outcome)}


def _speed_up(before: Entry, after: Entry | None) -> dict[str, Any]:
    value, error, _ = (None if after is None else speed_up(before, after)) or (None, None, None)
    return {"speed_up": value, "speed_up_error": error}


def _quality(outcomes: Mapping[str, Entry]) -> Quality:
    """Return what the figure of quality of the steps is."""
    return quality_of(next((o["measured"]["after"] for o in outcomes.values() if "measured" in o), {}))


def _figures(entry: Entry) -> dict[str, Any]:
    metric = quality_of(entry).name
    return {
        metric: entry[metric]["value"],
        f"{metric}_error": entry[metric]["spread"],
        "size": entry["size_bytes"],
        "latency": entry["latency"]["median_ms"],
        "latency_error": entry["latency"]["error_ms"],
        "clock": entry["latency"]["clock"],
        "backend": entry["context"]["backend"],
    }


def _note(outcome: Entry) -> str:
    """Return what became of a step's network, where it is not plain."""
    notes = []
    if "tuning" in outcome:
        tuning = outcome["tuning"]
        kept = f"{len(tuning['fp32_layers'])} layers stay in fp32" if tuning["fp32_layers"] else "all layers"
        held = f"criterion held ({kept}, " if tuning["accepted"] else "criterion cannot be met ("
        notes.append(f"accuracy {held}{len(tuning['trials'])} trials)")
    if outcome.get("sparsity") == 0:
        notes.append("nothing was removed")
    if outcome.get("kept") == "before":
        notes.append("training did not help: the weights before it are kept")
    if "dropped" in outcome:
        notes.append(f"{'stopped' if outcome['stops'] else 'dropped'}, {outcome['dropped']}")
    return "; ".join(notes)


def steps_rows(outcomes: Mapping[str, Entry]) -> list[tuple[str, ...]]:
    """Return the table's rows as texts, for `step_headers`."""
    metric = _quality(outcomes).name
    return [
        (
            row["step"],
            figure(row[metric], row[f"{metric}_error"]),
            f"{row['size'] / 1e3:,.1f}",
            latency_text({"median_ms": row["latency"], "error_ms": row["latency_error"], "clock": row["clock"]}),
            plus_minus(row["speed_up"], row["speed_up_error"]) if row["speed_up"] else "",
            row["note"],
        )
        for row in _rows(outcomes)
    ]


def step_conditions(outcomes: Mapping[str, Entry]) -> list[str]:
    """Return what the figures were measured on, in words."""
    entries = [outcome["measured"]["after"] for outcome in outcomes.values() if "measured" in outcome]
    if not entries:
        return []
    title, count, counted = measured_on(entries[0])
    where = dict.fromkeys(backend_text(entry["context"]) for entry in entries)
    clocks = dict.fromkeys(row["clock"] for row in _rows(outcomes) if row["clock"] != "wall")
    return [
        f"{title}: {count} search-validation {counted}, ± one standard error. Latency: median ± one standard error, "
        f"each network in turns with the one before it; {'; '.join(where)}.",
        *(f"Latency ({clock}): {CLOCKS[clock]}." for clock in clocks),
    ]
