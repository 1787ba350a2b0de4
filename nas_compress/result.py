"""What a search found: the Pareto front, its hypervolume, selection under constraints, a table, a plot."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nas_compress.constraints import Constraint, Limit, keeps, limit_texts, parse_constraint
from nas_compress.errors import ConfigError, InfeasibleError, UnknownNameError
from nas_compress.objectives import Direction, Objective
from nas_compress.objectives import objectives as registry
from nas_compress.search import pareto
from nas_compress.search.trial import Trial
from nas_compress.search.volume import VolumeCurve
from nas_compress.space import Architecture

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ObjectiveInfo:
    """What must be known of an objective to read its values.

    Attributes:
        name: Its name.
        direction: `"maximize"` or `"minimize"`.
        unit: Its unit, empty for counts.
        column: The header of its column in results tables.
        best: The best value there can be, where the unit does not tell.
    """

    name: str
    direction: Direction
    unit: str = ""
    column: str = ""
    best: float | None = None

    @classmethod
    def of(cls, objective: Objective | ObjectiveInfo) -> ObjectiveInfo:
        """Return the description of an objective."""
        if isinstance(objective, ObjectiveInfo):
            return objective
        return cls(objective.name, objective.direction, objective.unit, objective.column, objective.best)

    @property
    def label(self) -> str:
        """The name with the unit, for axes."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def show(self, value: float) -> str:
        """Return a value with the unit."""
        return f"{value:.6g} {self.unit}".rstrip()


class SearchResult:
    """The trials of a search, in the order in which they were evaluated.

    Args:
        trials: All trials, failed ones included. Hypervolumes are made of what the search went by, all else of what is
            known best: where latency was predicted, that measured on the front.
        objectives: What was optimised.
        limited: What was measured for the sake of a limit alone.
        constraints: The limits of the search: the front, the hypervolume and `best` keep to them.
        reference: Reference point of the hypervolume, a value per objective in natural units; by default it is a tenth
            of each objective's range worse than the worst of the first 20 successful trials.
        provenance: What the search was and what its values were measured on, as plain data.
        largest: The largest architecture of the space, which relative limits refer to.
        largest_values: Values of the largest architecture that are known besides those of the trials.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        objectives: Sequence[Objective | ObjectiveInfo],
        *,
        limited: Sequence[Objective | ObjectiveInfo] = (),
        constraints: Sequence[Constraint] = (),
        reference: Mapping[str, float] | None = None,
        provenance: Mapping[str, Any] | None = None,
        largest: Architecture | None = None,
        largest_values: Mapping[str, float] | None = None,
    ) -> None:
        self.trials = tuple(trials)
        self.objectives = tuple(map(ObjectiveInfo.of, objectives))
        self.limited = tuple(map(ObjectiveInfo.of, limited))
        self.constraints = tuple(constraints)
        self.provenance = dict(provenance or {})
        self._reference = None if reference is None else self._point(reference)
        measured = next((t.searched for t in self.measured if t.architecture == largest), {})
        self._largest = {**measured, **(largest_values or {})}

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], objectives: Sequence[Objective | ObjectiveInfo | str] | None = None
    ) -> SearchResult:
        """Return the result of a search from its archive, finished or not.

        Args:
            path: The archive (`.jsonl`).
            objectives: What was optimised, registered ones by name too; by default the registered metrics that the
                archive names.

        Raises:
            ArchiveError: The file is not an archive, or is damaged.
            ConfigError: A metric of the archive is not registered, and `objectives` are not given; or a name of these
                is not registered.
        """
        from nas_compress.loading import load_result

        return load_result(path, objectives)

    def __len__(self) -> int:
        return len(self.trials)

    def __repr__(self) -> str:
        metrics = ", ".join(metric.name for metric in self.metrics)
        return f"SearchResult({len(self)} architectures, {len(self.front())} on the front, {metrics})"

    def __iter__(self) -> Iterator[Trial]:
        return iter(self.trials)

    @property
    def metrics(self) -> tuple[ObjectiveInfo, ...]:
        """All that was measured: the objectives, then what limits alone are about."""
        return (*self.objectives, *self.limited)

    @property
    def measured(self) -> list[Trial]:
        """The trials that did not fail."""
        return [trial for trial in self.trials if trial.ok]

    @property
    def feasible(self) -> list[Trial]:
        """The trials that did not fail and keep the search's limits.

        A limit that is relative to the largest architecture counts as kept where that one's value is not known.
        """
        return [trial for trial in self.trials if self._counts(trial)]

    def _counts(self, trial: Trial) -> bool:
        return trial.ok and keeps(self.constraints, trial.values, self._largest)

    def _costs(self, trials: Sequence[Trial]) -> NDArray[np.float64]:
        """Return minimised values, shape (trials, objectives)."""
        values = [[trial.values[o.name] for o in self.objectives] for trial in trials]
        return pareto.costs(values, [o.direction for o in self.objectives])

    def front(self) -> list[Trial]:
        """Return the trials that keep the limits and that no other such trial dominates.

        The best in the first objective comes first. Trials with equal values are all kept.
        """
        trials = self.feasible
        costs = self._costs(trials)
        chosen = np.flatnonzero(pareto.non_dominated(costs))
        return [trials[i] for i in sorted(chosen.tolist(), key=lambda i: tuple(costs[i]))]

    # -- hypervolume ---------------------------------------------------------------------------------------

    def hypervolume(self, ref: Mapping[str, float] | None = None) -> float:
        """Return the volume that the front dominates, in the product of the objectives' units.

        Source: Zitzler and Thiele, 1999.

        Args:
            ref: The reference point, a value per objective in natural units; trials beyond it add nothing. By default
                it is the search's (see the class): to compare searches, give them the same point.

        Raises:
            ConfigError: The reference point lacks an objective, or names another.
        """
        point = self.reference_point if ref is None else self._point(ref)
        if point is None:
            return 0.0
        directions = [o.direction for o in self.objectives]
        return pareto.hypervolume(
            self._costs(self.front()), pareto.costs([point[o.name] for o in self.objectives], directions)[0]
        )

    def hypervolumes(
        self, reference: Mapping[str, float] | None = None, ideal: Mapping[str, float] | None = None
    ) -> NDArray[np.float64]:
        """Return the normalised hypervolume after every trial, shape (trials,), growing from 0 towards 1.

        It is the volume between the front so far and the reference point, divided by that of the box between the
        reference point and the ideal point. Searches can be compared where both points are the same: the default
        ideal point follows from the reference point alone.

        Args:
            reference: A value per objective in natural units; by default the search's (see the class).
            ideal: Likewise; by default 0 for what is minimised, 100 for percentages and BLEU, and else as far above the
                reference point as that is above 0.

        Raises:
            ConfigError: A point lacks an objective or names another, or the ideal point is not better than the
                reference point.
        """
        curve = self._curve(reference, ideal)
        return np.array(curve.volumes or np.zeros(len(self.trials)))

    @property
    def reference_point(self) -> Mapping[str, float] | None:
        """The reference point of the hypervolume in natural units; None if it is not given and no trial succeeded."""
        return self._reference or self._curve().reference

    @property
    def ideal_point(self) -> Mapping[str, float] | None:
        """The ideal point of the normalised hypervolume in natural units; None where there is no reference point."""
        return self._curve().ideal

    def hypervolume_conditions(self) -> str:
        """Return the two points in words."""
        points = (self.reference_point, self.ideal_point)
        if points[0] is None or points[1] is None:
            return "no reference point"
        reference, ideal = (", ".join(f"{o.name} {o.show(p[o.name])}" for o in self.objectives) for p in points if p)
        origin = "given" if self._reference else "from the first trials"
        return f"reference point {reference} ({origin}); ideal point {ideal}"

    def _curve(
        self, reference: Mapping[str, float] | None = None, ideal: Mapping[str, float] | None = None
    ) -> VolumeCurve:
        point = self._reference if reference is None else self._point(reference)
        best = None if ideal is None else self._point(ideal)
        curve = VolumeCurve(self.objectives, point, best)
        for trial in self.trials:
            kept = trial.ok and keeps(self.constraints, trial.searched, self._largest)
            curve.add(trial.searched, kept)
        curve.settle()
        if best is not None and curve.reference is not None:
            self._check_ideal(best, curve.reference)
        return curve

    def _check_ideal(self, ideal: Mapping[str, float], reference: Mapping[str, float]) -> None:
        for o in self.objectives:
            better = (
                ideal[o.name] - reference[o.name] if o.direction == "maximize" else reference[o.name] - ideal[o.name]
            )
            if better <= 0:
                raise ConfigError(f"the ideal point's {o.name} is not better than the reference point's")

    def _point(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return a point by the objectives' own names."""
        if not isinstance(values, Mapping):
            raise ConfigError(f"a point wants a value for each of {', '.join(o.name for o in self.objectives)} by name")
        if wrong := [name for name, v in values.items() if not isinstance(v, Real) or not math.isfinite(v)]:
            raise ConfigError(f"the point's {wrong[0]} is {values[wrong[0]]!r}; wants a number")
        point = {self._objective(name).name: float(value) for name, value in values.items()}
        if missing := [o.name for o in self.objectives if o.name not in point]:
            raise ConfigError(f"the point {dict(values)} lacks {', '.join(missing)}")
        return {o.name: point[o.name] for o in self.objectives}

    def _objective(self, name: str) -> ObjectiveInfo:
        """Return a metric by its name or by another registered spelling of it."""
        for objective in self.metrics:
            if name == objective.name or (name in registry and registry.canonical(name) == objective.name):
                return objective
        raise UnknownNameError("objective", name, [o.name for o in self.metrics])

    # -- selection -----------------------------------------------------------------------------------------

    def best(
        self,
        constraints: Mapping[str, Limit] | None = None,
        *,
        maximize: str | None = None,
        minimize: str | None = None,
        largest: Mapping[str, float] | None = None,
    ) -> Trial:
        """Return the best trial among those that meet all constraints; ties go to the other objectives in order.

        Args:
            constraints: Limits by metric, besides those of the search: `{"latency": "<= 2 ms"}`,
                `{"macs": [">= 100M", "<= 0.4 x largest"]}`.
            maximize: The metric to choose by, one that is maximised.
            minimize: The metric to choose by, one that is minimised. With neither, the first objective decides.
            largest: Values of the largest architecture, in place of those that are known, for relative limits.

        Raises:
            ConfigError: An unknown metric, a constraint that cannot be read, or a relative one while the largest
                architecture was not measured.
            InfeasibleError: No trial meets the constraints; the message gives the closest values.
        """
        if not isinstance(constraints, Mapping | None):
            raise ConfigError(f"constraints = {constraints!r}; wants limits by metric: {{'macs': '<= 0.5 x largest'}}")
        goal = self._goal(maximize, minimize)
        limits = [self._constraint(name, text) for name, text in limit_texts(constraints or {})]
        values = self._largest if largest is None else largest
        pool = [t for t in self.feasible if all(c.met(t.values[c.name], values) for c in limits)]
        if not pool:
            raise InfeasibleError(self.closest(limits, values))
        costs = self._costs(pool)
        sign = -1.0 if goal.direction == "maximize" else 1.0
        return pool[min(range(len(pool)), key=lambda i: (sign * pool[i].values[goal.name], *costs[i]))]

    def _goal(self, maximize: str | None, minimize: str | None) -> ObjectiveInfo:
        if maximize is not None and minimize is not None:
            raise ConfigError("give either maximize or minimize, not both")
        name = maximize or minimize
        if name is None:
            return self.objectives[0]
        goal = self._objective(name)
        wanted = "maximize" if maximize is not None else "minimize"
        if goal.direction != wanted:
            raise ConfigError(f"{wanted}={name!r}: {goal.name} is an objective to {goal.direction}")
        return goal

    def _constraint(self, name: str, text: str) -> Constraint:
        objective = self._objective(name)
        return parse_constraint(text, name=objective.name, unit=objective.unit)

    def closest(self, limits: Sequence[Constraint] = (), largest: Mapping[str, float] | None = None) -> str:
        """Return in words, for limits that no trial meets, what comes closest to each.

        Args:
            limits: Limits besides those of the search.
            largest: Values of the largest architecture, in place of those that are known.
        """
        if not self.measured:
            return "no architecture was measured"
        largest = self._largest if largest is None else largest
        limits = [c for c in (*self.constraints, *limits) if not c.relative or c.name in largest]
        texts = []
        for limit in limits:
            others = [c for c in limits if c is not limit]
            pool = [t for t in self.measured if keeps(others, t.values, largest)]
            among = " among those that meet the other constraints" if pool and others else ""
            values = [t.values[limit.name] for t in pool or self.measured]
            show = self._objective(limit.name).show
            closest = min(values) if limit.op.startswith("<") else max(values)
            at = f" (that is {show(limit.limit(largest))})" if limit.relative else ""
            texts.append(f"{limit}{at}: the closest{among} has {show(closest)}")
        return f"none of {len(self.measured)} architectures meets the constraints. {'; '.join(texts)}"

    # -- views ---------------------------------------------------------------------------------------------

    def to_dataframe(self) -> pd.DataFrame:
        """Return one row per trial, in order.

        Columns: `architecture`; one per metric, named after it, NaN for failed trials; `<metric>_spread` where any is
        known; `feasible` (whether all limits are kept) where there are any; `front` (whether no such trial dominates
        it); `hypervolume` (normalised, after this trial); `error` (None, or why it failed).
        """
        import pandas as pd

        front = {id(trial) for trial in self.front()}
        names = [o.name for o in self.metrics]
        table: dict[str, Any] = {"architecture": [t.architecture for t in self.trials]}
        table |= {name: [t.values.get(name, np.nan) for t in self.trials] for name in names}
        for name in names:
            if any(name in t.spreads for t in self.trials):
                table[f"{name}_spread"] = [t.spreads.get(name, np.nan) for t in self.trials]
        if self.constraints:
            table["feasible"] = [self._counts(t) for t in self.trials]
        table["front"] = [id(t) in front for t in self.trials]
        table["hypervolume"] = self.hypervolumes()
        table["error"] = [t.error for t in self.trials]
        return pd.DataFrame(table)

    def plot(self, path: str | os.PathLike[str] | None = None, *, x: str | None = None, y: str | None = None) -> Figure:
        """Draw all trials, coloured by the order of their evaluation, and the front.

        Args:
            path: Where to save the figure, as .png, .pdf or .svg.
            x: The metric on the horizontal axis; the second objective by default, the order of evaluation if there is
                but one.
            y: The metric on the vertical axis; the first objective by default.

        Raises:
            ConfigError: The file's suffix is another.
            OutputError: The file cannot be written.
        """
        from nas_compress.plots import plot_front, saved

        horizontal = self._objective(x) if x is not None else next(iter(self.objectives[1:]), None)
        return saved(plot_front(self, horizontal, self.objectives[0] if y is None else self._objective(y)), path)

    def plot_hypervolume(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw the normalised hypervolume after every trial; `path` is where to save it, as `plot` has it."""
        from nas_compress.plots import plot_growth, saved

        return saved(plot_growth(self, self.hypervolumes().tolist()), path)
