"""SearchResult: the front, the hypervolume, selection under constraints in users' units, views."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_compress.constraints import parse_constraint
from nas_compress.errors import ConfigError, InfeasibleError, UnknownNameError
from nas_compress.result import ObjectiveInfo, SearchResult
from nas_compress.search.base import Trial
from nas_compress.space import Architecture

ACC = ObjectiveInfo("acc", "maximize", "%", "Top-1 Acc (%)")
LATENCY = ObjectiveInfo("latency", "minimize", "ms", "Latency (ms)")
MACS = ObjectiveInfo("macs", "minimize", "", " MACs")

ROWS = [(95.0, 4.0, 900e6), (94.0, 2.0, 300e6), (93.0, 2.5, 310e6), (90.0, 1.0, 100e6), (94.0, 2.0, 400e6)]


def trial(i: int, *values: float) -> Trial:
    names = [o.name for o in (ACC, LATENCY, MACS)]
    return Trial(Architecture({"d": (i,)}), dict(zip(names, values, strict=False)))


@pytest.fixture
def result() -> SearchResult:
    trials = [trial(i, *row) for i, row in enumerate(ROWS)]
    failed = Trial(Architecture({"d": (99,)}), error="acc: NaN")
    return SearchResult([*trials[:2], failed, *trials[2:]], [ACC, LATENCY, MACS], largest=trials[0].architecture)


def ids(trials: list[Trial]) -> list[int]:
    return [int(t.architecture["d"][0]) for t in trials]


def test_front_is_sorted_by_the_first_objective(result: SearchResult) -> None:
    assert ids(result.front()) == [0, 1, 3]
    assert len(result) == 6 and len(list(result)) == 6 and len(result.measured) == 5


def test_equal_trials_of_the_front_are_all_kept() -> None:
    assert ids(SearchResult([trial(0, 9.0, 1.0), trial(1, 9.0, 1.0)], [ACC, LATENCY]).front()) == [0, 1]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=20))
def test_nothing_dominates_the_front_and_the_front_covers_all(rows: list[tuple[int, int]]) -> None:
    trials = [trial(i, float(a), float(b)) for i, (a, b) in enumerate(rows)]
    front = SearchResult(trials, [ACC, LATENCY]).front()

    def dominates(p: Trial, q: Trial) -> bool:
        no_worse = p.values["acc"] >= q.values["acc"] and p.values["latency"] <= q.values["latency"]
        return no_worse and p.values != q.values

    for t in trials:
        assert (t in front) == (not any(dominates(other, t) for other in trials))


def test_nothing_measured() -> None:
    empty = SearchResult([Trial(Architecture({"d": (1,)}), error="x")], [ACC, LATENCY])
    assert empty.front() == [] and empty.hypervolume() == 0.0
    with pytest.raises(InfeasibleError, match="no architecture was measured"):
        empty.best()
    assert len(empty.to_dataframe()) == 1
    empty.plot()


def test_hypervolume_is_an_area_in_natural_units() -> None:
    result = SearchResult([trial(0, 90.0, 2.0), trial(1, 80.0, 1.0)], [ACC, LATENCY])
    assert result.hypervolume({"acc": 70.0, "latency": 3.0}) == pytest.approx(20 * 1 + 10 * 1)
    assert result.hypervolume({"top1": 95.0, "lat": 3.0}) == 0.0
    assert result.hypervolume() > 0
    with pytest.raises(ConfigError, match="lacks latency"):
        result.hypervolume({"acc": 70.0})
    with pytest.raises(UnknownNameError, match="bleu"):
        result.hypervolume({"acc": 70.0, "latency": 1.0, "bleu": 3.0})


def test_single_objective(tmp_path: Path) -> None:
    result = SearchResult([trial(0, 1.0), trial(1, 3.0), trial(2, 2.0)], [ACC])
    assert ids(result.front()) == ids([result.best()]) == [1]
    result.plot(tmp_path / "one.png")


# -- selection -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("constraints", "options", "expected"),
    [
        ({}, {}, 0),
        ({"latency": "<= 2 ms"}, {"maximize": "acc"}, 1),
        ({"lat": "<2ms"}, {"maximize": "top1"}, 3),
        ({"acc": ">= 93 %"}, {"minimize": "latency"}, 1),
        ({"acc": ">= 94", "macs": "<= 500M"}, {"minimize": "macs"}, 1),
        ({"macs": "<= 0.35 x largest"}, {"maximize": "acc"}, 1),
        ({"latency": "<= 0.5 * largest", "acc": ">= 0.98x largest"}, {}, 1),
        ({"macs": "<= 1e8"}, {}, 3),
        ({"macs": "<= .2 G"}, {}, 3),
    ],
)
def test_best(result: SearchResult, constraints: dict[str, str], options: dict[str, str], expected: int) -> None:
    assert ids([result.best(constraints, **options)]) == [expected]


def test_the_largest_may_be_given(result: SearchResult) -> None:
    assert ids([result.best({"macs": "<= 0.5 x largest"}, largest={"macs": 200e6})]) == [3]
    unknown = SearchResult(result.trials, result.objectives)
    with pytest.raises(ConfigError, match="the largest architecture was not measured for macs"):
        unknown.best({"macs": "<= 0.5 x largest"})


def test_infeasible_constraints_name_what_comes_closest(result: SearchResult) -> None:
    with pytest.raises(InfeasibleError, match=r"none of 5 .*latency <= 0.5 ms: the closest has 1 ms"):
        result.best({"latency": "<= 0.5 ms"})
    with pytest.raises(InfeasibleError) as error:
        result.best({"latency": "<= 1.5 ms", "acc": ">= 0.98 x largest"})
    assert "latency <= 1.5 ms: the closest among those that meet the other constraints has 2 ms" in str(error.value)
    assert "acc >= 0.98 x largest (that is 93.1 %): the closest among" in str(error.value)
    assert "has 90 %" in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"maximize": "acc", "minimize": "latency"}, "not both"),
        ({"maximize": "latency"}, "latency is an objective to minimize"),
        ({"minimize": "bleu"}, "unknown objective 'bleu'"),
        ({"constraints": {"lattency": "<= 1"}}, "did you mean 'latency'"),
        ({"constraints": {"latency": "<= 1 s"}}, "unit 's' .* want 'ms'"),
        ({"constraints": {"macs": "<= 1 ms"}}, "unit 'ms' .* want no unit, or k, M, G"),
        ({"constraints": {"latency": "fast"}}, "'fast' is not a limit.*'<= 2 ms'"),
        ({"constraints": {"latency": 2}}, "2 is not a limit"),
        ({"constraints": {"latency": "= 2 ms"}}, "is not a limit"),
        ({"constraints": {"latency": "<= 2 M"}}, "unit 'M'"),
    ],
)
def test_wrong_selections(result: SearchResult, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        result.best(**options)


@given(
    st.floats(-1e12, 1e12), st.sampled_from(["<=", ">=", "<", ">"]), st.sampled_from(["", " ms", "ms", " x largest"])
)
def test_constraints_read_back(bound: float, op: str, tail: str) -> None:
    constraint = parse_constraint(f"{op} {bound!r}{tail}", name="latency", unit="ms")
    assert (constraint.op, constraint.bound, constraint.relative) == (op, bound, "largest" in tail)
    again = parse_constraint(str(constraint).removeprefix("latency "), name="latency", unit="ms")
    assert again.bound == pytest.approx(bound, rel=1e-8)


# -- views -----------------------------------------------------------------------------------------------------


def test_dataframe(result: SearchResult) -> None:
    frame = result.to_dataframe()
    assert list(frame.columns) == ["architecture", "acc", "latency", "macs", "front", "error"]
    assert frame["front"].tolist() == [True, True, False, False, True, False]
    assert np.isnan(frame["acc"][2]) and frame["error"][2] == "acc: NaN"
    assert frame["architecture"][0] == Architecture({"d": (0,)})
    spread = Trial(Architecture({"d": (1,)}), {"acc": 90.0, "latency": 1.0}, spreads={"latency": 0.1})
    frame = SearchResult([spread], [ACC, LATENCY]).to_dataframe()
    assert frame["latency_spread"].tolist() == [0.1] and "acc_spread" not in frame


def test_plot(result: SearchResult, tmp_path: Path) -> None:
    figure = result.plot(tmp_path / "front.png", x="macs", y="lat")
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("macs", "latency (ms)")
    assert result.plot().axes[0].get_xlabel() == "latency (ms)"
    with pytest.raises(UnknownNameError, match="bleu"):
        result.plot(x="bleu")
