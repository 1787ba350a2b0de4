"""Warm start: what an earlier search, of the same hardware or another, tells a new one.

Source: ConcurrentNAS (section 4.4 and 4.5): the population of an earlier search is the first of the new one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nas_compress.errors import ConfigError
from nas_compress.search import SearchProblem, Trial, pareto
from nas_compress.search.problem import Limits
from nas_compress.space import Architecture, SearchSpace
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


def best_of(trials: Sequence[Trial], problem: SearchProblem, most: int) -> list[Architecture]:
    """Return the architectures of an earlier search that are worth measuring first: its front, thinned if need be.

    The front is that in the objectives that the trials have values of, among those that keep this problem's limits
    on computed metrics. Limits on measured ones are not looked at: they may hold for other hardware.

    Args:
        trials: As `read_warm_start` returns them.
        problem: The new search.
        most: The most architectures to return; a larger front is thinned to those that make up most of its
            hypervolume, chosen greedily.
    """
    shared = [o for o in problem.objectives if any(o.name in t.values for t in trials)]
    complete = [t for t in trials if all(o.name in t.values for o in shared)]
    if not shared or not complete:
        return []
    kept = Limits(problem).computed_excess([t.architecture for t in complete]) == 0
    complete = [t for t, keeps in zip(complete, kept, strict=True) if keeps]
    costs = pareto.costs([[t.values[o.name] for o in shared] for t in complete], [o.direction for o in shared])
    front = np.flatnonzero(pareto.non_dominated(costs))
    if len(front) > most:
        reference = pareto.reference_point(costs[front])
        front = front[np.sort(pareto.greedy_improvement(costs[front], costs[:0], reference, most))]
    return [complete[i].architecture for i in front]
