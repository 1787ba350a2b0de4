"""What of an earlier search is measured first; that the `NAS` agent does so is tested in test_agent.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from nas_compress.constraints import parse_constraint
from nas_compress.objectives.base import AnalyticObjective, Measurement, Objective
from nas_compress.search import SearchProblem, Trial, pareto
from nas_compress.space import Architecture, Dimension, SearchSpace
from nas_compress.warm_start import best_of

SPACE = SearchSpace("toy", (Dimension.uniform("k", tuple(range(10)), 2),))


class Quality(Objective):
    name: ClassVar[str] = "acc"
    direction, unit, column = "maximize", "%", ""

    def measure(self, subnet: Any, architecture: Architecture) -> Measurement:
        raise AssertionError("a warm start never measures")


class Latency(Quality):
    name, direction, unit = "latency", "minimize", "ms"


class Size(AnalyticObjective):
    name, direction, unit, column = "macs", "minimize", "", ""

    def compute(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        return np.array([1.0 + sum(a["k"]) for a in architectures])


def trial(a: int, b: int, **values: float) -> Trial:
    return Trial(Architecture({"k": (a, b)}), values)


def genes(found: Sequence[Architecture]) -> list[tuple[Any, ...]]:
    return [a["k"] for a in found]


def test_every_beginning_of_the_front_is_the_greedy_choice() -> None:
    rng = np.random.default_rng(0)
    points = list(dict.fromkeys(SPACE.sample(rng, 60)))
    angle = rng.random(len(points)) * np.pi / 2
    trials = [Trial(a, {"acc": np.sin(t), "latency": 1 - np.cos(t)}) for a, t in zip(points, angle, strict=True)]
    problem = SearchProblem(SPACE, [Quality(), Latency()])
    costs = {t.architecture: (-t.values["acc"], t.values["latency"]) for t in trials}
    reference = pareto.reference_point(np.array(list(costs.values())))
    found = best_of(trials, problem, 12)
    assert len(found) == 12 and found[:5] == best_of(trials, problem, 5)
    for n in range(12):
        measured = [costs[a] for a in found[:n]]
        gains = {a: pareto.hypervolume(np.array([*measured, costs[a]]), reference) for a in points}
        assert gains[found[n]] == max(gains.values())


def test_macs_stand_in_for_a_latency_that_the_earlier_search_did_not_measure() -> None:
    trials = [trial(0, 1, acc=60.0), trial(3, 2, acc=70.0), trial(4, 4, acc=65.0), trial(9, 9, acc=80.0)]
    bare = SearchProblem(SPACE, [Quality(), Latency()])
    assert genes(best_of(trials, bare, 10)) == [(9, 9)]
    described = SearchProblem(SPACE, [Quality(), Latency()], descriptors=[Size()])
    assert set(genes(best_of(trials, described, 10))) == {(0, 1), (3, 2), (9, 9)}


def test_nothing_stands_in_for_a_quality() -> None:
    trials = [trial(0, 1, latency=3.0), trial(5, 5, latency=2.0), trial(9, 9, latency=7.0)]
    problem = SearchProblem(SPACE, [Quality(), Latency()], descriptors=[Size()])
    assert genes(best_of(trials, problem, 10)) == [(5, 5)]


def test_computed_objectives_are_computed_whatever_the_earlier_search_knew() -> None:
    trials = [trial(0, 1, acc=60.0), trial(3, 2, acc=70.0), trial(4, 4, acc=65.0, macs=1.0)]
    assert set(genes(best_of(trials, SearchProblem(SPACE, [Quality(), Size()]), 10))) == {(0, 1), (3, 2)}


@pytest.mark.parametrize("limit", ["<= 0.5", "<= 6"])
def test_what_breaks_a_computed_limit_is_left_out(limit: str) -> None:
    trials = [trial(0, 1, acc=60.0), trial(3, 2, acc=70.0), trial(9, 9, acc=80.0)]
    problem = SearchProblem(SPACE, [Quality(), Size()], [parse_constraint(limit, name="macs", unit="")])
    kept = {(0, 1), (3, 2)} if limit == "<= 6" else set()
    assert set(genes(best_of(trials, problem, 10))) == kept
