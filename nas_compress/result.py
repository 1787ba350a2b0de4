"""What a search found: the Pareto front, its hypervolume, selection under constraints, a table, a plot."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from nas_compress.constraints import Constraint, parse_constraint
from nas_compress.errors import ConfigError, InfeasibleError, UnknownNameError
from nas_compress.objectives import Direction, Objective
from nas_compress.objectives import objectives as registry
from nas_compress.search import pareto
from nas_compress.search.base import Trial
from nas_compress.space import Architecture

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ObjectiveInfo:
    """What must be known of an objective to read its values.

    Attributes:
        name: Its name.
        direction: `"maximize"` or `"minimize"`.
        unit: Its unit, empty for counts.
        column: The header of its column in results tables.
    """

    name: str
    direction: Direction
    unit: str = ""
    column: str = ""

    @classmethod
    def of(cls, objective: Objective) -> Self:
        """Return the description of an objective."""
        return cls(objective.name, objective.direction, objective.unit, objective.column)

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
        trials: All trials, failed ones included.
        objectives: What was measured.
        provenance: What the search was and what its values were measured on, as plain data.
        largest: The largest architecture of the space, which relative constraints refer to.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        objectives: Sequence[Objective | ObjectiveInfo],
        *,
        provenance: Mapping[str, Any] | None = None,
        largest: Architecture | None = None,
    ) -> None:
        self.trials = tuple(trials)
        self.objectives = tuple(o if isinstance(o, ObjectiveInfo) else ObjectiveInfo.of(o) for o in objectives)
        self.provenance = dict(provenance or {})
        self._largest = largest

    def __len__(self) -> int:
        return len(self.trials)

    def __iter__(self) -> Iterator[Trial]:
        return iter(self.trials)

    @property
    def measured(self) -> list[Trial]:
        """The trials that did not fail."""
        return [trial for trial in self.trials if trial.ok]

    def _costs(self, trials: Sequence[Trial]) -> NDArray[np.float64]:
        """Return minimised values, shape (trials, objectives)."""
        values = [[trial.values[o.name] for o in self.objectives] for trial in trials]
        return pareto.costs(values, [o.direction for o in self.objectives])

    def front(self) -> list[Trial]:
        """Return the trials that no other trial dominates, the best in the first objective first.

        Trials with equal values are all kept.
        """
        trials = self.measured
        costs = self._costs(trials)
        chosen = np.flatnonzero(pareto.non_dominated(costs))
        return [trials[i] for i in sorted(chosen.tolist(), key=lambda i: tuple(costs[i]))]

    def hypervolume(self, ref: Mapping[str, float] | None = None) -> float:
        """Return the volume that the front dominates, in the product of the objectives' units.

        Source: Zitzler and Thiele, 1998.

        Args:
            ref: The reference point, a value per objective in natural units; trials beyond it add nothing. By default
                it is worse than all trials by a tenth of each objective's range, which serves to look at one search:
                to compare searches, give them the same point.

        Raises:
            ConfigError: The reference point lacks an objective, or names another.
        """
        if not self.measured:
            return 0.0
        costs = self._costs(self.measured)
        if ref is None:
            return pareto.hypervolume(costs, pareto.reference_point(costs))
        names = {self._objective(name).name: float(value) for name, value in ref.items()}
        missing = [o.name for o in self.objectives if o.name not in names]
        if missing:
            raise ConfigError(f"the reference point lacks {', '.join(missing)}")
        point = pareto.costs([[names[o.name] for o in self.objectives]], [o.direction for o in self.objectives])
        return pareto.hypervolume(costs, point[0])

    def _objective(self, name: str) -> ObjectiveInfo:
        """Return an objective by its name or by another registered spelling of it."""
        for objective in self.objectives:
            if name == objective.name or (name in registry and registry.canonical(name) == objective.name):
                return objective
        raise UnknownNameError("objective", name, [o.name for o in self.objectives])

    # -- selection -----------------------------------------------------------------------------------------

    def best(
        self,
        constraints: Mapping[str, str] | None = None,
        *,
        maximize: str | None = None,
        minimize: str | None = None,
        largest: Mapping[str, float] | None = None,
    ) -> Trial:
        """Return the best trial among those that meet all constraints; ties go to the other objectives in order.

        Args:
            constraints: Limits by objective: `{"latency": "<= 2 ms", "macs": "<= 0.4 x largest"}`.
            maximize: The objective to choose by, one that is maximised.
            minimize: The objective to choose by, one that is minimised. With neither, the first objective decides.
            largest: Values of the largest architecture, in place of those among the trials, for relative limits.

        Raises:
            ConfigError: An unknown objective, a constraint that cannot be read, or a relative one while the largest
                architecture was not measured.
            InfeasibleError: No trial meets the constraints; the message gives the closest values.
        """
        goal = self._goal(maximize, minimize)
        limits = [self._constraint(name, text) for name, text in (constraints or {}).items()]
        values = self._largest_values() if largest is None else largest
        feasible = [t for t in self.measured if all(c.met(t.values[c.name], values) for c in limits)]
        if not feasible:
            raise InfeasibleError(self._closest(limits, values))
        costs = self._costs(feasible)
        first = [o.name for o in self.objectives].index(goal.name)
        order = [first, *(i for i in range(len(self.objectives)) if i != first)]
        return feasible[min(range(len(feasible)), key=lambda i: tuple(costs[i, order]))]

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

    def _largest_values(self) -> Mapping[str, float]:
        return next((t.values for t in self.measured if t.architecture == self._largest), {})

    def _closest(self, limits: Sequence[Constraint], largest: Mapping[str, float]) -> str:
        """Return, for constraints that cannot be met, what comes closest to each."""
        if not self.measured:
            return "no architecture was measured"
        texts = []
        for limit in limits:
            others = [c for c in limits if c is not limit]
            pool = [t for t in self.measured if all(c.met(t.values[c.name], largest) for c in others)]
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

        Columns: `architecture`; one per objective, named after it, NaN for failed trials; `<objective>_spread` where
        any is known; `front` (whether nothing dominates the trial); `error` (None, or why it failed).
        """
        import pandas as pd

        front = {id(trial) for trial in self.front()}
        names = [o.name for o in self.objectives]
        table: dict[str, list[Any]] = {"architecture": [t.architecture for t in self.trials]}
        table |= {name: [t.values.get(name, np.nan) for t in self.trials] for name in names}
        for name in names:
            if any(name in t.spreads for t in self.trials):
                table[f"{name}_spread"] = [t.spreads.get(name, np.nan) for t in self.trials]
        table["front"] = [id(t) in front for t in self.trials]
        table["error"] = [t.error for t in self.trials]
        return pd.DataFrame(table)

    def plot(self, path: str | os.PathLike[str] | None = None, *, x: str | None = None, y: str | None = None) -> Figure:
        """Draw all trials, coloured by the order of their evaluation, and the front.

        Args:
            path: Where to save the figure; the suffix gives the format.
            x: The objective on the horizontal axis; the second one by default, the order of evaluation if there is
                but one.
            y: The objective on the vertical axis; the first one by default.
        """
        from matplotlib.figure import Figure

        vertical = self.objectives[0] if y is None else self._objective(y)
        horizontal = self._objective(x) if x is not None else next((o for o in self.objectives[1:]), None)
        figure = Figure(figsize=(7, 5), layout="constrained")
        axes = figure.add_subplot()
        points = self._scatter(axes, horizontal, vertical)
        figure.colorbar(points, ax=axes, label="evaluation")
        axes.set_xlabel("evaluation" if horizontal is None else horizontal.label)
        axes.set_ylabel(vertical.label)
        axes.grid(alpha=0.3)
        axes.legend()
        if path is not None:
            figure.savefig(path, dpi=150)
        return figure

    def _scatter(self, axes: Axes, horizontal: ObjectiveInfo | None, vertical: ObjectiveInfo) -> Any:
        number = {id(trial): i for i, trial in enumerate(self.trials, start=1)}

        def place(trials: Sequence[Trial]) -> tuple[list[float], list[float]]:
            xs = [number[id(t)] if horizontal is None else t.values[horizontal.name] for t in trials]
            return xs, [t.values[vertical.name] for t in trials]

        points = axes.scatter(*place(self.measured), c=[number[id(t)] for t in self.measured], s=14, label="trial")
        style = "o-" if len(self.objectives) == 2 else "o"
        axes.plot(*place(self.front()), style, mfc="none", color="tab:red", lw=1, label="Pareto front")
        return points
