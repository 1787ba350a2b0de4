"""Whether exported files keep to the limits that their architecture was chosen by."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from nas_compress.constraints import Limit, limit_texts, parse_constraint
from nas_compress.objectives import objectives
from nas_compress.report.comparison import batch_and_threads, everywhere, plus_minus, speed_up
from nas_compress.tasks import QUALITIES

Entry = Mapping[str, Any]


def _quality(entry: Entry, name: str) -> tuple[float, float]:
    return entry[name]["value"], entry[name]["spread"] or 0.0


_FIGURES: Mapping[str, Callable[[Entry], tuple[float, float]]] = {
    **{quality.objective: partial(_quality, name=name) for name, quality in QUALITIES.items()},
    "latency": lambda entry: (entry["latency"]["median_ms"], entry["latency"]["error_ms"]),
    "macs": lambda entry: (entry["macs"], 0.0),
    "params": lambda entry: (entry["params"], 0.0),
}
"""The value and the standard error of a metric that an exported file has a figure for."""


def check_limits(
    constraints: Mapping[str, Limit], artefacts: Sequence[Entry], timed: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Check the limits of a `select` step again on what the exported files measured.

    Args:
        constraints: Limits by metric, as in a recipe.
        artefacts: Entries of `report.json`. The largest network, if there is one, is what relative limits refer to, and
            is not checked.
        timed: `backend`, `precision`, `threads` and `batch_size` that limits on latency are for; None for those of the
            entries.

    Returns:
        One row per limit and file. `value` and `spread` are in `unit`: `"x"`, times the largest network's value, where
        the limit is relative; `met` says whether the value keeps to the limit. It is None, and there is a `reason`,
        where files have no figure for the metric, or none under the conditions of the limit, or latencies are of two
        clocks. `clock` is that of a latency in ms.
    """
    return [row for name, text in limit_texts(constraints) for row in _check(name, text, artefacts, timed)]


def _check(
    name: str, text: str, artefacts: Sequence[Entry], timed: Mapping[str, Any] | None
) -> Iterator[dict[str, Any]]:
    name = objectives.canonical(name) if name in objectives else name
    row: dict[str, Any] = {"limit": f"{name} {text}", "metric": name, "met": None}
    if name not in _FIGURES:
        yield row | {"reason": f"exported files have no figure for {name}"}
        return
    constraint = parse_constraint(text, name=name, unit=objectives.entry(name).info["unit"])
    row["limit"] = str(constraint)
    wanted = timed if name == "latency" else None
    found = {entry["name"]: _measured_at(entry, wanted) for entry in artefacts}
    largest = next((file for file in found if file.split()[0] == "largest"), None)
    base = None if largest is None else found.pop(largest)
    if constraint.relative and (base is None or not _FIGURES[name](base)[0]):
        absent = "there is no largest network" if largest is None else f"{largest} was not measured at {_where(timed)}"
        yield row | {"reason": absent if base is None else "that of the largest is 0"}
        return
    for file, entry in found.items():
        if entry is None:
            yield row | {"artefact": file, "reason": f"{file} was not measured at {_where(timed)}"}
            continue
        figure = _against(name, entry, base) if constraint.relative and base is not None else _FIGURES[name](entry)
        if figure is None:
            reason = f"the latencies of {file} and {largest} are of two clocks, which do not compare"
            yield row | {"artefact": file, "reason": reason}
            continue
        value, spread = figure
        row |= {"clock": entry["latency"].get("clock", "wall")} if name == "latency" and not constraint.relative else {}
        unit, largest_value = ("x", {name: 1.0}) if constraint.relative else (constraint.unit, {})
        met = constraint.met(value, largest_value)
        yield row | {"artefact": file, "value": value, "spread": spread, "unit": unit, "met": met}


def _measured_at(entry: Entry, timed: Mapping[str, Any] | None) -> Entry | None:
    """Return an entry as it was measured under the conditions that are wanted; None where it was not."""
    if timed is None:
        return entry
    runs = ((at, {"precision": "fp32", **at["context"]}) for at in everywhere(entry))
    return next((at for at, how in runs if all(how[key] == timed[key] for key in timed)), None)


def _against(name: str, entry: Entry, base: Entry) -> tuple[float, float] | None:
    """Return a figure as a part of the largest network's; None for latencies of clocks that do not compare."""
    if name != "latency":
        return _ratio(_FIGURES[name](entry), _FIGURES[name](base))
    faster = speed_up(base, entry)
    return None if faster is None else _ratio((1.0, 0.0), faster[:2])


def _where(timed: Mapping[str, Any] | None) -> str:
    return f"{batch_and_threads(timed)}, {timed['precision']} in {timed['backend']}" if timed else ""


def _ratio(above: tuple[float, float], below: tuple[float, float]) -> tuple[float, float]:
    """Return the ratio of two independent values, given with their standard errors, and its own."""
    value = above[0] / below[0]
    return value, math.hypot(above[1], value * below[1]) / below[0]


def limit_sentence(row: Mapping[str, Any]) -> str:
    """Return a row of `check_limits` in words."""
    if row["met"] is None:
        return f"{row['limit']}: not checked, {row['reason']}"
    value, unit = row["value"], row["unit"]
    exact = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    figure = f"{plus_minus(value, row['spread']) if row['spread'] else exact} {unit}".rstrip()
    figure += "" if row.get("clock", "wall") == "wall" else f" ({row['clock']})"
    return f"{row['limit']}: {row['artefact']} {figure}, {'met' if row['met'] else 'NOT met'}"
