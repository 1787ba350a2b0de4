"""What the compressed network gained and lost against the one it came from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nas_compress.tasks import quality_of

Entry = Mapping[str, Any]


def compare(artefact: Entry, reference: Entry) -> dict[str, Any]:
    """Return the ratios and differences between two measured artefacts.

    Args:
        artefact: An entry of `report.json`.
        reference: The entry it is held against.

    Returns:
        Factors above 1 where the artefact is better (`macs`, `size`, `latency` with its standard error), and the
        difference of accuracies in points with its standard error, treated as independent (an upper bound for networks
        that share examples); with other tasks it is that of `metric`, and has its name. `backends` and `clocks` are
        those of the two latencies.
    """
    here, there = artefact["latency"], reference["latency"]
    speedup = there["median_ms"] / here["median_ms"]
    relative = math.hypot(here["error_ms"] / here["median_ms"], there["error_ms"] / there["median_ms"])
    metric = quality_of(artefact).name
    own, other = artefact[metric], reference[metric]
    return {
        "artefact": artefact["name"],
        "reference": reference["name"],
        "backends": [artefact["context"]["backend"], reference["context"]["backend"]],
        "clocks": [here["clock"], there["clock"]],
        "macs": reference["macs"] / artefact["macs"],
        "size": reference["size_bytes"] / artefact["size_bytes"],
        "latency": {"value": speedup, "spread": speedup * relative},
        "metric": metric,
        metric: {
            "value": own["value"] - other["value"],
            "spread": math.hypot(own["spread"] or 0, other["spread"] or 0),
            "unit": "points",
        },
    }


def compare_all(artefacts: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return the comparisons of a report: all artefacts with the first, then int8 with fp32 (whether int8 pays).

    Args:
        artefacts: Entries of `report.json`.
    """
    first, *others = artefacts
    compared = [compare(entry, first) for entry in others]
    by_name = {entry["name"]: entry for entry in others}
    if "chosen int8" in by_name and "chosen fp32" in by_name:
        compared.append(compare(by_name["chosen int8"], by_name["chosen fp32"]))
    return compared


def plus_minus(value: float, spread: float) -> str:
    """Return a value and its standard error to two decimals, or to as many more as it takes to show the error."""
    decimals = max(2, -math.floor(math.log10(spread))) if spread > 0 else 2
    return f"{value:,.{decimals}f} ± {spread:,.{decimals}f}"


def figure(value: float, spread: float | None) -> str:
    """Return a figure of quality to two decimals, with its standard error where it has one."""
    return f"{value:.2f}" if spread is None else f"{value:.2f} ± {spread:.2f}"


def sentence(comparison: Mapping[str, Any]) -> str:
    """Return a comparison in words."""
    quality = quality_of(comparison)
    speed, points = comparison["latency"], comparison[quality.name]
    parts = [
        f"{plus_minus(**speed)} times as fast{' (slower)' if speed['value'] < 1 else ''}",
        _times(comparison["macs"], ("fewer MACs", "more MACs"), ("the same MACs", "about the same MACs")),
        _times(
            comparison["size"],
            ("smaller file", "larger file"),
            ("a file of the same size", "a file of about the same size"),
        ),
        f"{quality.title} {points['value']:+.2f} ± {points['spread']:.2f} points",
    ]
    return f"{_named(comparison, 0)} against {_named(comparison, 1)}: {', '.join(parts)}."


def _named(comparison: Mapping[str, Any], side: int) -> str:
    """Return the name of one side, with its backend and its clock where they are not those of the other."""
    name = comparison[("artefact", "reference")[side]]
    told = [comparison["backends"][side]] if len(set(comparison["backends"])) > 1 else []
    told += [f"{comparison['clocks'][side]} time"] if len(set(comparison["clocks"])) > 1 else []
    return f"{name} ({', '.join(told)})" if told else str(name)


def _times(ratio: float, words: tuple[str, str], same: tuple[str, str]) -> str:
    """Return a ratio to one decimal, in words for better and for worse, or for exactly and for about the same."""
    times = f"{max(ratio, 1 / ratio):.1f}"
    if times == "1.0":
        return same[ratio != 1]
    return f"{times} times {words[ratio < 1]}"
