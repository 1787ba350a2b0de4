from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nas_compress.constraints import Constraint, parse_constraint
from nas_compress.errors import ConfigError
from nas_compress.objectives.base import AnalyticObjective, Measurement, Objective
from nas_compress.search import SearchProblem, Trial
from nas_compress.search.problem import Limits
from nas_compress.space import Architecture, Dimension, SearchSpace

SPACE = SearchSpace("two", (Dimension.uniform("k", (1, 2, 4), 2),))


class Measured(Objective):
    unit, column = "", ""

    def __init__(self, name: str, direction: str) -> None:
        self.name = name
        self.direction = direction  # type: ignore[misc,assignment]

    def measure(self, subnet: Any, architecture: Architecture) -> Measurement:
        raise AssertionError("never measured here")


class Size(AnalyticObjective):
    name, direction, unit, column = "size", "minimize", "", ""

    def compute(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        return np.array([float(sum(a["k"])) for a in architectures])


ACC, LATENCY = Measured("acc", "maximize"), Measured("latency", "minimize")


def limits(*texts: tuple[str, str]) -> Limits:
    constraints = [parse_constraint(text, name=name, unit="") for name, text in texts]
    return Limits(SearchProblem(SPACE, [ACC, Size()], constraints, [LATENCY]))


def excess(given: Limits, **values: float) -> float:
    return float(given.excess({name: np.array([value]) for name, value in values.items()})[0])


def test_costs_are_minimised_and_limited_metrics_no_part_of_them() -> None:
    problem = SearchProblem(SPACE, [ACC, Size()], limited=[LATENCY])
    trials = [Trial(SPACE.smallest(), {"acc": 70.0, "size": 2.0, "latency": 9.0})]
    assert [o.name for o in problem.metrics] == ["acc", "size", "latency"]
    assert problem.costs(problem.table(trials)).tolist() == [[-70.0, 2.0]]


def test_first_is_canonical_and_each_once() -> None:
    largest = Architecture({"k": [4, 4]})
    assert SearchProblem(SPACE, [ACC], first=[largest, SPACE.largest()]).first == (largest,)


@pytest.mark.parametrize("objectives", [[], [ACC, ACC]])
def test_objectives_that_make_no_problem(objectives: list[Objective]) -> None:
    with pytest.raises(ConfigError, match="objectives"):
        SearchProblem(SPACE, objectives)


def test_a_limit_on_what_is_not_measured() -> None:
    with pytest.raises(ConfigError, match="'latency' is not among acc"):
        SearchProblem(SPACE, [ACC], [Constraint("latency", "<=", 2.0)])


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [("<= 4", 4.0, 0), ("<= 4", 5.0, 0.25), (">= 4", 3.0, 0.25), (">= 4", 4.0, 0), ("<= 0", 2.0, 2.0)],
)
def test_excess_is_in_parts_of_the_limit(text: str, value: float, expected: float) -> None:
    assert excess(limits(("latency", text)), latency=value) == pytest.approx(expected)


def test_strict_limits_are_not_met_by_equal_values() -> None:
    assert excess(limits(("latency", "< 4")), latency=4.0) > 0
    assert excess(limits(("latency", "> 4")), latency=4.0) > 0


def test_limits_add_up_and_those_on_absent_metrics_are_left_out() -> None:
    both = limits(("latency", "<= 4"), ("acc", ">= 50"))
    assert excess(both, latency=8.0, acc=25.0) == pytest.approx(1.5)
    assert excess(both, latency=8.0) == pytest.approx(1.0)


def test_a_relative_limit_on_a_computed_metric_is_known_at_once() -> None:
    half = limits(("size", "<= 0.5 x largest"))
    assert not half.waits_for_largest
    assert half.computed_excess(SPACE.encode([SPACE.smallest(), SPACE.largest()])).tolist() == [0.0, 1.0]


def test_a_relative_limit_on_a_measured_metric_waits_for_the_largest() -> None:
    half = limits(("latency", "<= 0.5 x largest"))
    assert half.waits_for_largest
    assert excess(half, latency=100.0) == 0
    half.learn([Trial(SPACE.largest(), error="out of memory"), Trial(SPACE.smallest(), {"latency": 1.0})])
    assert half.waits_for_largest
    half.learn([Trial(SPACE.largest(), {"latency": 10.0})])
    assert not half.waits_for_largest
    assert excess(half, latency=10.0) == pytest.approx(1.0)
