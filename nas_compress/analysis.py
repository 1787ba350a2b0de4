"""How well predictors learn a table of results: error and rank correlation against the number of training rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nas_compress.approaches import canonical
from nas_compress.errors import ConfigError
from nas_compress.files import replacing
from nas_compress.predictors import Predictor
from nas_compress.predictors import predictors as registry
from nas_compress.predictors.base import FloatMatrix, FloatVector, IntVector, scores
from nas_compress.predictors.features import Features
from nas_compress.search_checks import COMPUTED
from nas_compress.space import Architecture, SearchSpace
from nas_compress.tables import Rows

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

PREDICTORS = ("gp", "ridge", "svr")
"""Predictors that are scored, unless others are asked for."""

SIZES = (50, 100, 200, 500, 1000)
"""Numbers of training rows, unless others are asked for."""

MOST_TEST_ROWS = 500
"""Rows that predictions are compared with, or all that training leaves where those are fewer."""

FEWEST_TEST_ROWS = 20
"""Fewer than these say nothing about a rank correlation."""

Progress = Callable[[int, int, str], None]
"""Takes the number of fits done, the number in all, and a few words on the last one."""


@dataclass(frozen=True)
class TrialScore:
    """One predictor, fitted to one training set.

    Attributes:
        predictor: Its name.
        size: Number of rows it was fitted to.
        trial: Number of the trial, from 0; all scores of a trial have the same test rows.
        mape: Mean absolute percentage error on the test rows.
        kendall_tau: Kendall's tau-b between predicted and true values of the test rows; NaN if either is constant.
    """

    predictor: str
    size: int
    trial: int
    mape: float
    kendall_tau: float


@dataclass(frozen=True)
class PredictorAnalysis:
    """The scores of several predictors for one metric.

    Attributes:
        metric: What was predicted.
        architectures: Number of distinct architectures that it was known of.
        test_size: Number of them that each trial tested on.
        scores: All scores, predictor after predictor, by size, by trial.
    """

    metric: str
    architectures: int
    test_size: int
    scores: tuple[TrialScore, ...]

    def table(self) -> pd.DataFrame:
        """Return mean and sample standard deviation over the trials, one row per predictor and size.

        Columns: `metric`, `predictor`, `size`, `trials`, `test_size`, and `_mean` and `_std` of `mape` (%) and of
        `kendall_tau`. The standard deviation of a single trial is NaN.
        """
        import pandas as pd

        rows = []
        for (predictor, size), group in self._groups().items():
            row: dict[str, object] = {"metric": self.metric, "predictor": predictor, "size": size}
            row |= {"trials": len(group), "test_size": self.test_size}
            for name in ("mape", "kendall_tau"):
                values = np.array([getattr(score, name) for score in group])
                row[f"{name}_mean"] = float(values.mean())
                row[f"{name}_std"] = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
            rows.append(row)
        return pd.DataFrame(rows)

    def _groups(self) -> dict[tuple[str, int], list[TrialScore]]:
        groups: dict[tuple[str, int], list[TrialScore]] = {}
        for score in self.scores:
            groups.setdefault((score.predictor, score.size), []).append(score)
        return groups


def analyse_predictors(
    space: SearchSpace,
    rows: Rows,
    metric: str,
    predictors: Sequence[str] = PREDICTORS,
    sizes: Sequence[int] | None = None,
    *,
    trials: int = 10,
    seed: int = 42,
    progress: Progress | None = None,
) -> PredictorAnalysis:
    """Score predictors of a metric against the number of architectures they were fitted to.

    Every trial deals the distinct architectures into test rows and training rows; the first `size` training rows are
    fitted, so that larger sets contain the smaller ones, and the test rows are the same for all sizes and predictors.

    Source: Sarah et al., 2022, "A Hardware-Aware System for Accelerating Deep Neural Network Optimization", section
    5.4.

    Args:
        space: The space of the architectures.
        rows: Architectures and their values by metric, as `read_results` returns them; repeats are averaged.
        metric: What to predict.
        predictors: Names in `nas_compress.predictors.predictors`.
        sizes: Numbers of training rows; those of `SIZES` that leave half of the rows for the test by default.
        trials: Number of trials.
        seed: Seed of the splits.
        progress: Called after every fit.

    Raises:
        UnknownNameError: No predictor has one of the names.
        ConfigError: The metric is in no row, there are too few rows for a size, or a number is out of range.
    """
    return analyse_metrics(space, rows, [metric], predictors, sizes, trials=trials, seed=seed, progress=progress)[0]


def analyse_metrics(
    space: SearchSpace,
    rows: Rows,
    metrics: Sequence[str] | None = None,
    predictors: Sequence[str] = PREDICTORS,
    sizes: Sequence[int] | None = None,
    *,
    trials: int = 10,
    seed: int = 42,
    progress: Progress | None = None,
) -> list[PredictorAnalysis]:
    """Do `analyse_predictors` for several metrics, by default all that were measured; everything is checked first."""
    names = list(dict.fromkeys(registry.canonical(name) for name in predictors))
    if not names or trials < 1 or seed < 0:
        raise ConfigError(
            f"predictors = {names}, trials = {trials}, seed = {seed}: want at least 1 predictor of "
            f"{', '.join(registry)}, at least 1 trial and a seed of at least 0"
        )
    metrics = list(dict.fromkeys(map(canonical, metrics))) if metrics else measured_metrics(rows)
    data = {metric: averaged(rows, metric) for metric in metrics}
    fitting = {metric: check_sizes(sizes, len(values), metric) for metric, (_, values) in data.items()}
    makers = {name: registry.get(name) for name in names}
    total = sum(len(names) * len(each) * trials for each in fitting.values())
    found, done = [], 0
    for metric, (architectures, values) in data.items():
        scored = []
        for score in score_trials(makers, features_of(space, architectures), values, fitting[metric], trials, seed):
            scored.append(score)
            done += 1
            if progress:
                progress(done, total, f"{metric}: {score.predictor}, {score.size} architectures")
        test_size = _test_size(len(values), fitting[metric])
        found.append(PredictorAnalysis(metric, len(values), test_size, tuple(scored)))
    return found


def measured_metrics(rows: Rows) -> list[str]:
    """Return the metrics that have values, without those that are computed unless there are no others.

    Raises:
        ConfigError: No row has any value.
    """
    names = list(dict.fromkeys(name for _, values in rows for name in values))
    if not names:
        raise ConfigError("metrics: no row has a value of a metric")
    return [name for name in names if name not in COMPUTED] or names


def averaged(rows: Rows, metric: str) -> tuple[list[Architecture], FloatVector]:
    """Return the distinct architectures with a value of the metric, in order, and the mean of each one's values.

    Raises:
        ConfigError: No row has a value of the metric.
    """
    values: dict[Architecture, list[float]] = {}
    for architecture, row in rows:
        if metric in row:
            values.setdefault(architecture, []).append(row[metric])
    if not values:
        known = ", ".join(dict.fromkeys(name for _, row in rows for name in row)) or "no metric at all"
        raise ConfigError(f"metric {metric!r}: no row has a value of it; the results have {known}")
    return list(values), np.array([float(np.mean(each)) for each in values.values()])


def features_of(space: SearchSpace, architectures: Sequence[Architecture]) -> FloatMatrix:
    """Return what predictors see of the architectures, shape (n, f)."""
    return Features(space)(space.encode(architectures))


def parse_sizes(text: str) -> list[int]:
    """Read numbers of training rows such as `"50,100,200"`; other texts raise `ConfigError`."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"sizes: {text!r} is not a list of whole numbers, such as 50,100,200") from None


def check_sizes(sizes: Sequence[int] | None, rows: int, metric: str) -> list[int]:
    """Return the distinct sizes in ascending order, or the default ones.

    Raises:
        ConfigError: A size is less than 2 or leaves too few rows to test on, or no default size fits.
    """
    if sizes is None:
        fitting = [size for size in SIZES if size <= rows // 2]
        if not fitting:
            raise ConfigError(
                f"{metric}: {rows} architectures have a value, which is less than twice the smallest size, {SIZES[0]}; "
                "give sizes of your own"
            )
        return fitting
    if not sizes or min(sizes) < 2:
        raise ConfigError(f"sizes = {list(sizes)}: want whole numbers of training rows, 2 or more")
    if (largest := max(sizes)) + FEWEST_TEST_ROWS > rows:
        raise ConfigError(
            f"sizes: {largest} training rows and at least {FEWEST_TEST_ROWS} to test on are more than the {rows} "
            f"architectures with a value of {metric}; the largest size possible is {max(0, rows - FEWEST_TEST_ROWS)}"
        )
    return sorted(set(sizes))


def score_trials(
    makers: Mapping[str, Callable[[], Predictor]],
    x: FloatMatrix,
    y: FloatVector,
    sizes: Sequence[int],
    trials: int,
    seed: int,
) -> Iterator[TrialScore]:
    """Yield the scores of predictors, predictor after predictor, by size, by trial.

    Args:
        makers: What makes an unfitted predictor, by name.
        x: Features, shape (n, f).
        y: Values, shape (n,).
        sizes: Numbers of training rows.
        trials: Number of trials; the splits depend on the number of rows and on the seed alone.
        seed: Seed of the splits.
    """
    splits = list(_splits(len(y), sizes, trials, seed))
    for name, make in makers.items():
        for size in sizes:
            for trial, (train, test) in enumerate(splits):
                some = train[:size]
                found = scores(make().fit(x[some], y[some]).predict_mean(x[test]), y[test])
                yield TrialScore(name, size, trial, found.mape, found.kendall_tau)


def _test_size(rows: int, sizes: Sequence[int]) -> int:
    return min(MOST_TEST_ROWS, rows - max(sizes))


def _splits(rows: int, sizes: Sequence[int], trials: int, seed: int) -> Iterator[tuple[IntVector, IntVector]]:
    """Yield the training rows, shuffled, and the test rows of each trial."""
    rng, test = np.random.default_rng(seed), _test_size(rows, sizes)
    for _ in range(trials):
        order = rng.permutation(rows)
        yield order[test:], order[:test]


def write_tables(analyses: Sequence[PredictorAnalysis], path: Path) -> None:
    """Write the tables of several metrics as one CSV file; raises `OutputError` if it cannot be written."""
    import pandas as pd

    with replacing(path) as temporary:
        pd.concat([analysis.table() for analysis in analyses]).to_csv(temporary, index=False)


def plot_analyses(analyses: Sequence[PredictorAnalysis], path: Path) -> None:
    """Draw error and rank correlation against the number of training rows, a metric a line of panels.

    Args:
        analyses: One per metric.
        path: The image; the suffix gives the format.

    Raises:
        OutputError: The file cannot be written.
    """
    from matplotlib.figure import Figure

    from nas_compress.plots import saved

    figure = Figure(figsize=(10, 4 * len(analyses)), layout="constrained")
    panels = figure.subplots(len(analyses), 2, squeeze=False)
    for (left, right), analysis in zip(panels, analyses, strict=True):
        _draw(left, analysis, "mape", f"MAPE of {analysis.metric} (%)")
        _draw(right, analysis, "kendall_tau", f"Kendall tau of {analysis.metric}")
        left.legend()
    saved(figure, path)


def _draw(axes: Axes, analysis: PredictorAnalysis, score: str, label: str) -> None:
    for name, part in analysis.table().groupby("predictor", sort=False):
        bars = part[f"{score}_std"].fillna(0.0)
        axes.errorbar(part["size"], part[f"{score}_mean"], bars, marker="o", ms=4, capsize=3, label=str(name))
    axes.set_xscale("log")
    axes.set_xlabel("architectures fitted to")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
