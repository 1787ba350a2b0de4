"""What every registered search strategy must do, whatever it is."""

from __future__ import annotations

import random
import subprocess
import sys
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from problems import (
    BUDGET,
    MEDIUM,
    OBJECTIVES,
    TINY,
    WITHOUT_SEED,
    Cost,
    Make,
    Measured,
    most_objectives,
    search,
    value,
)

from nas_compress.errors import ConfigError
from nas_compress.space import Architecture


def test_asks_are_distinct_and_canonical(make: Make) -> None:
    asked = search(make())
    assert len(set(asked)) == len(asked) == BUDGET
    assert [MEDIUM.canonicalize(a) for a in asked] == asked


def test_same_seed_same_search(make: Make, name: str) -> None:
    np.random.seed(0)
    random.seed(0)
    one = search(make())
    np.random.seed(1)
    random.seed(1)
    assert search(make()) == one
    assert (search(make(seed=4)) == one) == (name in WITHOUT_SEED)


def test_global_generators_stay_as_they_are(make: Make) -> None:
    np.random.seed(0)
    random.seed(0)
    search(make())
    after = np.random.random(), random.random()
    np.random.seed(0)
    random.seed(0)
    assert after == (np.random.random(), random.random())


def test_budget_and_pieces_do_not_change_the_sequence(make: Make) -> None:
    whole = search(make())
    assert search(make(), budget=19) == whole[:19]
    assert search(make(), pieces=cycle((3, 1, 11))) == whole


def test_a_fresh_strategy_fed_from_the_record_goes_on_alike(make: Make) -> None:
    whole = search(make())
    record = {a: value(a) for a in search(make(), budget=23, pieces=cycle((5,)))}
    replayed = search(make(), pieces=cycle((2,)), evaluate=lambda a: record.get(a) or value(a))
    assert replayed == whole
    assert list(record) == whole[: len(record)]


def test_small_space_is_searched_completely(make: Make) -> None:
    asked = search(make(TINY), budget=100)
    assert len(asked) == len(set(asked)) == TINY.size() == 6


def test_medium_space_is_searched_completely(make: Make) -> None:
    space = MEDIUM.restrict({"d": (1, 2), "k": (3, 5)})
    assert len(set(search(make(space), budget=1000))) == space.size()


def test_space_of_one(make: Make) -> None:
    only = TINY.restrict({"k": 3, "d": 1})
    assert search(make(only)) == [only.smallest()]


def test_one_gene(make: Make) -> None:
    space = TINY.restrict({"k[1]": 3, "d": 1})
    assert len(search(make(space))) == space.size() == 2


def test_first_is_asked_first_and_once(make: Make) -> None:
    first = [MEDIUM.largest(), MEDIUM.sample(np.random.default_rng(0), 1)[0], MEDIUM.largest()]
    asked = search(make(first=first))
    assert asked[:2] == first[:2]
    assert len(set(asked)) == BUDGET


def test_more_first_than_population(make: Make) -> None:
    first = list(dict.fromkeys(MEDIUM.sample(np.random.default_rng(0), 30)))
    asked = search(make(first=first, population=4))
    assert asked[: len(first)] == first
    assert len(set(asked)) == BUDGET


@pytest.mark.parametrize("population", [1, 2, 7, 100])
def test_any_population(make: Make, population: int) -> None:
    assert len(set(search(make(population=population)))) == BUDGET


def test_some_trials_fail(make: Make) -> None:
    asked = search(make(), evaluate=lambda a: None if a["k"][0] == 7 else value(a))
    assert len(set(asked)) == BUDGET


def test_all_trials_fail(make: Make) -> None:
    assert len(set(search(make(TINY), budget=100, evaluate=lambda a: None))) == TINY.size()
    assert len(set(search(make(), evaluate=lambda a: None))) == BUDGET


def test_one_trial_succeeds(make: Make) -> None:
    asked = search(make(first=[MEDIUM.largest()]), evaluate=lambda a: value(a) if a == MEDIUM.largest() else None)
    assert len(set(asked)) == BUDGET


def test_a_generation_fails(make: Make) -> None:
    """Everything between the 16th and the 32nd trial fails: the search outlives it."""
    count = iter(range(BUDGET))
    asked = search(make(), evaluate=lambda a: None if 16 <= next(count) < 32 else value(a))
    assert len(set(asked)) == BUDGET


@pytest.mark.parametrize("constant", ["acc", "both"])
def test_constant_metrics(make: Make, name: str, constant: str) -> None:
    def evaluate(architecture: Architecture) -> dict[str, float]:
        return {"acc": 0.1, "cost": 0.1 if constant == "both" else value(architecture)["cost"]}

    objectives = (Measured("acc", "maximize"), Measured("cost", "minimize"))[: most_objectives(name)]
    assert len(set(search(make(objectives=objectives), evaluate=evaluate))) == BUDGET


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_any_number_of_objectives(make: Make, name: str, n: int) -> None:
    if n > (most := most_objectives(name)):
        with pytest.raises(ConfigError, match=f"'{name}' optimises {most} objective, not {n}"):
            make(objectives=OBJECTIVES[:n])
        return
    assert len(set(search(make(objectives=OBJECTIVES[:n])))) == BUDGET


def test_one_computed_objective(make: Make) -> None:
    assert len(set(search(make(objectives=[Cost()])))) == BUDGET


def test_units_and_directions_do_not_matter(make: Make, name: str) -> None:
    """Accuracy to maximize in percent is the same problem as error to minimize as a fraction."""
    by_error = (Measured("error", "minimize"), Cost())[: most_objectives(name)]

    def error(architecture: Architecture) -> dict[str, float]:
        v = value(architecture)
        return {"error": -v["acc"] / 128, "cost": v["cost"]}

    assert search(make(objectives=by_error), budget=32, evaluate=error) == search(make(), budget=32)


def test_no_torch() -> None:
    code = (
        "import sys; from nas_compress.search import strategies\n"
        "early = {'torch', 'sklearn', 'scipy', 'pymoo', 'pandas', 'cma', 'deap'} & set(sys.modules)\n"
        "from problems import maker, search\n"
        "for name in strategies: search(maker(name)(), budget=20)\n"
        "sys.exit(f'too early: {early}' if early else 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=_with_path())
    assert done.returncode == 0, done.stderr


def _with_path() -> dict[str, str]:
    import os

    here = Path(__file__).parent
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parents[1])])}
