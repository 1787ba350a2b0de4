"""Checks of points that are given by metric, in natural units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nas_compress.approaches import SearchOptions, canonical
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
    from nas_compress.objectives import objectives
    from nas_compress.objectives.base import best_possible

    for name, value in point.items():
        info = objectives.entry(name).info if name in objectives else {}
        if not info:
            continue
        upward = info["direction"] == "maximize"
        best = best_possible(info["direction"], info["unit"], info.get("best"))
        if best is not None and (value >= best if upward else value <= best):
            reason = f"{show(value)} leaves nothing better: {name} {'ends' if upward else 'begins'} at {best:g}"
            yield Problem((*location, name), f"{reason}; take a value that is worse than what is of use")
