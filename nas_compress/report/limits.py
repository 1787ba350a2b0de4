"""Whether exported files keep to the limits that their architecture was chosen by."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from nas_compress.constraints import Limit, limit_texts, parse_constraint
from nas_compress.objectives import objectives
from nas_compress.report.comparison import plus_minus
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


def check_limits(constraints: Mapping[str, Limit], artefacts: Sequence[Entry]) -> list[dict[str, Any]]:
    """Check the limits of a `select` step again on what the exported files measured.

    Args:
        constraints: Limits by metric, as in a recipe.
        artefacts: Entries of `report.json`; the first is the network that relative limits refer to, and is not checked.

    Returns:
        One row per limit and file. `value` and `spread` are in `unit`: `"x"`, times the first network's value, where
        the limit is relative; `met` says whether the value keeps to the limit. A metric that files have no figure for
        gives one row with `met` None and the `reason`.
    """
    return [row for name, text in limit_texts(constraints) for row in _check(name, text, artefacts)]


def _check(name: str, text: str, artefacts: Sequence[Entry]) -> Iterator[dict[str, Any]]:
    name = objectives.canonical(name) if name in objectives else name
    if name not in _FIGURES:
        reason = f"exported files have no figure for {name}"
        yield {"limit": f"{name} {text}", "metric": name, "met": None, "reason": reason}
        return
    constraint = parse_constraint(text, name=name, unit=objectives.entry(name).info["unit"])
    reference, *checked = artefacts
    base = _FIGURES[name](reference)
    if constraint.relative and not base[0]:
        yield {"limit": str(constraint), "metric": name, "met": None, "reason": f"that of {reference['name']} is 0"}
        return
    for entry in checked:
        value, spread = _FIGURES[name](entry)
        met = constraint.met(value, {name: base[0]})
        if constraint.relative:
            value, spread = _ratio((value, spread), base)
        yield {
            "limit": str(constraint),
            "metric": name,
            "artefact": entry["name"],
            "value": value,
            "spread": spread,
            "unit": "x" if constraint.relative else constraint.unit,
            "met": met,
        }


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
    return f"{row['limit']}: {row['artefact']} {figure}, {'met' if row['met'] else 'NOT met'}"
