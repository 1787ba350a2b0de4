"""Measuring the chosen network before and after a step, and holding that against the step's conditions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_compress.recipe.conditions import Condition, Figures, parse_condition

if TYPE_CHECKING:
    from nas_compress.compression.state import State

Measured = dict[str, dict[str, Any]]
"""What the network before and after a step measured, `ArtefactFigures.to_dict` by `"before"` and `"after"`."""


def measure_change(state: State, before: tuple[Path, int], after: tuple[Path, int]) -> Measured:
    """Measure two deployable files on the search-validation images, their latencies in turns.

    Args:
        state: Has the data, and how latency is measured.
        before: A file, and the height and width in pixels that it takes.
        after: Another.
    """
    from nas_compress.compression.benchmark import Artefact, measure_artefacts

    latency = state.recipe.latency
    figures = measure_artefacts(
        {"before": Artefact(*before), "after": Artefact(*after)},
        state.data.val,
        threads=latency.threads,
        settings=latency.settings(),
    )
    return {name: each.to_dict() for name, each in figures.items()}


def broken(conditions: Iterable[str], measured: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the first condition that holds, with its figure, as a reason in words; None where none does."""
    before, after = (_figures(measured[name]) for name in ("before", "after"))
    for condition in map(parse_condition, conditions):
        if condition.holds(before, after):
            return f"{condition.text}: {_shown(condition, condition.value(before, after))}"
    return None


def _figures(entry: Mapping[str, Any]) -> Figures:
    return Figures(entry["accuracy"]["value"], entry["latency"]["median_ms"], entry["size_bytes"])


def _shown(condition: Condition, value: float) -> str:
    texts = {
        "accuracy": f"{value:.2f} %",
        "accuracy drop": f"{value:.2f} points",
        "latency": f"{value:.4g} ms",
        "size": f"{value / 1e3:,.1f} kB",
        "speed-up": f"{value:.3g} times as fast",
        "size ratio": f"{value:.3g} times the size",
    }
    return texts[condition.figure]
