"""What every registered search strategy must do about limits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from problems import (
    BLIND,
    BUDGET,
    LARGE,
    MEDIUM,
    TINY,
    Cost,
    Make,
    Measured,
    maker,
    most_objectives,
    search,
    value,
)

from nas_compress.constraints import Constraint
from nas_compress.errors import InfeasibleError
from nas_compress.objectives.base import AnalyticObjective
from nas_compress.space import Architecture

LOW_COST = Constraint("cost", "<=", 22e6)


class Codes(AnalyticObjective):
    """The number of genes that differ from a fixed pattern: exactly one architecture has none."""

    name, direction, unit, column = "codes", "minimize", "", ""

    def compute(self, architectures: Sequence[Architecture]) -> np.ndarray:
        pattern = (7, 3, 5, 7) * 4
        return np.array([sum(a != b for a, b in zip(x["k"], pattern, strict=True)) for x in architectures], float)


def with_codes(architecture: Architecture) -> dict[str, float]:
    return {**value(architecture), "codes": float(Codes().compute([architecture])[0])}


def objectives(name: str) -> list[Measured]:
    return [Measured("acc", "maximize"), Measured("latency", "minimize")][: most_objectives(name)]


@pytest.mark.parametrize("constraint", [LOW_COST, Constraint("cost", "<", 0.5, relative=True)])
def test_limits_on_computed_metrics_are_never_broken(make: Make, name: str, constraint: Constraint) -> None:
    first = [MEDIUM.largest(), MEDIUM.smallest()]
    asked = search(make(objectives=objectives(name), limited=[Cost()], constraints=[constraint], first=first))
    assert asked[:2] == first
    assert len(set(asked)) == BUDGET
    largest = {"cost": value(MEDIUM.largest())["cost"]}
    assert all(constraint.met(value(a)["cost"], largest) for a in asked[1:])


def test_all_that_keep_the_limits_are_found(make: Make, name: str) -> None:
    constraint = Constraint("cost", "<=", 12e6)
    asked = search(make(TINY, objectives=objectives(name), limited=[Cost()], constraints=[constraint]), budget=100)
    everything = TINY.decode(np.array(list(TINY.enumerate())))
    assert set(asked) == {a for a in everything if value(a)["cost"] <= 12e6}


def feasible(name: str, constraint: Constraint, seed: int) -> list[bool]:
    """Return which of 90 asked keep a limit on a metric that is measured and not optimised."""
    limited = [Measured("energy", "minimize")]
    strategy = maker(name)(
        LARGE, objectives(name), limited=limited, constraints=[constraint], seed=seed, first=[LARGE.largest()]
    )
    largest = value(LARGE.largest())
    return [constraint.met(value(a)["energy"], largest) for a in search(strategy, budget=90)]


@pytest.mark.parametrize("constraint", [Constraint("energy", "<=", 290.0), Constraint("energy", "<=", 0.37, True)])
def test_limits_on_measured_metrics_steer(name: str, constraint: Constraint) -> None:
    if name in BLIND:
        pytest.skip(f"{name} looks at nothing that was measured")
    late = sum(sum(feasible(name, constraint, seed)[45:]) for seed in (0, 1))
    by_chance = sum(sum(feasible("random", constraint, seed)[45:]) for seed in (0, 1))
    assert late > by_chance + 5


def test_relative_limits_on_measured_metrics_measure_the_largest_first(make: Make, name: str) -> None:
    limited, constraint = [Measured("energy", "minimize")], Constraint("energy", "<=", 0.5, relative=True)
    asked = search(make(objectives=objectives(name), limited=limited, constraints=[constraint]))
    assert asked[0] == MEDIUM.largest()
    assert len(set(asked)) == BUDGET


def test_measured_limits_that_nothing_meets(make: Make, name: str) -> None:
    limited, constraint = [Measured("energy", "minimize")], Constraint("energy", "<=", 1.0)
    asked = search(make(objectives=objectives(name), limited=limited, constraints=[constraint]))
    assert len(set(asked)) == BUDGET


@pytest.mark.parametrize("space", [TINY, LARGE])
def test_limits_that_nothing_meets_are_refused_after_bounded_tries(make: Make, name: str, space: object) -> None:
    computed = []

    class Counted(Cost):
        def compute(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
            computed.append(len(architectures))
            return super().compute(architectures)

    with pytest.raises(InfeasibleError, match="cost <= 1000000; the closest found has cost"):
        make(space, objectives(name), limited=[Counted()], constraints=[Constraint("cost", "<=", 1e6)])
    assert sum(computed) < 150_000


def test_limits_that_hardly_anything_meets(make: Make, name: str) -> None:
    """One architecture of 43 million keeps the limit: it is asked for, and the search ends."""
    limited, constraint = [Codes()], Constraint("codes", "<", 1.0)
    asked = search(make(LARGE, objectives(name), limited=limited, constraints=[constraint]), evaluate=with_codes)
    assert [float(Codes().compute([a])[0]) for a in asked] == [0.0]


def test_limits_that_few_meet(make: Make, name: str) -> None:
    limited, constraint = [Codes()], Constraint("codes", "<=", 2.0)
    asked = search(make(LARGE, objectives(name), limited=limited, constraints=[constraint]), evaluate=with_codes)
    assert len(set(asked)) == BUDGET
    assert max(Codes().compute(asked)) <= 2
