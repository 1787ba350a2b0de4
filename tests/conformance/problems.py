"""Small problems that every strategy is tried on, and the loop that tries it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_compress.objectives.base import AnalyticObjective, Measurement, Objective
from nas_compress.search import SearchProblem, SearchStrategy, Trial, strategies
from nas_compress.space import Architecture, Dimension, SearchSpace, depth_conditions

TINY = SearchSpace(
    "tiny",
    (Dimension.uniform("k", (3, 5), 2), Dimension.uniform("d", (1, 2)), Dimension.uniform("r", (8,))),
    depth_conditions("d", ("k",), [2]),
)
MEDIUM = SearchSpace(
    "medium",
    (Dimension.uniform("k", (3, 5, 7), 6), Dimension.uniform("d", (1, 2, 3), 2)),
    depth_conditions("d", ("k",), [3, 3]),
)
LARGE = SearchSpace(
    "large",
    (Dimension.uniform("k", (3, 5, 7), 16), Dimension.uniform("d", (2, 3, 4), 4)),
    depth_conditions("d", ("k",), [4, 4, 4, 4]),
)
BUDGET = 45
WITHOUT_SEED = ("grid",)
"""Strategies that leave nothing to chance."""
OPTIONS: dict[str, dict[str, int]] = {
    "concurrent": {"generations": 25},
    "full": {"training_samples": 30, "generations": 25},
}
"""What strategies need so that the budgets here reach all their phases, in little time."""
BLIND = ("grid", "random")
"""Strategies that do not look at what was measured."""


class Measured(Objective):
    unit, column = "", ""

    def __init__(self, name: str, direction: str) -> None:
        self.name = name
        self.direction = direction  # type: ignore[misc,assignment]

    def measure(self, subnet: Any, architecture: Architecture) -> Measurement:
        raise AssertionError("a strategy never measures")


class Cost(AnalyticObjective):
    name, direction, unit, column = "cost", "minimize", "", ""

    def compute(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        return np.array([value(a)["cost"] for a in architectures], dtype=np.float64)


def value(architecture: Architecture) -> dict[str, float]:
    k = np.array(architecture["k"], dtype=float)
    return {
        "cost": 1e6 * k.sum(),
        "acc": 100 - 50 / (1 + (np.sqrt(k) * [*range(1, len(k) + 1)]).sum()),
        "latency": 1.0 + float(sum(architecture["d"])) + k[0] / 10,
        "energy": float((k**2).sum()),
    }


OBJECTIVES = (Measured("acc", "maximize"), Cost(), Measured("latency", "minimize"), Measured("energy", "minimize"))
Evaluate = Callable[[Architecture], Mapping[str, float] | None]
Make = Callable[..., SearchStrategy]


def search(
    strategy: SearchStrategy, budget: int = BUDGET, pieces: Iterator[int] | None = None, evaluate: Evaluate = value
) -> list[Architecture]:
    """Run the study's loop; `evaluate` returning None is a failure. Return what was asked, in order."""
    asked: list[Architecture] = []
    names = [objective.name for objective in strategy.problem.metrics]
    while len(asked) < budget:
        wanted = min(next(pieces) if pieces else budget, budget - len(asked))
        batch = strategy.ask(wanted)
        assert len(batch) <= wanted
        if not batch:
            break
        values = [evaluate(a) for a in batch]
        trials = [
            Trial(a, {name: v[name] for name in names}) if v else Trial(a, error="broken")
            for a, v in zip(batch, values, strict=True)
        ]
        strategy.tell(trials)
        asked += batch
    return asked


def most_objectives(name: str) -> int:
    most: int = strategies.entry(name).info.get("objectives", len(OBJECTIVES))
    return most


def maker(name: str) -> Make:
    """Return a function that makes a strategy on a space, on two objectives unless told otherwise."""

    def build(space: SearchSpace = MEDIUM, objectives: Sequence[Objective] | None = None, **options: Any) -> Any:
        chosen = OBJECTIVES[: min(2, most_objectives(name))] if objectives is None else objectives
        of_problem = {key: options.pop(key) for key in ("first", "constraints", "limited") if key in options}
        problem = SearchProblem(space, chosen, **of_problem)
        return strategies.get(name)(problem, **{"seed": 3, "population": 8, **OPTIONS.get(name, {}), **options})

    return build
