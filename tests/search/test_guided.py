"""What the predictor-guided searches do; that they keep a strategy's promises is tested in conformance/."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.population import Population

from nas_compress.errors import ConfigError, UnknownNameError
from nas_compress.objectives.base import AnalyticObjective, Measurement, Objective
from nas_compress.predictors import predictors
from nas_compress.search import SearchProblem, SearchStrategy, Trial, pareto, strategies
from nas_compress.search.bo import BayesianOptimization
from nas_compress.search.concurrent import ConcurrentNAS
from nas_compress.search.dynas import OPENING, SHARE, DyNAS
from nas_compress.search.full import FullSearch
from nas_compress.space import Architecture, mobilenet_space

SPACE = mobilenet_space("blocks", stages=3)


def quality(architecture: Architecture) -> float:
    """Later blocks and wider ones help most, kernels a little, all with diminishing returns."""
    gain = sum(
        e * (1 + i / 6) + k / 4 for i, (e, k) in enumerate(zip(architecture["e"], architecture["ks"], strict=True))
    )
    return 100 * (1 - float(np.exp(-gain / 40)))


class Quality(Objective):
    name, direction, unit, column = "acc", "maximize", "%", ""

    def measure(self, subnet: Any, architecture: Architecture) -> Measurement:
        raise AssertionError("a strategy never measures")


class Latency(Quality):
    name, direction, unit = "latency", "minimize", "ms"


class Cost(AnalyticObjective):
    name, direction, unit, column = "cost", "minimize", "", ""

    def compute(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        return np.array([sum(np.array(a["e"]) * (10 + np.square(a["ks"]))) for a in architectures], dtype=np.float64)


TWO = SearchProblem(SPACE, [Quality(), Cost()])


def values(architecture: Architecture) -> dict[str, float]:
    return {"acc": quality(architecture), "cost": float(Cost().compute([architecture])[0])}


def run(strategy: SearchStrategy, budget: int) -> list[Trial]:
    trials: list[Trial] = []
    while len(trials) < budget:
        batch = [Trial(a, values(a)) for a in strategy.ask(budget - len(trials))]
        strategy.tell(batch)
        trials += batch
    return trials


def hypervolume(trials: Sequence[Trial]) -> float:
    reference = [-quality(SPACE.smallest()), float(Cost().compute([SPACE.largest()])[0])]
    return pareto.hypervolume(TWO.costs(TWO.table(trials)), reference)


Make = Callable[[int], SearchStrategy]


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: DyNAS(TWO, seed=seed),
        lambda seed: DyNAS(TWO, seed=seed, predictor="ridge", algorithm="age"),
        lambda seed: BayesianOptimization(TWO, seed=seed, batch=5),
        lambda seed: ConcurrentNAS(TWO, seed=seed, population=20, generations=40),
        lambda seed: FullSearch(TWO, seed=seed, population=20, generations=40, training_samples=30),
    ],
    ids=["dynas", "dynas-ridge-age", "bo", "concurrent", "full"],
)
def test_needs_far_fewer_measurements(make: Make) -> None:
    corners = [SPACE.smallest(), SPACE.largest()]
    problem = SearchProblem(SPACE, [Quality(), Cost()], first=corners)
    measured = [run(strategies.get("nsga2")(problem, seed=s, population=20), 120) for s in (0, 1)]
    guided = [run(make(s), 60) for s in (0, 1)]
    assert np.mean([hypervolume(t) for t in guided]) > np.mean([hypervolume(t) for t in measured])


# -- dynas -------------------------------------------------------------------------------------------------


def test_dynas_opens_with_smallest_and_largest() -> None:
    strategy = DyNAS(TWO)
    trials = run(strategy, OPENING)
    assert [t.architecture for t in trials[:2]] == [SPACE.smallest(), SPACE.largest()]


def test_dynas_batches_grow_to_their_limit() -> None:
    strategy, sizes = DyNAS(TWO, batch=3), []
    for _ in range(24):
        asked = strategy.ask(100)
        strategy.tell([Trial(a, values(a)) for a in asked])
        sizes.append(len(asked))
    assert sizes[:3] == [2, OPENING - 2, max(1, OPENING // SHARE)]
    assert sizes[2:] == sorted(sizes[2:])
    assert sizes[-1] == 3


def test_dynas_one_objective_finds_the_best() -> None:
    strategy, best = DyNAS(SearchProblem(SPACE, [Quality()]), seed=1), 0.0
    corners = strategy.ask(2)  # the optimum is among them, so these fail
    strategy.tell([Trial(a, error="out of memory") for a in corners])
    for _ in range(12):
        asked = strategy.ask(100)
        strategy.tell([Trial(a, {"acc": quality(a)}) for a in asked])
        best = max(best, *(quality(a) for a in asked), 0.0)
    assert best > 0.99 * quality(SPACE.largest())


def test_unknown_predictor_and_unfit_algorithm() -> None:
    with pytest.raises(UnknownNameError, match="unknown predictor 'gpr' .did you mean 'gp'"):
        DyNAS(TWO, predictor="gpr")
    with pytest.raises(ConfigError, match="optimises 1 objective"):
        DyNAS(TWO, algorithm="cmaes")
    with pytest.raises(ConfigError, match=r"algorithm_options: \[1\] wants values by name"):
        DyNAS(TWO, algorithm_options=[1])  # type: ignore[arg-type]


@pytest.mark.parametrize("strategy", [DyNAS, ConcurrentNAS, FullSearch])
def test_options_reach_the_algorithm_inside(strategy: Callable[..., SearchStrategy]) -> None:
    with pytest.raises(ConfigError, match="crossover: 3 is no probability"):
        strategy(TWO, algorithm_options={"crossover": 3})
    with pytest.raises(ConfigError, match="'nsga2' has no option 'step'; it takes crossover, mutation"):
        strategy(TWO, algorithm_options={"step": 0.1})
    with pytest.raises(ConfigError, match=r"references\[0\]: .* wants a number for each of acc, cost"):
        strategy(TWO, algorithm="rnsga2", algorithm_options={"references": [{"acc": 75.0}]})
    strategy(TWO, algorithm="rnsga2", algorithm_options={"references": None})


def test_points_draw_the_search_on_predictions_near() -> None:
    dear = float(Cost().compute([SPACE.largest()])[0])
    costs = []
    for share in (0.1, 0.9):
        points = {"references": [{"acc": quality(SPACE.largest()), "cost": share * dear}]}
        strategy = FullSearch(
            TWO, population=20, generations=30, training_samples=40, algorithm="rnsga2", algorithm_options=points
        )
        costs.append(np.mean([t.values["cost"] for t in run(strategy, 60)[40:]]))
    assert costs[0] < costs[1]


def test_an_algorithm_that_proposes_nothing_begins_anew() -> None:
    class Silent(NSGA2):  # type: ignore[misc]
        def _infill(self) -> Population:
            return Population.empty()

    for make in (DyNAS, ConcurrentNAS):
        options: dict[str, Any] = {} if make is DyNAS else {"generations": 3}
        strategy = make(TWO, population=10, algorithm=Silent(pop_size=10), **options)
        assert len(run(strategy, 25)) == 25


def test_points_draw_dynas_near() -> None:
    dear = float(Cost().compute([SPACE.largest()])[0])
    goal = {"acc": quality(SPACE.largest()), "cost": 0.3 * dear}
    near = []
    for algorithm in ("nsga2", "rnsga2"):
        options = {"algorithm_options": {"references": [goal]}} if algorithm == "rnsga2" else {}
        asked = [t for seed in (0, 1) for t in run(DyNAS(TWO, seed=seed, algorithm=algorithm, **options), 50)[25:]]
        near.append(np.mean([abs(t.values["cost"] / dear - 0.3) for t in asked]))
    assert near[1] < near[0]


def test_points_are_of_what_is_predicted_alone() -> None:
    problem = SearchProblem(SPACE, [Quality(), Cost(), Latency()])
    points = {"references": [{"acc": 90.0, "cost": 100.0, "latency": 2.0}]}
    strategy = ConcurrentNAS(
        problem, population=8, generations=2, validation_only=["latency"], algorithm="rnsga2", algorithm_options=points
    )
    for _ in range(3):
        strategy.tell([Trial(a, {**values(a), "latency": 1.0}) for a in strategy.ask(8)])


def test_summary_scores_the_predictors_on_held_out_measurements() -> None:
    strategy = DyNAS(TWO, predictor={"acc": "ridge"})
    assert strategy.summary() == {}
    run(strategy, 40)
    scores = strategy.summary()["predictors"]
    assert list(scores) == ["acc"]
    assert scores["acc"]["predictor"] == "ridge" and scores["acc"]["measurements"] == 40
    assert scores["acc"]["kendall_tau"] > 0.7 and 0 < scores["acc"]["mape"] < 10


def test_summary_of_few_measurements_leaves_each_out() -> None:
    strategy = DyNAS(TWO, predictor="ridge")
    run(strategy, 3)
    assert strategy.summary() == {"predictors": {}}
    run(strategy, 6)
    scores = strategy.summary()["predictors"]["acc"]
    assert scores["measurements"] == 9 and -1 <= scores["kendall_tau"] <= 1 and scores["mape"] > 0
    assert "chosen" not in scores and "weights" not in scores


@pytest.mark.parametrize(("name", "choice"), [("auto", "chosen"), ("ensemble", "weights")])
def test_summary_tells_what_a_predictor_chose(monkeypatch: pytest.MonkeyPatch, name: str, choice: str) -> None:
    members = ("ridge",) if name == "auto" else ("ridge", "gp")
    monkeypatch.setattr(f"nas_compress.predictors.{name}.{'CANDIDATES' if name == 'auto' else 'MEMBERS'}", members)
    strategy = DyNAS(TWO, predictor=name)
    run(strategy, 11)
    scores = strategy.summary()["predictors"]["acc"]
    assert scores["predictor"] == name
    assert scores[choice] == "ridge" if name == "auto" else set(scores[choice]) == {"ridge", "gp"}


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (ConcurrentNAS, "generations"),
        (FullSearch, "generations"),
        (FullSearch, "training_samples"),
        (DyNAS, "batch"),
        (BayesianOptimization, "batch"),
        *((make, "population") for make in (ConcurrentNAS, FullSearch, DyNAS, strategies.get("nsga2"))),
    ],
)
def test_numbers_below_one_are_refused(make: Callable[..., SearchStrategy], argument: str) -> None:
    for number in (0, -1):
        with pytest.raises(ConfigError, match=f"^{argument}: {number} is not at least 1$"):
            make(TWO, **{argument: number})


def test_predictors_of_what_is_not_predicted_are_refused() -> None:
    for name in ("cost", "foo"):
        with pytest.raises(ConfigError, match=f"predictor: '{name}' is not predicted by this search; predicted: acc"):
            DyNAS(TWO, predictor={"acc": "gp", name: "ridge"})
    both = ConcurrentNAS(TWO, predictor={"cost": "gp"}, validation_only=[])
    assert both.surrogate.names == {"acc": "ridge", "cost": "gp"}


# -- a warm start ------------------------------------------------------------------------------------------


def test_an_earlier_search_in_another_unit_saves_measurements() -> None:
    rng = np.random.default_rng(0)
    earlier = [Trial(a, {"acc": quality(a) / 100 - 0.2}) for a in SPACE.sample(rng, 200)]
    with_prior = SearchProblem(SPACE, [Quality(), Cost()], prior=earlier)
    cold = [hypervolume(run(DyNAS(TWO, seed=s), 24)) for s in range(3)]
    warm = [hypervolume(run(DyNAS(with_prior, seed=s), 24)) for s in range(3)]
    assert np.mean(warm) > np.mean(cold)


def test_a_misleading_earlier_search_does_no_lasting_harm() -> None:
    rng = np.random.default_rng(0)
    earlier = [Trial(a, {"acc": float(rng.random())}) for a in SPACE.sample(rng, 200)]
    misled = SearchProblem(SPACE, [Quality(), Cost()], prior=earlier)
    cold, warm = (np.mean([hypervolume(run(DyNAS(p, seed=s), 60)) for s in (0, 1)]) for p in (TWO, misled))
    assert warm > 0.97 * cold


# -- concurrent --------------------------------------------------------------------------------------------


def spy(monkeypatch: pytest.MonkeyPatch, name: str) -> list[int]:
    """Return a list that grows by the number of rows whenever the named predictor is fitted."""
    fitted: list[int] = []
    cls = predictors.get(name)
    fit = cls.fit

    def record(self: Any, x: Any, y: Any) -> Any:
        fitted.append(len(y))
        return fit(self, x, y)

    monkeypatch.setattr(cls, "fit", record)
    return fitted


def test_concurrent_measures_whole_populations_and_refits_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = spy(monkeypatch, "ridge")
    strategy = ConcurrentNAS(TWO, population=12, generations=5)
    for _ in range(4):
        asked = strategy.ask(1000)
        assert len(asked) == 12
        strategy.tell([Trial(a, values(a)) for a in asked])
    assert fitted == [12, 24, 36]


def test_concurrent_starts_with_the_warm_start() -> None:
    first = SPACE.sample(np.random.default_rng(1), 5)
    strategy = ConcurrentNAS(SearchProblem(SPACE, [Quality(), Cost()], first=first), population=12)
    trials = run(strategy, 12)
    assert [t.architecture for t in trials[:5]] == first


def test_concurrent_predicts_what_is_not_validation_only(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = spy(monkeypatch, "ridge")
    for validation_only, fits in ((None, 1), (["cost"], 1), ([], 1), (["acc"], 0)):
        fitted.clear()
        run(ConcurrentNAS(TWO, population=10, generations=3, validation_only=validation_only), 20)
        assert len(fitted) == fits
    fitted.clear()
    run(ConcurrentNAS(TWO, population=10, generations=3, predictor={"cost": "ridge"}), 20)
    assert len(fitted) == 2


def test_concurrent_computes_what_can_be_computed_whatever_is_validation_only() -> None:
    """Less prediction was asked for, and no other metric is predicted for it."""
    three = SearchProblem(SPACE, [Quality(), Cost(), Latency()])
    strategy = ConcurrentNAS(three, validation_only=["latency"])
    assert strategy.surrogate.names == {"acc": "ridge"} and strategy.surrogate.objectives == [0, 1]
    strategy = ConcurrentNAS(three, validation_only=["latency"], predictor={"cost": "svr"})
    assert strategy.surrogate.names == {"acc": "ridge", "cost": "svr"}


def test_concurrent_fills_up_with_the_best_where_survivors_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the search on predictions began with, random architectures, does not stand in for survivors."""
    strategy = ConcurrentNAS(TWO, population=4, generations=2)
    run(strategy, 4)
    saw = SPACE.encode(SPACE.sample(np.random.default_rng(5), 8))
    predicted = np.array([[-60.0, 700.0]] * 2 + [[0.0, 1e6]] * 4 + [[-90.0, 20.0], [-95.0, 30.0]])
    monkeypatch.setattr(strategy, "_evolve", lambda *_: (saw, predicted, np.zeros(8), 2))
    asked = SPACE.encode(strategy.ask(4))
    assert asked[:2].tolist() == saw[:2].tolist()
    assert sorted(asked[2:].tolist()) == sorted(saw[6:].tolist())


def test_survivors_come_first() -> None:
    strategy = ConcurrentNAS(TWO, population=20)
    run(strategy, 20)
    strategy._learn(strategy._told)
    strategy._fit()
    rows, costs, excess, survivors = strategy._evolve(20, 20)
    assert 0 < survivors <= 20 < len(rows) == len(costs) == len(excess)
    assert costs[:survivors].min(axis=0).tolist() == costs.min(axis=0).tolist()


def test_concurrent_refuses_what_is_no_metric_and_what_leaves_nothing() -> None:
    with pytest.raises(ConfigError, match="validation_only: 'bleu' is not among acc, cost"):
        ConcurrentNAS(TWO, validation_only=["bleu"])
    with pytest.raises(ConfigError, match="predictor: 'acc' is among validation_only"):
        ConcurrentNAS(TWO, validation_only=["acc"], predictor={"acc": "gp"})
    with pytest.raises(ConfigError, match="validation_only"):
        ConcurrentNAS(SearchProblem(SPACE, [Quality(), Latency()]), validation_only=["acc", "latency"])


def test_concurrent_takes_the_papers_predictors() -> None:
    class Bleu(Quality):
        name = "bleu"

    strategy = ConcurrentNAS(SearchProblem(SPACE, [Bleu(), Latency()]))
    assert strategy.surrogate.names == {"bleu": "svr", "latency": "ridge"}


# -- full --------------------------------------------------------------------------------------------------


def test_full_trains_once_on_its_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = spy(monkeypatch, "ridge")
    run(FullSearch(TWO, population=10, predictor="ridge", generations=5, training_samples=34), 60)
    assert fitted == [34]


def test_full_measures_the_predicted_front_after_the_samples() -> None:
    trials = run(FullSearch(TWO, population=20, generations=60, training_samples=40), 60)
    assert hypervolume(trials) > 1.05 * hypervolume(trials[:40])


def test_full_counts_failures_among_its_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = spy(monkeypatch, "ridge")
    strategy = FullSearch(TWO, population=10, predictor="ridge", generations=5, training_samples=30)
    for i in range(4):
        asked = strategy.ask(10)
        strategy.tell([Trial(a, error="x") if j % 3 else Trial(a, values(a)) for j, a in enumerate(asked)])
        assert fitted == ([12] if i == 3 else [])


def test_full_needs_two_that_succeed(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = spy(monkeypatch, "ridge")
    strategy = FullSearch(TWO, population=10, predictor="ridge", generations=5, training_samples=5)
    for _ in range(3):
        strategy.tell([Trial(a, error="x") for a in strategy.ask(10)])
    run(strategy, 2)
    strategy.ask(1)
    assert fitted == [2]
