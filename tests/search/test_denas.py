import numpy as np
import pytest

from nas_compress.constraints import Constraint
from nas_compress.errors import ConfigError
from nas_compress.objectives.base import AnalyticObjective, Objective
from nas_compress.search import SearchProblem, Trial, strategies
from nas_compress.search.denas import DeNAS
from nas_compress.space import Dimension, SearchSpace, depth_conditions

SPACE = SearchSpace(
    "net",
    (
        Dimension.uniform("depth", (2, 3, 4)),
        Dimension.uniform("heads", (2, 4, 6, 8), 4),
        Dimension.uniform("width", tuple(range(8, 520, 8)), 4),
    ),
    depth_conditions("depth", ("heads", "width"), [4]),
)


class Score(Objective):
    name, direction, unit, column = "score", "maximize", "", ""

    def measure(self, subnet, architecture):
        raise AssertionError("a strategy never measures")


class Size(AnalyticObjective):
    name, direction, unit, column = "size", "minimize", "", ""

    def compute(self, architectures):
        return np.array([sum(a["width"]) for a in architectures], dtype=float)


def score(architecture):
    """Best at depth 4, with 8 heads and widths of 304."""
    widths = [abs(w - 304) for w in architecture["width"] if w]
    return 10 * architecture["depth"][0] + sum(architecture["heads"]) - sum(widths) / 8


def run(strategy, budget):
    values = []
    while len(values) < budget:
        batch = strategy.ask(budget - len(values))
        table = Size().compute(batch)
        trials = [Trial(a, {"score": score(a), "size": s}) for a, s in zip(batch, table, strict=True)]
        strategy.tell(
            [Trial(t.architecture, {o.name: t.values[o.name] for o in strategy.problem.metrics}) for t in trials]
        )
        values += [t.values for t in trials]
    return values


def best(name, seed, budget=300, **options):
    strategy = strategies.get(name)(SearchProblem(SPACE, [Score()]), seed=seed, **options)
    return max(v["score"] for v in run(strategy, budget))


def test_evolution_evolves():
    """It finds better architectures than as many random ones, whatever the seed."""
    pairs = [(best("denas", seed), best("random", seed)) for seed in range(10)]
    assert all(evolved > drawn for evolved, drawn in pairs)
    assert np.mean([evolved for evolved, _ in pairs]) > score(SPACE.largest()) / 2 + 30


def test_later_generations_are_better():
    values = [v["score"] for v in run(DeNAS(SearchProblem(SPACE, [Score()])), 300)]
    means = [np.mean(values[start : start + 50]) for start in range(0, 300, 50)]
    assert means[-1] > means[2] > means[0]


def test_limits_are_kept_and_the_best_lies_at_them():
    problem = SearchProblem(SPACE, [Score()], constraints=[Constraint("size", "<=", 600.0)], limited=[Size()])
    values = run(DeNAS(problem), 400)
    assert all(v["size"] <= 600 for v in values)
    found = max(values, key=lambda v: v["score"])
    assert found["score"] > max(v["score"] for v in values[:50]) and found["size"] > 400


def test_several_objectives_spread_over_the_front():
    problem = SearchProblem(SPACE, [Score(), Size()])
    values = run(DeNAS(problem), 300)
    late = values[150:]
    assert max(v["score"] for v in late) > max(v["score"] for v in values[:50])
    assert min(v["size"] for v in late) < min(v["size"] for v in values[:50])


def test_children_are_as_many_as_asked_for():
    strategy = DeNAS(SearchProblem(SPACE, [Score()]), population=20, crossovers=3, mutants=4)
    assert len(strategy.ask(100)) == 20
    strategy.tell([Trial(a, {"score": score(a)}) for a in SPACE.sample(np.random.default_rng(0), 20)])
    assert len(strategy.ask(100)) == 7


def test_genes_with_many_values_move_in_steps():
    strategy = DeNAS(SearchProblem(SPACE, [Score()]), m_prob=1.0, s_prob=0.0)
    row = SPACE.encode([SPACE.largest()])
    mutants = strategy._mutate(row, 200)
    widths = mutants[:, 5:]
    assert widths.min() >= 63 - 16 and len(np.unique(widths)) == 17
    assert (mutants[:, 0] == row[0, 0]).all()
    assert set(np.unique(mutants[:, 1:5])) == {0, 1, 2, 3}


def test_whole_network_genes_mutate_with_their_own_probability():
    strategy = DeNAS(SearchProblem(SPACE, [Score()]), m_prob=0.0, s_prob=1.0)
    mutants = strategy._mutate(SPACE.encode([SPACE.largest()]), 200)
    assert set(np.unique(mutants[:, 0])) == {0, 1, 2}
    assert (mutants[:, 1:] == SPACE.cardinalities[1:] - 1).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"parents": 0}, "parents: 0 is not allowed; wants at least 1"),
        ({"crossovers": -1}, "crossovers: -1 is not allowed; wants at least 0"),
        ({"m_prob": 1.5}, "m_prob: 1.5 is no probability"),
        ({"crossovers": 0, "mutants": 0}, "wants at least one child"),
    ],
)
def test_options_out_of_range(options, words):
    with pytest.raises(ConfigError, match=words):
        DeNAS(SearchProblem(SPACE, [Score()]), **options)
