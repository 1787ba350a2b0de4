"""The hypervolume of a search as it grows, on a scale that does not depend on what the search found.

The volume between the front and the reference point is divided by that of the box between the reference point and
an ideal point. Both points are known early and stated, so that searches with the same reference point can be compared.

Source: Zitzler and Thiele, 1999 (the indicator); While et al., 2012, "A fast way of calculating exact hypervolumes"
(what a single point adds).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nas_compress.objectives.base import Direction, best_possible
from nas_compress.search import pareto

OPENING = 20
"""Number of successful trials that the reference point comes from where none is given, or all if there are fewer."""

_BEYOND = 10


class Axis(Protocol):
    """What must be known of an objective: name, direction, unit, and its best value where the unit does not tell."""

    @property
    def name(self) -> str:
        """See `Objective`."""

    @property
    def direction(self) -> Direction:
        """See `Objective`."""

    @property
    def unit(self) -> str:
        """See `Objective`."""

    @property
    def best(self) -> float | None:
        """See `Objective`."""


def natural_reference(objectives: Sequence[Axis], rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return a point a tenth of each objective's range worse than the worst of some values, in natural units.

    Args:
        objectives: The objectives.
        rows: Values by objective, one mapping per trial; at least one.
    """
    directions = [o.direction for o in objectives]
    worst = pareto.reference_point(pareto.costs([[row[o.name] for o in objectives] for row in rows], directions))
    return {o.name: float(v) for o, v in zip(objectives, pareto.costs(worst, directions)[0], strict=True)}


def natural_ideal(
    objectives: Sequence[Axis], reference: Mapping[str, float], rows: Sequence[Mapping[str, float]] = ()
) -> dict[str, float]:
    """Return the best values that can be thought of, in natural units.

    It is the objective's own `best`, 0 for what is minimised, 100 for percentages that are maximised, 1 for anything
    else that begins between 0 and 1. Where the values that a search begins with are not on the worse side of that,
    it is as far from the reference point as that is from 0, at least 1, and ten times as far as these values reach.

    Args:
        objectives: The objectives.
        reference: The reference point, a value per objective.
        rows: Values by objective of the trials that the reference point comes from, if it does.
    """
    ideal = {}
    for o in objectives:
        r, values = reference[o.name], [row[o.name] for row in rows]
        upward = o.direction == "maximize"
        sign = 1 if upward else -1
        best = best_possible(o.direction, o.unit, o.best)
        natural, known = (1.0, min(values, default=r) >= 0) if best is None else (best, True)
        if known and sign * r < sign * natural and all(sign * value <= sign * natural for value in values):
            ideal[o.name] = natural
        else:
            ideal[o.name] = r + sign * max(abs(r), 1.0, *(_BEYOND * abs(value - r) for value in values))
    return ideal


class VolumeCurve:
    """The normalised hypervolume after every trial.

    Args:
        objectives: What spans the volume.
        reference: The reference point, a value per objective in natural units; by default it comes from the first
            `OPENING` successful trials (see `natural_reference`), whether they keep the limits or not.
        ideal: The ideal point likewise; by default it follows from the reference point (see `natural_ideal`).

    Attributes:
        volumes: One per trial, growing from 0 towards 1 (beyond it where values pass an ideal point that only could be
            guessed); empty until the reference point is known.
        reference: The reference point, None until it is known.
        ideal: The ideal point, None until it is known.
    """

    def __init__(
        self,
        objectives: Sequence[Axis],
        reference: Mapping[str, float] | None = None,
        ideal: Mapping[str, float] | None = None,
    ) -> None:
        self._objectives = tuple(objectives)
        self.reference: Mapping[str, float] | None = None
        self.ideal = ideal
        self.volumes: list[float] = []
        self._waiting: list[tuple[Mapping[str, float], bool]] = []
        self._front = np.empty((0, len(self._objectives)))
        if reference is not None:
            self._span(reference)

    @property
    def missing(self) -> int:
        """The fewest trials after which the reference point can be known; 0 if it is."""
        return 0 if self.reference is not None else OPENING - sum(bool(values) for values, _ in self._waiting)

    def add(self, values: Mapping[str, float], counts: bool = True) -> None:
        """Take the next trial.

        Args:
            values: Its values by metric, empty if it failed.
            counts: Whether it keeps all limits: if not, it adds no volume.
        """
        if self.reference is not None:
            self._take(values, counts)
            return
        self._waiting.append((values, counts))
        if self.missing == 0:
            self.settle()

    def settle(self) -> None:
        """Fix the reference point by the trials so far; nothing happens if it is fixed, or none was successful."""
        rows = [values for values, _ in self._waiting if values]
        if self.reference is not None or not rows:
            return
        self._span(natural_reference(self._objectives, rows), rows)
        for values, counts in self._waiting:
            self._take(values, counts)
        self._waiting = []

    def _span(self, reference: Mapping[str, float], rows: Sequence[Mapping[str, float]] = ()) -> None:
        self.reference = {o.name: float(reference[o.name]) for o in self._objectives}
        self.ideal = dict(self.ideal or natural_ideal(self._objectives, self.reference, rows))
        self._worst, self._best = self._costs(self.reference), self._costs(self.ideal)

    def _costs(self, values: Mapping[str, float]) -> NDArray[np.float64]:
        row = [[values[o.name] for o in self._objectives]]
        return pareto.costs(row, [o.direction for o in self._objectives]).ravel()

    def _take(self, values: Mapping[str, float], counts: bool) -> None:
        volume = self.volumes[-1] if self.volumes else 0.0
        self.volumes.append(volume + self._gain(values) if values and counts else volume)

    def _gain(self, values: Mapping[str, float]) -> float:
        """Return what a point adds, and let it join the front: its own box less what the front covers of it."""
        point = (self._costs(values) - self._best) / (self._worst - self._best)
        if (point >= 1).any() or (self._front <= point).all(axis=1).any():
            return 0.0
        covered = np.maximum(self._front, point)
        covered = covered[pareto.non_dominated(covered)]
        self._front = np.vstack([self._front[~(point <= self._front).all(axis=1)], point])
        return float(np.prod(1 - point)) - pareto.hypervolume(covered, np.ones(len(point)))
