"""Checks of points and limits that are given by metric, in natural units, against what a metric can be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nas_compress.approaches import SearchOptions, canonical
from nas_compress.constraints import Constraint
from nas_compress.settings import Location, Problem, show


def point_problems(point: Mapping[str, float], options: SearchOptions, location: Location) -> Iterator[Problem]:
    """Check that a point has a value for every objective, and for nothing else."""
    wanted = [canonical(name) for name in options.metrics]
    for name in point:
        if canonical(name) not in wanted:
            yield Problem(location, f"{name!r} is not among metrics: {', '.join(options.metrics)}")
    given = [canonical(name) for name in point]
    if missing := [name for name in wanted if name not in given]:
        yield Problem(location, f"lacks a value for {', '.join(missing)}")
    if len(set(given)) < len(given):
        yield Problem(location, f"has two values for one metric: {', '.join(point)}")


def hopeless_problems(point: Mapping[str, float], location: Location) -> Iterator[Problem]:
    """Check that a reference point leaves room for something better."""
    for name, value in point.items():
        upward, best, _ = _ends(name)
        if best is not None and (value >= best if upward else value <= best):
            reason = f"{show(value)} leaves nothing better: {name} {'ends' if upward else 'begins'} at {best:g}"
            yield Problem((*location, name), f"{reason}; take a value that is worse than what is of use")


def unkept_problems(limit: Constraint, location: Location) -> Iterator[Problem]:
    """Check that a limit on a registered metric can be kept by the best value that there is; costs are above 0."""
    upward, best, unit = _ends(limit.name)
    if best is None or limit.relative or (limit.op[0] == ">") != upward:
        return
    if not limit.met(best, {}) or (not upward and unit != "%" and limit.bound == best):
        yield Problem(location, f"{limit} cannot be kept: {limit.name} {'ends' if upward else 'begins'} at {best:g}")


def _ends(name: str) -> tuple[bool, float | None, str]:
    """Return whether more of a metric is better, the best value that it can have, if that is known, and its unit."""
    from nas_compress.objectives import objectives
    from nas_compress.objectives.base import best_possible

    if name not in objectives:
        return False, None, ""
    info = objectives.entry(name).info
    return (
        info["direction"] == "maximize",
        best_possible(info["direction"], info["unit"], info.get("best")),
        info["unit"],
    )
