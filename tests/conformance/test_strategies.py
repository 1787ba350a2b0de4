"""What every registered search strategy must do, whatever it is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nas_compress.objectives.base import AnalyticObjective, Measurement, Objective
from nas_compress.search import SearchStrategy, Trial, strategies
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
BUDGET = 45


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
    return {"cost": 1e6 * k.sum(), "acc": 100 - 50 / (1 + (np.sqrt(k) * [*range(1, len(k) + 1)]).sum())}


OBJECTIVES = (Measured("acc", "maximize"), Cost())
Evaluate = Callable[[Architecture], Mapping[str, float] | None]


def search(
    strategy: SearchStrategy, budget: int = BUDGET, pieces: Iterator[int] | None = None, evaluate: Evaluate = value
) -> list[Architecture]:
    """Run the study's loop; `evaluate` returning None is a failure. Return what was asked, in order."""
    asked: list[Architecture] = []
    while len(asked) < budget:
        wanted = min(next(pieces) if pieces else budget, budget - len(asked))
        batch = strategy.ask(wanted)
        assert len(batch) <= wanted
        if not batch:
            break
        values = [evaluate(a) for a in batch]
        trials = [Trial(a, v) if v else Trial(a, error="broken") for a, v in zip(batch, values, strict=True)]
        strategy.tell(trials)
        asked += batch
    return asked


@pytest.fixture(params=list(strategies))
def make(request: pytest.FixtureRequest) -> Callable[..., SearchStrategy]:
    cls = strategies.get(request.param)

    def build(space: SearchSpace = MEDIUM, objectives: Sequence[Objective] = OBJECTIVES, **options: Any) -> Any:
        return cls(space, objectives, **{"seed": 3, "population": 8, **options})

    return build


def test_asks_are_distinct_and_canonical(make: Callable[..., SearchStrategy]) -> None:
    asked = search(make())
    assert len(set(asked)) == len(asked) == BUDGET
    assert [MEDIUM.canonicalize(a) for a in asked] == asked


def test_same_seed_same_search(make: Callable[..., SearchStrategy]) -> None:
    np.random.seed(0)
    one = search(make())
    np.random.seed(1)
    assert search(make()) == one
    assert search(make(seed=4)) != one


def test_budget_and_pieces_do_not_change_the_sequence(make: Callable[..., SearchStrategy]) -> None:
    whole = search(make())
    assert search(make(), budget=19) == whole[:19]
    assert search(make(), pieces=cycle((3, 1, 11))) == whole


def test_small_space_is_searched_completely(make: Callable[..., SearchStrategy]) -> None:
    asked = search(make(TINY), budget=100)
    assert len(asked) == len(set(asked)) == TINY.size() == 6


def test_medium_space_is_searched_completely(make: Callable[..., SearchStrategy]) -> None:
    space = MEDIUM.restrict({"d": (1, 2), "k": (3, 5)})
    assert len(set(search(make(space), budget=1000))) == space.size()


def test_space_of_one(make: Callable[..., SearchStrategy]) -> None:
    only = TINY.restrict({"k": 3, "d": 1})
    assert search(make(only)) == [only.smallest()]


def test_first_is_asked_first_and_once(make: Callable[..., SearchStrategy]) -> None:
    first = [MEDIUM.largest(), MEDIUM.sample(np.random.default_rng(0), 1)[0], MEDIUM.largest()]
    asked = search(make(first=first))
    assert asked[:2] == first[:2]
    assert len(set(asked)) == BUDGET


@pytest.mark.parametrize("population", [1, 2, 7, 100])
def test_any_population(make: Callable[..., SearchStrategy], population: int) -> None:
    assert len(set(search(make(population=population)))) == BUDGET


def test_some_trials_fail(make: Callable[..., SearchStrategy]) -> None:
    asked = search(make(), evaluate=lambda a: None if a["k"][0] == 7 else value(a))
    assert len(set(asked)) == BUDGET


def test_all_trials_fail(make: Callable[..., SearchStrategy]) -> None:
    assert len(set(search(make(TINY), budget=100, evaluate=lambda a: None))) == TINY.size()


def test_one_trial_succeeds(make: Callable[..., SearchStrategy]) -> None:
    asked = search(make(), evaluate=lambda a: value(a) if a == MEDIUM.largest() else None)
    assert len(set(asked)) == BUDGET


@pytest.mark.parametrize("constant", ["acc", "both"])
def test_constant_metrics(make: Callable[..., SearchStrategy], constant: str) -> None:
    def evaluate(architecture: Architecture) -> dict[str, float]:
        return {"acc": 0.1, "cost": 0.1 if constant == "both" else value(architecture)["cost"]}

    objectives = (Measured("acc", "maximize"), Measured("cost", "minimize"))
    assert len(set(search(make(objectives=objectives), evaluate=evaluate))) == BUDGET


def test_one_objective(make: Callable[..., SearchStrategy]) -> None:
    assert len(set(search(make(objectives=[Measured("acc", "maximize")])))) == BUDGET
    assert len(set(search(make(objectives=[Cost()])))) == BUDGET


def test_three_objectives(make: Callable[..., SearchStrategy]) -> None:
    objectives = (*OBJECTIVES, Measured("latency", "minimize"))
    asked = search(make(objectives=objectives), evaluate=lambda a: {**value(a), "latency": float(sum(a["d"]))})
    assert len(set(asked)) == BUDGET


def test_units_and_directions_do_not_matter(make: Callable[..., SearchStrategy]) -> None:
    """Accuracy to maximize in percent is the same problem as error to minimize as a fraction."""
    by_error = (Measured("error", "minimize"), Cost())

    def error(architecture: Architecture) -> dict[str, float]:
        v = value(architecture)
        return {"error": -v["acc"] / 128, "cost": v["cost"]}

    assert search(make(objectives=by_error), budget=24, evaluate=error) == search(make(), budget=24)


@pytest.mark.parametrize("name", list(strategies))
def test_no_torch(name: str) -> None:
    code = (
        "import sys; from nas_compress.search import strategies\n"
        "heavy = {'torch', 'sklearn', 'pymoo', 'pandas'} & set(sys.modules)\n"
        f"strategies.get({name!r})\n"
        "sys.exit(f'{heavy} {\"torch\" in sys.modules}' if heavy or 'torch' in sys.modules else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
