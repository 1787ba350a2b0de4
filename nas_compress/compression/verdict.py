"""Measuring the chosen network before and after a step, and holding that against the step's conditions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nas_compress.compression.state import CHOSEN
from nas_compress.errors import EvaluationError
from nas_compress.objectives.config import TimingConfig
from nas_compress.recipe.conditions import Condition, Figures, parse_condition
from nas_compress.report.comparison import comparable
from nas_compress.tasks import quality_of

if TYPE_CHECKING:
    from nas_compress.compression.state import State

Measured = dict[str, dict[str, Any]]
"""What files measured, `ArtefactFigures.to_dict` by name; of a step, `"before"` and `"after"` it."""


def measure(
    state: State,
    files: Mapping[str, tuple[Path, str]],
    part: Literal["val", "test"],
    runs: Sequence[tuple[int, int]],
    timing: TimingConfig,
    eval_batch_size: int = 64,
) -> Measured:
    """Measure deployable files on a part of the recipe's data, their latencies in turns.

    Args:
        state: Has the data, and what runs the files.
        files: By name, the file, and of which network it is.
        part: `"val"` within the recipe, `"test"` for the final figures.
        runs: Batch sizes and numbers of threads to measure latency at. Those of the first pair are a file's `latency`
            and `context`, those of the others are in its list `elsewhere`.
        timing: How latency is measured otherwise.
        eval_batch_size: Examples per run for quality.
    """
    from nas_compress.compression.benchmark import Deployed, measure_files, time_files

    domain, settings = state.domain, timing.settings()

    def deployed(batch_size: int) -> dict[str, Deployed]:
        return {name: one(path, role, batch_size) for name, (path, role) in files.items()}

    def one(path: Path, role: str, batch_size: int) -> Deployed:
        score = partial(domain.quality, part=part, size=state.resolution(role), batch_size=eval_batch_size)
        example = domain.example(state.supernet, state.architecture(role), part, batch_size)
        return Deployed(path, score, example, state.network(role, path) if path.suffix == ".safetensors" else None)

    (batch_size, threads), *others = runs
    found = measure_files(deployed(batch_size), domain.task.quality, threads=threads, settings=settings)
    measured = {name: figures.to_dict() for name, figures in found.items()}
    for batch_size, threads in others:
        for name, timed in time_files(deployed(batch_size), threads=threads, settings=settings).items():
            measured[name].setdefault("elsewhere", []).append(timed.to_dict())
    return measured


def measure_pair(state: State, before: tuple[Path, str], after: tuple[Path, str]) -> Measured:
    """Measure two files, each with what network it is of, on the search-validation part, in the recipe's `latency`."""
    how = state.recipe.latency
    return measure(state, {"before": before, "after": after}, "val", [(how.batch_size, how.threads)], how)


def measure_change(state: State, before: Path, after: Path) -> Measured:
    """Measure the chosen network's files before and after a step."""
    return measure_pair(state, (before, CHOSEN), (after, CHOSEN))


def worse(measured: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether the network after a step is worse than before by more than its standard error."""
    before, after = measured["before"], measured["after"]
    quality = quality_of(after)
    figure = after[quality.name]
    return quality.lost(before[quality.name]["value"], figure["value"]) > (figure["spread"] or 0)


def broken(conditions: Iterable[str], measured: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the first condition that holds, with its figure, as a reason in words; None where none does.

    Raises:
        EvaluationError: A condition compares latencies, and the machine was too busy for ones that compare.
    """
    for condition in map(parse_condition, conditions):
        before, after = _figures(measured, condition)
        if condition.holds(before, after):
            return f"{condition.text}: {_shown(condition, condition.value(before, after))}"
    return None


def _figures(measured: Mapping[str, Mapping[str, Any]], condition: Condition) -> tuple[Figures, Figures]:
    """Return the figures before and after a step, for a condition."""
    before, after = measured["before"], measured["after"]
    key = comparable(before, after) if condition.figure == "speed-up" else "median_ms"
    if key is None:
        clocks = " and ".join(f"{each['latency']['clock']} time" for each in (before, after))
        reason = f"latencies before and after the step are {clocks}, which do not compare: the machine was too busy"
        raise EvaluationError(f"{condition.text!r} cannot be judged: {reason}; start again to measure again")
    quality = quality_of(after).name
    first, then = (Figures(e[quality]["value"], e["latency"][key], e["size_bytes"]) for e in (before, after))
    return first, then


def _shown(condition: Condition, value: float) -> str:
    if (quality := condition.quality) is not None:
        return f"{value:.2f} {quality.unit if condition.figure == quality.name else 'points'}".rstrip()
    texts = {
        "latency": f"{value:.4g} ms",
        "size": f"{value / 1e3:,.1f} kB",
        "speed-up": f"{value:.3g} times as fast",
        "size ratio": f"{value:.3g} times the size",
    }
    return texts[condition.figure]
