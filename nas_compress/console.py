"""What the command line prints: tables on standard output, progress, warnings and errors on standard error."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

if TYPE_CHECKING:
    from nas_compress.analysis import PredictorAnalysis
    from nas_compress.objectives.base import Measurement, Objective
    from nas_compress.pipeline import CompressionResult, StepProgress
    from nas_compress.result import SearchResult
    from nas_compress.search import Trial
    from nas_compress.search.popdb import PopDB
    from nas_compress.study import StudyProgress

PIPED_WIDTH = 160
"""Columns of tables that go to a file or another program, where a terminal's 80 would break lines."""

LINE_SECONDS = 10.0
"""Seconds between two lines of progress where there is no terminal."""

_out = Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
_err = Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """Print a line of plain text."""
    _out.print(text, markup=False, soft_wrap=True)


def complain(text: str) -> None:
    """Print a message on standard error."""
    _err.print(text, markup=False, soft_wrap=True)


def set_up_logging(level: int) -> None:
    """Send the package's log records of a level and above to standard error."""
    handler = RichHandler(console=_err, show_path=False, show_time=False, markup=False)
    logger = logging.getLogger("nas_compress")
    logger.handlers = [handler]
    logger.setLevel(level)
    logger.propagate = False


def show_names(title: str, names: Mapping[str, str]) -> None:
    """Print names with a line each."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for name, summary in names.items():
        table.add_row(f"  {name}", summary)
    _out.print(table, markup=False)
    _out.print()


@contextmanager
def search_progress() -> Iterator[Callable[[StudyProgress], None]]:
    """Show how far a search is; yields the callback to give to it."""
    with _progress() as update:
        yield lambda p: update("search", p.done, p.total, p.note)


@contextmanager
def recipe_progress() -> Iterator[Callable[[StepProgress], None]]:
    """Show how far each step of a recipe is; yields the callback to give to the pipeline."""
    with _progress() as update:
        yield lambda p: update(p.step, p.done, p.total, p.note)


@contextmanager
def analysis_progress() -> Iterator[Callable[[int, int, str], None]]:
    """Show how far an analysis of predictors is; yields the callback to give to it."""
    with _progress() as update:
        yield lambda done, total, note: update("predictors", done, total, note)


@contextmanager
def table_progress() -> Iterator[Callable[[int, int, str], None]]:
    """Show how far a latency table is; yields the callback to give to what builds it."""
    with _progress() as update:
        yield lambda done, total, note: update("latency table", done, total, note)


Update = Callable[[str, float, float, str], None]
"""Takes a task's name, the work done, the work in all, and a few words on where it stands."""


@contextmanager
def _progress() -> Iterator[Update]:
    """Show a bar per task on a terminal, and a line now and then elsewhere (a log file, CI)."""
    if not _err.is_terminal:
        yield _lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=_err) as bars:
        tasks: dict[str, TaskID] = {}

        def update(name: str, done: float, total: float, note: str) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total, note="")
            bars.update(tasks[name], completed=done, total=total, note=note)

        yield update


def _lines() -> Update:
    """Return a callback that prints when a task begins or ends, and every `LINE_SECONDS` with the time left."""
    started: dict[str, tuple[float, float]] = {}
    last = [float("-inf")]

    def update(name: str, done: float, total: float, note: str) -> None:
        now = time.monotonic()
        begins, ends = name not in started, done >= total
        began, before = started.setdefault(name, (now, done))
        if not (begins or ends or now >= last[0] + LINE_SECONDS):
            return
        last[0] = now
        spent = now - began
        left = f", {spent * (total - done) / (done - before):.0f} s left" if before < done < total else ""
        complain(f"{name}: {note or 'begun'} ({spent:.0f} s{left})")

    return update


def _number(value: float) -> str:
    return f"{value:,.0f}" if value.is_integer() or abs(value) >= 1e6 else f"{value:,.5g}"


def _value(trial: Trial, name: str) -> str:
    from nas_compress.report import plus_minus

    value, spread = trial.values[name], trial.spreads.get(name)
    return _number(value) if spread is None else plus_minus(value, spread)


def show_front(result: SearchResult) -> None:
    """Print the Pareto front, one architecture a row, and what it was measured on."""
    from nas_compress.report import objective_conditions

    front = result.front()
    failed = len(result) - len(result.measured)
    title = f"Pareto front: {len(front)} of {len(result)} architectures"
    table = Table(
        title=title + (f" ({failed} failed)" if failed else ""), title_justify="left", title_style="bold", expand=True
    )
    rows = [[_value(trial, o.name) for o in result.metrics] for trial in front]
    for column, objective in enumerate(result.metrics):
        width = max(len(text) for text in (objective.label, *(row[column] for row in rows)))
        table.add_column(objective.label, justify="right", no_wrap=True, min_width=width)
    whole = not _out.is_terminal  # a log is what architectures are copied from
    table.add_column("architecture", overflow="fold" if whole else "ellipsis", no_wrap=not whole, ratio=1)
    for row, trial in zip(rows, front, strict=True):
        table.add_row(*row, str(trial.architecture))
    _out.print(table)
    for line in objective_conditions(result.provenance.get("contexts", {})):
        say(line)


def show_search(result: SearchResult) -> None:
    """Print why a search ended, what it came to, which limits it kept, and how well its predictors do."""
    if stopped := result.provenance.get("stopped"):
        say(f"ended after {len(result)} evaluations: {stopped['reason']}")
    if result.constraints:
        limits = ", ".join(map(str, result.constraints))
        say(f"limits ({limits}): kept by {len(result.feasible)} of {len(result)} architectures")
    volumes = result.hypervolumes()
    if result.reference_point is not None:
        say(f"hypervolume {volumes[-1]:.4g} of 1; {result.hypervolume_conditions()}")
    for metric, scores in result.provenance.get("strategy", {}).get("predictors", {}).items():
        figures = f"Kendall tau {scores['kendall_tau']:.3f}, mean error {scores['mape']:.3g} %"
        name = f"{scores['predictor']}{_choice(scores)}"
        say(f"predictor of {metric} ({name}), cross-validated on {scores['measurements']}: {figures}")
    for each in result.provenance.get("finalists", ()):
        measured = each["error"] or f"measured {each['measured_ms']:.4g} ± {each['spread_ms']:.2g} ms"
        say(f"latency on the front: predicted {each['predicted_ms']:.4g} ms, {measured}")
    if errors := result.provenance.get("prediction_errors"):
        say(f"error of the predictions on the front: {errors}")


def _choice(scores: Mapping[str, Any]) -> str:
    """Return what a predictor that chooses among others chose in the last fit, as an addition to its name."""
    if chosen := scores.get("chosen"):
        return f": {chosen}"
    weights = scores.get("weights", {}).items()
    return ": " + ", ".join(f"{weight:.2f} {name}" for name, weight in weights) if weights else ""


def show_measurements(rows: Sequence[tuple[Objective, Measurement]], conditions: Mapping[str, Any]) -> None:
    """Print what one architecture measured, a metric a row, and what on; conditions are those of all weights."""
    from nas_compress.report import CLOCKS, objective_conditions

    table = Table(box=None, pad_edge=False)
    for header in ("metric", "value", "spread", "unit"):
        table.add_column(header, justify="right" if header in ("value", "spread") else "left")
    for objective, measured in rows:
        spread = "exact" if measured.spread is None else f"{measured.spread:,.3g}"
        table.add_row(objective.name, _number(measured.value), spread, objective.unit)
    _out.print(table)
    shared = {objective.name: conditions if objective.depends_on_weights else {} for objective, _ in rows}
    for line in objective_conditions({o.name: {**shared[o.name], **o.context()} for o, _ in rows}):
        say(line)
    for objective, measured in rows:
        if (clock := measured.provenance.get("clock")) in CLOCKS:
            say(f"{objective.name} ({clock}): {CLOCKS[clock]}.")


def show_compression(result: CompressionResult) -> None:
    """Print what the steps did, what the exported files measured, how they compare, and where everything is."""
    from nas_compress import report

    if rows := report.steps_rows(result.outcomes):
        _show_table("Steps", report.step_headers(result.outcomes), rows)
        for line in report.step_conditions(result.outcomes):
            say(line)
    if result.artefacts:
        headers, rows = report.table_headers(result.artefacts), report.table_rows(result.artefacts)
        _show_table("Exported files, measured", headers, rows)
        for comparison in report.compare_all(result.artefacts):
            say(report.sentence(comparison))
        select = result.outcomes.get("select", {})
        for limit in report.check_limits(select.get("constraints", {}), result.artefacts, select.get("timed")):
            say(report.limit_sentence(limit))
        for line in report.artefact_conditions(result.artefacts):
            say(line)
    say(f"everything: {result.folder}")


def _show_table(title: str, headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table: words of headers break lines where it is narrow, figures never do; none is cut off."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1))
    rows = list(rows)
    for column, header in enumerate(headers):
        figures = [row[column] for row in rows]
        whole = [*header.split(), *(figures if header else " ".join(figures).split())]
        width = max(map(len, whole), default=0)
        table.add_column(header, justify="right" if 0 < column and header else "left", min_width=width)
    for row in rows:
        table.add_row(*row)
    _out.print(table, crop=False)


def show_popdb(found: PopDB, left_out: int = 0) -> None:
    """Print what a restriction took from each dimension of a space, and what is left of its size.

    Args:
        found: The restriction.
        left_out: Number of rows of the results that could not be used.
    """
    clustered = found.architectures - found.noise
    parts = [f"{found.architectures:,} distinct architectures", f"{clustered:,} of them in {found.clusters} clusters"]
    if left_out:
        parts.append(f"{left_out:,} rows failed or are outside search_space")
    say("; ".join(parts))
    table = Table(box=None, pad_edge=False)
    for header in ("dimension", "genes", "lost values", "which"):
        table.add_column(header, justify="right" if header in ("genes", "lost values") else "left")
    for dimension in found.space.dimensions:
        lost = found.dropped_by_dimension[dimension.name]
        texts = (f"{gene}: {', '.join(map(str, values))}" for gene, values in lost.items())
        table.add_row(dimension.name, str(dimension.slots), str(len(lost)), escape("; ".join(texts)))
    _out.print(table)
    if found.unreachable:
        say(f"never used in the restricted space: {', '.join(found.unreachable)}")
    say(f"size of the space: {_size(found.size_before)} sub-networks before, {_size(found.size_after)} after")


def _size(count: int) -> str:
    return f"{count:,}" if count < 1e6 else f"{count:.2e}"


def show_predictor_analysis(analysis: PredictorAnalysis) -> None:
    """Print error and rank correlation of each predictor against the number of architectures fitted to."""
    found = analysis.table()
    sizes = list(dict.fromkeys(found["size"]))
    say(
        f"{analysis.metric}: {analysis.architectures:,} architectures, {analysis.test_size} of them to test on; mean ± "
        f"standard deviation of {found['trials'].iloc[0]} trials"
    )
    for score, label in (("mape", "MAPE (%)"), ("kendall_tau", "Kendall tau")):
        table = Table(box=None, pad_edge=False)
        table.add_column(label)
        for size in sizes:
            table.add_column(f"{size} rows", justify="right", no_wrap=True)
        for name, part in found.groupby("predictor", sort=False):
            cells = zip(part[f"{score}_mean"], part[f"{score}_std"], strict=True)
            table.add_row(str(name), *(_mean_and_std(mean, std) for mean, std in cells))
        _out.print(table)
    _out.print()


def _mean_and_std(mean: float, std: float) -> str:
    if not math.isfinite(mean):
        return "-" if math.isnan(mean) else "infinite"
    return f"{mean:.3f}" if math.isnan(std) else f"{mean:.3f} ± {std:.3f}"
