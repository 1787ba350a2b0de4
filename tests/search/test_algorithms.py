from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_compress.errors import ConfigError, UnknownNameError
from nas_compress.search import pareto, strategies
from nas_compress.search.algorithms import ALGORITHMS, check_objectives, evolution
from nas_compress.search.evolver import Evolver
from nas_compress.space import Dimension, SearchSpace, depth_conditions

SPACE = SearchSpace(
    "blocks",
    (Dimension.uniform("k", (3, 5, 7), 8), Dimension.uniform("d", (1, 2, 3, 4), 2), Dimension.uniform("r", (8,))),
    depth_conditions("d", ("k",), [4, 4]),
)
SINGLE = ("ga", "cmaes")
MULTI = [name for name in ALGORITHMS if name not in SINGLE]
CASES = [(name, m) for name in ALGORITHMS for m in (1, 2, 3, 4) if m == 1 or name not in SINGLE]


def costs_of(rows: np.ndarray, m: int) -> np.ndarray:
    """Conflicting smooth costs: the more, the better the first, the worse the others."""
    x = (rows + 1) * SPACE.active(rows)
    weights = 1 + np.arange(x.shape[1]) / 10
    return np.column_stack([-np.sqrt(x) @ weights, x.sum(axis=1), (x**2) @ weights, -x[:, ::2].sum(axis=1)][:m])


def draw(n: int, seed: int = 0) -> np.ndarray:
    return SPACE.canonical(np.random.default_rng(seed).integers(0, SPACE.cardinalities, (n, len(SPACE.cardinalities))))


def run(evolver: Evolver, m: int, generations: int, start: int = 0) -> np.ndarray:
    """Return the rows of all generations, after some known ones to start from."""
    if start:
        evolver.start(draw(start), costs_of(draw(start), m))
    asked = []
    for _ in range(generations):
        rows = evolver.ask()
        evolver.tell(costs_of(rows, m))
        asked.append(rows)
    return np.vstack(asked)


def test_every_inner_strategy_is_here() -> None:
    assert set(ALGORITHMS) == {name for name in strategies if strategies.entry(name).info.get("inner")}
    assert check_objectives("agemoea", 2) == "age"


@pytest.mark.parametrize(("name", "m"), CASES)
def test_rows_are_canonical_and_the_population_holds_their_costs(name: str, m: int) -> None:
    evolver = evolution(name, SPACE, m, 10, 3)
    rows = run(evolver, m, 6)
    assert len(rows) >= 50
    assert ((rows >= 0) & (rows < SPACE.cardinalities)).all()
    assert (SPACE.canonical(rows) == rows).all()
    survivors, costs = evolver.population()
    assert 1 <= len(survivors) <= 10
    assert len(np.unique(survivors, axis=0)) == len(survivors)
    assert np.allclose(costs, costs_of(survivors, m))


@pytest.mark.parametrize(("name", "m"), CASES)
@pytest.mark.parametrize(("population", "known"), [(1, 1), (1, 3), (2, 40), (7, 1), (7, 7), (50, 3)])
def test_any_population_from_any_number_of_known(name: str, m: int, population: int, known: int) -> None:
    assert len(run(evolution(name, SPACE, m, population, 1), m, 3, start=known))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_same_seed_same_rows_and_global_generators_untouched(name: str) -> None:
    m = 1 if name in SINGLE else 2
    one = run(evolution(name, SPACE, m, 8, 5), m, 5)
    np.random.seed(1)
    random.seed(1)
    expected = np.random.random(), random.random()
    np.random.seed(1)
    random.seed(1)
    assert np.array_equal(run(evolution(name, SPACE, m, 8, np.random.default_rng(5)), m, 5), one)
    assert (np.random.random(), random.random()) == expected
    assert not np.array_equal(run(evolution(name, SPACE, m, 8, 6), m, 5), one)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_start_takes_the_best_of_what_is_known(name: str) -> None:
    m = 1 if name in SINGLE else 2
    rows = draw(200)
    costs = costs_of(rows, m)
    evolver = evolution(name, SPACE, m, 50, 0)
    evolver.start(rows, costs)
    best = {row.tobytes() for row in rows[pareto.non_dominated(costs)]}
    assert best & {row.tobytes() for row in evolver.population()[0]}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_excess_counts_before_costs(name: str) -> None:
    """What costs least breaks the limit: what survives keeps it all the same, and children mostly do."""
    m = 1 if name in SINGLE else 2
    evolver = evolution(name, SPACE, m, 20, 0)

    def excess(rows: np.ndarray) -> np.ndarray:
        return np.maximum(0.0, rows.sum(axis=1) - 5.0)

    rows = draw(40)
    evolver.start(rows, costs_of(rows, m), excess(rows))
    late = []
    for _ in range(20):
        rows = evolver.ask()
        evolver.tell(costs_of(rows, m), excess(rows))
        late = [*late, rows][-10:]
    assert (excess(evolver.population()[0]) == 0).all()
    assert (excess(np.vstack(late)) == 0).mean() > 1.2 * (excess(draw(1000)) == 0).mean()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_least_excess_is_sought_where_nothing_keeps_the_limits(name: str) -> None:
    m = 1 if name in SINGLE else 2
    evolver = evolution(name, SPACE, m, 20, 0)
    first = rows = draw(40)
    evolver.start(rows, costs_of(rows, m), 1.0 + rows.sum(axis=1))
    for _ in range(15):
        rows = evolver.ask()
        evolver.tell(costs_of(rows, m), 1.0 + rows.sum(axis=1))
    assert rows.sum(axis=1).mean() < first.sum(axis=1).mean() - 1


@pytest.mark.parametrize("name", ALGORITHMS)
def test_failed_individuals_never_survive(name: str) -> None:
    m = 1 if name in SINGLE else 2
    evolver = evolution(name, SPACE, m, 12, 0)
    rows = draw(6)
    evolver.start(rows, costs_of(rows, m))
    for generation in range(8):
        rows = evolver.ask()
        failed = (rows[:, 0] == 2) | (generation == 3)
        costs = np.where(failed[:, None], np.nan, costs_of(rows, m))
        evolver.tell(costs, np.where(failed, np.inf, 0.0))
    survivors, costs = evolver.population()
    known = {row.tobytes() for row in draw(6)}
    assert np.isfinite(costs).all()
    assert all(row[0] < 2 or row.tobytes() in known for row in survivors)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_nothing_known_but_failures(name: str) -> None:
    m = 1 if name in SINGLE else 2
    evolver = evolution(name, SPACE, m, 6, 0)
    evolver.start(draw(3), np.full((3, m), np.nan), np.full(3, np.inf))
    assert evolver.population()[0].shape == (0, len(SPACE.cardinalities))
    for _ in range(2):
        rows = evolver.ask()
        evolver.tell(np.full((len(rows), m), np.nan), np.full(len(rows), np.inf))
    assert len(run(evolver, m, 3))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_powers_of_two_and_signs_make_no_difference(name: str) -> None:
    m = 1 if name in SINGLE else 2
    plain, scaled = (evolution(name, SPACE, m, 8, 0) for _ in range(2))
    for _ in range(6):
        rows = plain.ask()
        assert np.array_equal(rows, scaled.ask())
        plain.tell(costs_of(rows, m))
        scaled.tell(costs_of(rows, m) * np.array([2.0**20, 2.0**-20][:m]))


@pytest.mark.parametrize("name", MULTI)
def test_children_come_of_any_kind_where_a_block_is_switched_on(name: str) -> None:
    if name == "mocmaes":
        pytest.skip("continuous: genes move, they are not switched")
    shallow = SPACE.encode([SPACE.restrict({"d": 1}).smallest()])
    kinds = set()
    for seed in range(60):
        evolver = evolution(name, SPACE, 2, 4, seed, mutation=0.2)
        evolver.start(shallow, np.zeros((1, 2)))
        kinds |= {int(row[1]) for row in evolver.ask() if SPACE.active(row[None])[0, 1]}
    assert kinds == {0, 1, 2}


def test_reference_points_attract() -> None:
    """R-NSGA-II ends closer to the point it was given than to the other end of the front."""
    ends = costs_of(SPACE.encode([SPACE.smallest(), SPACE.largest()]), 2)
    means = []
    for target in ends:
        evolver = evolution("rnsga2", SPACE, 2, 16, 0, references=[target], epsilon=0.001)
        run(evolver, 2, 20, start=30)
        means.append(evolver.population()[1][:, 1].mean())
    assert means[0] < ends[:, 1].mean() - 3 < ends[:, 1].mean() + 3 < means[1]


@pytest.mark.parametrize(
    ("name", "m", "options", "message"),
    [
        ("ga", 2, {}, "'ga' optimises 1 objective, not 2"),
        ("cmaes", 3, {}, "'cmaes' optimises 1 objective, not 3"),
        ("random", 2, {}, "'random' is no evolutionary algorithm; want one of nsga2, rnsga2, age"),
        ("nsga2", 2, {"crossover": 1.2}, "crossover: 1.2 is no probability"),
        ("age", 2, {"mutation": -0.1}, "mutation: -0.1 is no probability"),
        ("moead", 2, {"neighbours": 1}, "neighbours: 1 cannot be paired"),
        ("mocmaes", 2, {"step": 0}, "step: 0 is not a part of a gene's range"),
        ("rnsga2", 2, {"references": [[1.0, 2.0, 3.0]]}, r"references: shape \(1, 3\) is not \(points, 2\)"),
        ("rnsga2", 2, {"epsilon": -1.0}, "epsilon: -1.0"),
    ],
)
def test_mistakes_are_refused_before_work(name: str, m: int, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        evolution(name, SPACE, m, 10, 0, **options)


def test_unknown_name() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'unsga3'"):
        evolution("nsga3", SPACE, 2)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_space_that_is_used_up_ends_nothing(name: str) -> None:
    """All six architectures are known: there is nothing new to breed, and asking goes on."""
    space = SPACE.restrict({"d": 1, "k[1]": 3, "k[4]": (3, 5)})
    rows = np.array(list(space.enumerate()))
    m = 1 if name in SINGLE else 2
    evolver = evolution(name, space, m, 10, 0)
    evolver.start(rows, costs_of(rows, m))
    for _ in range(40):
        rows = evolver.ask()
        assert len(rows)
        evolver.tell(costs_of(rows, m))
    assert 1 <= len(evolver.population()[0]) <= 6


@settings(max_examples=12)
@given(st.integers(0, 1000), st.sampled_from(MULTI), st.integers(1, 12), st.integers(1, 9))
def test_ties_and_infinities_of_any_kind(seed: int, name: str, population: int, known: int) -> None:
    """Costs of two values, and excess among them, break nothing."""
    rng = np.random.default_rng(seed)
    evolver = evolution(name, SPACE, 2, population, seed)
    evolver.start(draw(known, seed), rng.integers(0, 2, (known, 2)).astype(float), rng.choice([0.0, 0.5], known))
    for _ in range(3):
        rows = evolver.ask()
        excess = rng.choice([0.0, 0.0, 1.5, np.inf], len(rows))
        evolver.tell(np.where(excess[:, None] == np.inf, np.nan, rng.integers(0, 2, (len(rows), 2))), excess)
    assert len(evolver.population()[0])
