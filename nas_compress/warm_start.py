"""Warm start: what an earlier search, of the same hardware or another, tells a new one.

Source: ConcurrentNAS (section 4.4 and 4.5): the population of an earlier search is the first of the new one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nas_compress.errors import ConfigError
from nas_compress.objectives.base import AnalyticObjective, Objective
from nas_compress.search import SearchProblem, Trial, pareto
from nas_compress.search.problem import Limits
from nas_compress.space import Architecture, SearchSpace
from nas_compress.space.precision import PrecisionSpace
from nas_compress.tables import read_results

logger = logging.getLogger(__name__)


def read_warm_start(
    path: Path, whole: SearchSpace, space: SearchSpace, objectives: Sequence[str], limited: Sequence[str] = ()
) -> list[Trial]:
    """Return what a table or an archive knows of this search's metrics, one trial per architecture, in its order.

    Repeats are averaged. Trials have the values that the file has; not all metrics need be there.

    Args:
        path: The file: an archive, or a table of INC, DyNAS-T or a published space.
        whole: The super-network's space, which the file is about.
        space: The part of it that is searched; what lies outside is left out.
        objectives: The metrics that are optimised.
        limited: The metrics that limits alone are about.

    Raises:
        ArchiveError: The file cannot be read, or is about another space.
        ConfigError: It has no objective of this search, or no architecture with one inside `space`.
    """
    rows = read_results(path, whole)
    if not any(name in values for _, values in rows for name in objectives):
        raise ConfigError(f"{path} has none of this search's objectives ({', '.join(objectives)})")
    found: dict[Architecture, dict[str, list[float]]] = {}
    for architecture, values in rows:
        for name in (*objectives, *limited):
            if name in values:
                found.setdefault(architecture, {}).setdefault(name, []).append(values[name])
    inside = {a: values for a, values in found.items() if space.contains(a)}
    if len(inside) < len(found):
        logger.info("%d of %d architectures of %s are outside search_space", len(found) - len(inside), len(found), path)
    if not any(name in values for values in inside.values() for name in objectives):
        raise ConfigError(f"{path} has no architecture inside search_space with any of the objectives")
    return [Trial(a, {name: float(np.mean(v)) for name, v in values.items()}) for a, values in inside.items()]


def warm_started(
    problem: SearchProblem, path: Path, whole: SearchSpace, limited: Sequence[str], most: int
) -> SearchProblem:
    """Return a problem with what an earlier search knows of it, and the best of that asked for first.

    Args:
        problem: The new search.
        path: The file of the earlier one; see `read_warm_start`, whose errors are raised.
        whole: The super-network's space.
        limited: The metrics that limits alone are about.
        most: The most architectures to ask for first.
    """
    prior = read_warm_start(path, whole, problem.space, [o.name for o in problem.objectives], limited)
    return replace(problem, first=[*problem.first, *best_of(prior, problem, most)], prior=prior)


def best_of(trials: Sequence[Trial], problem: SearchProblem, most: int) -> list[Architecture]:
    """Return the architectures of an earlier search that are worth measuring first, the most telling first.

    They are its front in this problem's objectives, among the trials that keep its limits on computed metrics, in the
    order in which they add most to the front's hypervolume. Limits on measured metrics are not looked at: they may
    hold for other hardware. Objectives that can be computed are computed. Where the earlier search has no value of a
    measured cost, the first descriptor that is a cost (MACs) stands in for it: without one, nothing but the most
    accurate architecture would be left of a search for accuracy and MACs when latency is what counts now. Where
    precisions are searched, each comes in the lowest precision first, and then as it was.

    Args:
        trials: As `read_warm_start` returns them.
        problem: The new search.
        most: The most architectures to return.
    """
    criteria = _criteria(trials, problem)
    measured = [o for o in criteria if not isinstance(o, AnalyticObjective)]
    complete = [t for t in trials if all(o.name in t.values for o in measured)]
    if not criteria or not complete:
        return []
    rows = problem.space.encode([t.architecture for t in complete])
    kept = Limits(problem).computed_excess(rows) == 0
    rows, complete = rows[kept], [t for t, keeps in zip(complete, kept, strict=True) if keeps]
    columns = [
        o.compute_encoded(problem.space, rows)
        if isinstance(o, AnalyticObjective)
        else [t.values[o.name] for t in complete]
        for o in criteria
    ]
    costs = pareto.costs(np.column_stack(columns), [o.direction for o in criteria])
    front = np.flatnonzero(pareto.non_dominated(costs))
    if not len(front):
        return []
    order = pareto.greedy_improvement(costs[front], costs[:0], pareto.reference_point(costs[front]), most)
    best = [complete[i].architecture for i in front[order]]
    return problem.space.lowered_too(best)[:most] if isinstance(problem.space, PrecisionSpace) else best


def _criteria(trials: Sequence[Trial], problem: SearchProblem) -> list[Objective]:
    """Return what the earlier trials are compared by: this problem's objectives, or what stands in for one."""
    values = {name for trial in trials for name in trial.values}
    criteria = [o for o in problem.objectives if o.name in values or isinstance(o, AnalyticObjective)]
    names = {o.name for o in problem.objectives}
    lacks_cost = any(o.direction == "minimize" for o in problem.objectives if o not in criteria)
    spare = [o for o in problem.descriptors if o.direction == "minimize" and o.name not in names]
    return [*criteria, *spare[:1]] if criteria and lacks_cost else criteria
