"""What the compressed network gained and lost against the one it came from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Entry = Mapping[str, Any]


def compare(artefact: Entry, reference: Entry) -> dict[str, Any]:
    """Return the ratios and differences between two measured artefacts.

    Args:
        artefact: An entry of `report.json`.
        reference: The entry it is held against.

    Returns:
        Factors above 1 where the artefact is better (`macs`, `size`, `latency` with its standard error), and the
        difference of accuracies in points with its standard error, treated as independent (an upper bound for
        networks that share images).
    """
    here, there = artefact["latency"], reference["latency"]
    speedup = there["median_ms"] / here["median_ms"]
    relative = math.hypot(here["error_ms"] / here["median_ms"], there["error_ms"] / there["median_ms"])
    own, other = artefact["accuracy"], reference["accuracy"]
    return {
        "artefact": artefact["name"],
        "reference": reference["name"],
        "macs": reference["macs"] / artefact["macs"],
        "size": reference["size_bytes"] / artefact["size_bytes"],
        "latency": {"value": speedup, "spread": speedup * relative},
        "accuracy": {
            "value": own["value"] - other["value"],
            "spread": math.hypot(own["spread"], other["spread"]),
            "unit": "points",
        },
    }


def sentence(comparison: Mapping[str, Any]) -> str:
    """Return a comparison in words."""
    speed, points = comparison["latency"], comparison["accuracy"]
    faster = f"{speed['value']:.2f} ± {speed['spread']:.2f} times"
    verb = "as fast" if speed["value"] >= 1 else "as fast (that is, slower)"
    return (
        f"{comparison['artefact']} against {comparison['reference']}: {faster} {verb}, "
        f"{comparison['macs']:.1f} times fewer MACs, {comparison['size']:.1f} times smaller file, "
        f"accuracy {points['value']:+.2f} ± {points['spread']:.2f} points."
    )
