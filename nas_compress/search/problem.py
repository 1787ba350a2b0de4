"""What a search is given: the space, what to optimise, the limits to keep, and what is known beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nas_compress.constraints import Constraint
from nas_compress.errors import ConfigError
from nas_compress.objectives.base import AnalyticObjective, Objective
from nas_compress.search import pareto
from nas_compress.search.trial import Trial
from nas_compress.space import Architecture, SearchSpace
from nas_compress.space.search_space import IntMatrix

FloatVector = NDArray[np.float64]
FloatMatrix = NDArray[np.float64]

_LEAST_EXCESS = 1e-12


@dataclass(frozen=True)
class SearchProblem:
    """A search problem in natural units; signs flip in `costs`.

    Attributes:
        space: Where to search.
        objectives: What to optimise, in order.
        constraints: Limits, each on one of `metrics`.
        limited: Metrics that are measured for the sake of a limit alone.
        first: Architectures to ask for before any others; kept in canonical form, each once.
        prior: Trials of an earlier search of the same space, perhaps on other hardware: no measurements of this
            search, but predictors may learn from them.
        descriptors: Computed quantities, optimised or not, that tell predictors something about an architecture.
    """

    space: SearchSpace
    objectives: Sequence[Objective]
    constraints: Sequence[Constraint] = ()
    limited: Sequence[Objective] = ()
    first: Sequence[Architecture] = ()
    prior: Sequence[Trial] = ()
    descriptors: Sequence[AnalyticObjective] = field(default=())

    def __post_init__(self) -> None:
        names = [o.name for o in self.metrics]
        if not self.objectives or len(set(names)) < len(names):
            raise ConfigError(f"objectives: {names} wants at least one to optimise, and no name twice")
        for constraint in self.constraints:
            if constraint.name not in names:
                raise ConfigError(f"constraint {constraint}: {constraint.name!r} is not among {', '.join(names)}")
        first = tuple(dict.fromkeys(self.space.canonicalize(a) for a in self.first))
        object.__setattr__(self, "first", first)

    @property
    def metrics(self) -> tuple[Objective, ...]:
        """All that is measured: the objectives, then what limits alone are about."""
        return (*self.objectives, *self.limited)

    def costs(self, values: Mapping[str, FloatVector]) -> FloatMatrix:
        """Return what is minimised, shape (n, objectives), for values by metric, each of shape (n,)."""
        matrix = np.column_stack([values[o.name] for o in self.objectives])
        return pareto.costs(matrix, [o.direction for o in self.objectives])

    def table(self, trials: Sequence[Trial]) -> dict[str, FloatVector]:
        """Return the values of successful trials by metric, each of shape (n,)."""
        return {o.name: np.array([t.values[o.name] for t in trials], dtype=np.float64) for o in self.metrics}


class Limits:
    """How far architectures are from meeting a problem's constraints.

    Relative limits refer to the largest architecture: computed at once where the metric is an `AnalyticObjective`,
    unknown until `learn` sees its trial where not; an unknown limit counts as met.
    """

    def __init__(self, problem: SearchProblem) -> None:
        self._constraints = tuple(problem.constraints)
        self._space = problem.space
        self._largest = problem.space.largest()
        analytic = {o.name: o for o in problem.metrics if isinstance(o, AnalyticObjective)}
        used = {name: o for name, o in analytic.items() if any(c.name == name for c in self._constraints)}
        self._values = {name: float(o.compute([self._largest])[0]) for name, o in used.items()}
        self.analytic: tuple[AnalyticObjective, ...] = tuple(used.values())
        """The metrics with limits that can be computed."""

    @property
    def waits_for_largest(self) -> bool:
        """Whether a relative limit is unknown still."""
        return any(c.relative and c.name not in self._values for c in self._constraints)

    def learn(self, trials: Sequence[Trial]) -> None:
        """Take the largest architecture's values, if it is among the trials."""
        for trial in trials:
            if trial.ok and trial.architecture == self._largest:
                self._values = {**trial.values, **self._values}

    def excess(self, values: Mapping[str, FloatVector]) -> FloatVector:
        """Return how far values are beyond the limits, as a sum over constraints of parts of the limit, shape (n,).

        0 means that all limits are met. Limits on metrics that `values` lacks are left out.

        Args:
            values: Values by metric, each of shape (n,); at least one metric.
        """
        total = np.zeros(len(next(iter(values.values()))))
        for c in self._constraints:
            if c.name not in values or (c.relative and c.name not in self._values):
                continue
            limit = c.limit(self._values)
            beyond = values[c.name] - limit if c.op.startswith("<") else limit - values[c.name]
            broken = beyond > 0 if c.op in ("<=", ">=") else beyond >= 0
            total += np.where(broken, np.maximum(beyond / (abs(limit) or 1.0), _LEAST_EXCESS), 0.0)
        return total

    def computed_excess(self, encoded: IntMatrix) -> FloatVector:
        """Return the excess over the limits that can be computed, shape (n,), of canonical rows of shape (n, genes)."""
        if not self.analytic or not len(encoded):
            return np.zeros(len(encoded))
        return self.excess({o.name: o.compute_encoded(self._space, encoded) for o in self.analytic})

    def describe(self) -> str:
        """Return the limits that can be computed, as text."""
        computed = {o.name for o in self.analytic}
        return ", ".join(str(c) for c in self._constraints if c.name in computed)
