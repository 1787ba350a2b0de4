"""What the compressed network gained and lost against the one it came from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nas_compress.tasks import quality_of

Entry = Mapping[str, Any]


def everywhere(entry: Entry) -> list[Entry]:
    """Return an entry of `report.json` once for each batch size and number of threads that it was measured at."""
    return [entry, *({**entry, **timed} for timed in entry.get("elsewhere", ()))]


def batch_and_threads(context: Entry) -> str:
    """Return batch size and threads of a context, in words."""
    threads = context["threads"]
    return f"batch {context['batch_size']}, {threads} thread{'s' if threads > 1 else ''}"


def compare(artefact: Entry, reference: Entry) -> dict[str, Any]:
    """Return the ratios and differences between two measured artefacts.

    Args:
        artefact: An entry of `report.json`.
        reference: The entry it is held against.

    Returns:
        Factors above 1 where the artefact is better (`macs`, `size`, `latency` with its standard error), and the
        difference of accuracies in points with its standard error, treated as independent (an upper bound for networks
        that share examples); with other tasks it is that of `metric`, and has its name. `latency` is that of the first
        batch size and number of threads, `latencies` has it for all. `backends` and `clocks` are those of `latency`.
    """
    latencies = [_speedup(*pair) for pair in zip(everywhere(artefact), everywhere(reference), strict=True)]
    metric = quality_of(artefact).name
    own, other = artefact[metric], reference[metric]
    return {
        "artefact": artefact["name"],
        "reference": reference["name"],
        "backends": [artefact["context"]["backend"], reference["context"]["backend"]],
        "macs": reference["macs"] / artefact["macs"],
        "size": reference["size_bytes"] / artefact["size_bytes"],
        "latency": {name: latencies[0][name] for name in ("value", "spread", "clock")},
        "latencies": latencies,
        "metric": metric,
        metric: {
            "value": own["value"] - other["value"],
            "spread": math.hypot(own["spread"] or 0, other["spread"] or 0),
            "unit": "points",
        },
    }


def _speedup(artefact: Entry, reference: Entry) -> dict[str, Any]:
    value, spread, clock = speed_up(reference, artefact) or (None, None, None)
    at = {name: artefact["context"][name] for name in ("batch_size", "threads")}
    return {"value": value, "spread": spread, "clock": clock, **at}


def compare_all(artefacts: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return the comparisons of a report: all artefacts with the first, then quantized with fp32 ones.

    Args:
        artefacts: Entries of `report.json`.
    """
    first, *others = artefacts
    compared = [compare(entry, first) for entry in others]
    plain = [entry for entry in others if entry["name"] == "chosen fp32"]
    quantized = [entry for entry in others if entry["name"].startswith("chosen ") and entry not in plain]
    return compared + [compare(entry, reference) for reference in plain for entry in quantized]


def comparable(before: Entry, after: Entry) -> str | None:
    """Return which of their latencies says how much faster one network is than another.

    Args:
        before: A measured network.
        after: Another, measured in turns with it.

    Returns:
        `"median_ms"` where both are of one clock, else `"cpu_ms"`, which with one thread is the time that an idle
        machine would need; None with several threads.
    """
    if before["latency"]["clock"] == after["latency"]["clock"]:
        return "median_ms"
    return "cpu_ms" if after["context"]["threads"] == 1 else None


def speed_up(before: Entry, after: Entry) -> tuple[float, float, str] | None:
    """Return how many times as fast a network is as the one before, with its standard error, and by which clock.

    Args:
        before: A measured network.
        after: Another, measured in turns with it.

    Returns:
        None where their latencies are of clocks that do not compare: see `comparable`.
    """
    key = comparable(before, after)
    if key is None:
        return None
    first, then = before["latency"], after["latency"]
    value = first[key] / then[key]
    relative = math.hypot(*(each["error_ms"] / each["median_ms"] for each in (first, then)))
    return value, value * relative, then["clock"] if key == "median_ms" else "cpu"


def latency_text(latency: Mapping[str, Any]) -> str:
    """Return a latency in ms, marked with its clock where that is not the wall time of undisturbed runs."""
    mark = "" if latency["clock"] == "wall" else f" ({latency['clock']})"
    return f"{latency['median_ms']:.4f} ± {latency['error_ms']:.4f}{mark}"


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
    points, several = comparison[quality.name], len(comparison["latencies"]) > 1
    parts = [
        *(_faster(latency) + f" at {batch_and_threads(latency)}" * several for latency in comparison["latencies"]),
        _times(comparison["macs"], ("fewer MACs", "more MACs"), ("the same MACs", "about the same MACs")),
        _times(
            comparison["size"],
            ("smaller file", "larger file"),
            ("a file of the same size", "a file of about the same size"),
        ),
        f"{quality.title} {points['value']:+.2f} ± {points['spread']:.2f} points",
    ]
    return f"{_named(comparison, 0)} against {_named(comparison, 1)}: {', '.join(parts)}."


def _faster(latency: Mapping[str, Any]) -> str:
    if latency["value"] is None:
        return "latencies of two clocks, which do not compare"
    slower = " (slower)" if latency["value"] < 1 else ""
    clock = "" if latency["clock"] == "wall" else f" in {latency['clock']} time"
    return f"{plus_minus(latency['value'], latency['spread'])} times as fast{slower}{clock}"


def _named(comparison: Mapping[str, Any], side: int) -> str:
    """Return the name of one side, with its backend where it is not that of the other."""
    name, backend = comparison[("artefact", "reference")[side]], comparison["backends"][side]
    return f"{name} ({backend})" if len(set(comparison["backends"])) > 1 else str(name)


def _times(ratio: float, words: tuple[str, str], same: tuple[str, str]) -> str:
    """Return a ratio to one decimal, in words for better and for worse, or for exactly and for about the same."""
    times = f"{max(ratio, 1 / ratio):.1f}"
    if times == "1.0":
        return same[ratio != 1]
    return f"{times} times {words[ratio < 1]}"
