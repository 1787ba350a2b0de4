"""The curve of a training run, as a table and as a plot."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from nas_compress.files import replacing
from nas_compress.plots import saved

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nas_compress.training.checkpoint import EpochLog

TABLE, PLOT = "training.csv", "training.png"


def write_training(folder: Path, log: Sequence[EpochLog]) -> list[str]:
    """Write `training.csv` and `training.png`, and return their names.

    Args:
        folder: Where to.
        log: What training returned: an entry per epoch.

    Raises:
        OutputError: A file cannot be written.
    """
    with replacing(folder / TABLE) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(table(log))
    saved(plot_training(log), folder / PLOT)
    return [TABLE, PLOT]


def table(log: Sequence[EpochLog]) -> Iterator[list[str]]:
    """Yield the rows of the table, its header first: epoch, stage, training loss and accuracy, the curve's figures.

    A figure that an epoch does not have is empty.
    """
    networks = _networks(log)
    yield ["epoch", "stage", "loss", "accuracy (%)", *(f"{name} (%)" for name in networks)]
    for entry in log:
        figures = [entry.accuracy, *(entry.curve.get(name) for name in networks)]
        numbers = ["" if figure is None else f"{figure:.2f}" for figure in figures]
        yield [str(entry.epoch), entry.stage, f"{entry.loss:.5f}", *numbers]


def plot_training(log: Sequence[EpochLog]) -> Figure:
    """Draw accuracies and the loss after every epoch; dotted lines are between stages."""
    figure = Figure(figsize=(7, 6), layout="constrained")
    above, below = figure.subplots(2, sharex=True, height_ratios=(2, 1))
    epochs = [entry.epoch for entry in log]
    above.plot(epochs, [entry.accuracy for entry in log], ":", color="gray", label="training, augmented examples")
    for name in _networks(log):
        figures = [entry.curve.get(name, float("nan")) for entry in log]
        above.plot(epochs, figures, ".-", label=f"{name}, search-validation examples")
    above.set_ylabel("accuracy (%)")
    above.legend(fontsize="small")
    below.plot(epochs, [entry.loss for entry in log], ".-", color="gray")
    below.set_ylabel("training loss")
    below.set_xlabel("epoch")
    for axes in (above, below):
        axes.grid(alpha=0.3)
        _mark_stages(axes, log, named=axes is above)
    return figure


def _networks(log: Sequence[EpochLog]) -> list[str]:
    """Return the names of the networks of the curve, in the order in which they come."""
    return list(dict.fromkeys(name for entry in log for name in entry.curve))


def _mark_stages(axes: Axes, log: Sequence[EpochLog], *, named: bool) -> None:
    """Draw a line before the first epoch of each stage, and write its name beside it."""
    before = ""
    for entry in log:
        if entry.stage != before:
            axes.axvline(entry.epoch - 0.5, color="black", linestyle=":", linewidth=0.8)
            if named:
                place = (entry.epoch - 0.4, 0.02)
                axes.text(*place, entry.stage, transform=axes.get_xaxis_transform(), rotation=90, fontsize="x-small")
        before = entry.stage
