"""Plots of a search's result."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from nas_compress.files import check_image, replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nas_compress.result import ObjectiveInfo, SearchResult
    from nas_compress.search import Trial


def saved(figure: Figure, path: str | os.PathLike[str] | None) -> Figure:
    """Return a figure after saving it, all at once or not at all; without a path it is not saved.

    Raises:
        ConfigError: The path's suffix is none of an image.
        OutputError: The file cannot be written.
    """
    if path is not None:
        check_image(Path(path), "path")
        with replacing(Path(path)) as temporary:
            figure.savefig(temporary, dpi=150)
    return figure


def plot_front(result: SearchResult, horizontal: ObjectiveInfo | None, vertical: ObjectiveInfo) -> Figure:
    """Draw all trials, coloured by the order of their evaluation, and the front.

    Args:
        result: The result.
        horizontal: The metric on the horizontal axis; None for the order of evaluation.
        vertical: The metric on the vertical axis.
    """
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot()
    points = _scatter(axes, result, horizontal, vertical)
    figure.colorbar(points, ax=axes, label="evaluation")
    axes.set_xlabel("evaluation" if horizontal is None else horizontal.label)
    axes.set_ylabel(vertical.label)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _scatter(axes: Axes, result: SearchResult, horizontal: ObjectiveInfo | None, vertical: ObjectiveInfo) -> Any:
    number = {id(trial): i for i, trial in enumerate(result.trials, start=1)}

    def place(trials: Sequence[Trial]) -> tuple[list[float], list[float]]:
        xs = [number[id(t)] if horizontal is None else t.values[horizontal.name] for t in trials]
        return xs, [t.values[vertical.name] for t in trials]

    points = axes.scatter(*place(result.measured), c=[number[id(t)] for t in result.measured], s=14, label="trial")
    style = "o-" if len(result.objectives) == 2 else "o"
    axes.plot(*place(result.front()), style, mfc="none", color="tab:red", lw=1, label="Pareto front")
    return points


def plot_growth(result: SearchResult, volumes: Sequence[float]) -> Figure:
    """Draw the hypervolume after every trial, and say what its reference point is."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.step(np.arange(1, len(volumes) + 1), volumes, where="post")
    axes.set_xlabel("evaluation")
    axes.set_ylabel("normalised hypervolume")
    axes.set_title(result.hypervolume_conditions(), fontsize="small", loc="left")
    axes.grid(alpha=0.3)
    return figure
