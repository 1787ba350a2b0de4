"""SearchResult: the front, the hypervolume, selection under constraints in users' units, views."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_compress.archive import Archive
from nas_compress.constraints import parse_constraint
from nas_compress.errors import ArchiveError, ConfigError, InfeasibleError, OutputError, UnknownNameError
from nas_compress.objectives import objectives
from nas_compress.records import Record
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


def test_bleu_is_measured_against_its_best_value() -> None:
    info = objectives.entry("bleu").info
    result = SearchResult([Trial(Architecture({"d": (1,)}), {"bleu": 20.0})], [objectives.get("bleu")])
    assert result.ideal_point == {"bleu": info["best"]} == {"bleu": 100.0}


def test_hypervolumes_are_comparable_where_the_reference_point_is_the_same() -> None:
    result = SearchResult(
        [trial(0, 90.0, 2.0), Trial(Architecture({"d": (9,)}), error="x"), trial(1, 80.0, 1.0)], [ACC, LATENCY]
    )
    point = {"top1": 70.0, "lat": 4.0}
    assert result.hypervolumes(point) == pytest.approx([20 * 2 / 120, 20 * 2 / 120, (20 * 2 + 10 * 1) / 120])
    assert result.hypervolumes(point, {"acc": 90.0, "latency": 0.0})[-1] == pytest.approx(50 / 80)
    given = SearchResult(result.trials, result.objectives, reference=point)
    assert given.hypervolumes().tolist() == result.hypervolumes(point).tolist()
    assert given.hypervolume() == result.hypervolume(point) == pytest.approx(50.0)
    assert given.hypervolume_conditions() == (
        "reference point acc 70 %, latency 4 ms (given); ideal point acc 100 %, latency 0 ms"
    )
    assert result.reference_point == {"acc": pytest.approx(79.0), "latency": pytest.approx(2.1)}
    assert result.ideal_point == {"acc": 100.0, "latency": 0.0}
    for wrong in ({"acc": 70.0}, {"acc": 1.0, "latency": 1.0, "macs": 1.0}):
        with pytest.raises((ConfigError, UnknownNameError)):
            result.hypervolumes(wrong)
        with pytest.raises((ConfigError, UnknownNameError)):
            SearchResult(result.trials, result.objectives, reference=wrong)
    with pytest.raises(ConfigError, match="ideal"):
        result.hypervolumes(point, {"acc": 60.0, "latency": 0.0})


def test_limits_of_the_search_hold_for_front_hypervolume_and_best(result: SearchResult) -> None:
    limits = [parse_constraint(text, name="macs", unit="") for text in ("<= 0.4 x largest", ">= 200M")]
    limited = SearchResult(
        result.trials, [ACC, LATENCY], limited=[MACS], constraints=limits, largest=Architecture({"d": (0,)})
    )
    assert ids(limited.feasible) == [1, 2] and ids(limited.front()) == [1]
    assert ids([limited.best()]) == [1] and ids([limited.best(maximize="acc")]) == [1]
    assert ids([limited.best({"macs": [">= 305M", "<= 500M"]})]) == [2]
    assert ids([limited.best(minimize="macs")]) == [1]
    alone = SearchResult([t for t in result.trials if t.ok and t.architecture["d"][0] in (1, 2)], [ACC, LATENCY])
    assert limited.hypervolumes({"acc": 80, "latency": 5})[-1] == alone.hypervolumes({"acc": 80, "latency": 5})[-1]
    frame = limited.to_dataframe()
    assert frame["feasible"].tolist() == [False, True, False, True, False, False]
    assert frame["macs"].tolist()[:2] == [900e6, 300e6]
    with pytest.raises(InfeasibleError, match="macs >= 700000000: the closest among"):
        limited.best({"macs": ">= 700M"})
    unknown = SearchResult(result.trials, [ACC, LATENCY], limited=[MACS], constraints=limits)
    assert ids(unknown.feasible) == [0, 1, 2, 4]


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
    assert list(frame.columns) == ["architecture", "acc", "latency", "macs", "front", "hypervolume", "error"]
    assert frame["front"].tolist() == [True, True, False, False, True, False]
    assert np.isnan(frame["acc"][2]) and frame["error"][2] == "acc: NaN"
    assert frame["architecture"][0] == Architecture({"d": (0,)})
    spread = Trial(Architecture({"d": (1,)}), {"acc": 90.0, "latency": 1.0}, spreads={"latency": 0.1})
    frame = SearchResult([spread], [ACC, LATENCY]).to_dataframe()
    assert frame["latency_spread"].tolist() == [0.1] and "acc_spread" not in frame


def test_the_growth_of_the_hypervolume_is_drawn(result: SearchResult, tmp_path: Path) -> None:
    figure = result.plot_hypervolume(tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
    assert figure.axes[0].lines[0].get_ydata().tolist() == result.hypervolumes().tolist()
    assert "reference point acc" in figure.axes[0].get_title(loc="left")


def test_a_plot_makes_its_folder_and_other_files_are_refused(result: SearchResult, tmp_path: Path) -> None:
    result.plot(tmp_path / "new" / "front.svg")
    assert (tmp_path / "new" / "front.svg").read_text().startswith("<?xml")
    for plot in (result.plot, result.plot_hypervolume):
        with pytest.raises(ConfigError, match=r"front\.foo' has no suffix of an image; allowed: \.png"):
            plot(tmp_path / "front.foo")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        result.plot(tmp_path / "file" / "front.png")


def test_a_result_says_what_it_is(result: SearchResult) -> None:
    assert repr(result) == "SearchResult(6 architectures, 3 on the front, acc, latency, macs)"


def test_limits_and_points_without_names_are_refused(result: SearchResult) -> None:
    with pytest.raises(ConfigError, match=r"constraints = 'macs <= 3'; wants limits by metric"):
        result.best("macs <= 3")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="wants a value for each of acc, latency, macs by name"):
        result.hypervolume([70, 1, 2])  # type: ignore[arg-type]


def test_plot(result: SearchResult, tmp_path: Path) -> None:
    figure = result.plot(tmp_path / "front.png", x="macs", y="lat")
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("macs", "latency (ms)")
    assert result.plot().axes[0].get_xlabel() == "latency (ms)"
    with pytest.raises(UnknownNameError, match="bleu"):
        result.plot(x="bleu")


# -- from an archive -------------------------------------------------------------------------------------------


def record(archive: Archive, key: str, i: int, **values: float | str) -> None:
    for name, value in values.items():
        given = {"error": value} if isinstance(value, str) else {"value": value}
        archive.append(Record(Architecture({"d": (i,)}), name, key, **given))


def test_a_result_is_read_from_its_archive(tmp_path: Path) -> None:
    space = {"name": "x", "dimensions": {"d": [[1, 2, 3]]}, "conditions": []}
    search = {"metrics": ["acc", "latency"], "constraints": {"macs": ["<= 0.5 x largest", ">= 10"]}, "space": space}
    with Archive.open(tmp_path / "a.jsonl", search) as archive:
        old, key = archive.add_context({"threads": 2}), archive.add_context({"threads": 1})
        record(archive, old, 2, acc=1.0)
        record(archive, key, 3, acc=95.0, latency=4.0, macs=100.0)
        record(archive, key, 2, acc=90.0, latency="NaN")
        record(archive, key, 1, acc=85.0, latency=1.0, macs=50.0)
        record(archive, key, 9, acc=80.0)
    result = SearchResult.load(tmp_path / "a.jsonl")
    assert ids(result.trials) == [2, 3, 1] and result.trials[0].error == "latency: NaN"
    assert [o.name for o in result.objectives] == ["acc", "latency"] and [o.name for o in result.limited] == ["macs"]
    assert ids(result.feasible) == ids(result.front()) == [1]
    assert result.provenance["contexts"]["acc"] == {"threads": 1} and result.provenance["search"] == search
    for known in (LATENCY, "latency"):
        assert SearchResult.load(tmp_path / "a.jsonl", [known]).objectives == (LATENCY,)
    with pytest.raises(ConfigError, match="the metric 'speed' is not registered here"):
        SearchResult.load(tmp_path / "a.jsonl", ["speed"])
    for names, message in (
        (["params"], "a.jsonl has no params; it has acc, latency, macs"),
        (["acc", "acc"], "'acc' is given more than once"),
        ("acc", r"'acc' is no list; give \['acc'\]"),
    ):
        with pytest.raises(ConfigError, match=message):
            SearchResult.load(tmp_path / "a.jsonl", names)


@pytest.mark.parametrize(
    "header", [{"metrics": 5}, {"metrics": ["acc"], "constraints": 5}, {"metrics": ["acc"], "space": {"name": "x"}}]
)
def test_a_damaged_header_is_named(tmp_path: Path, header: dict[str, object]) -> None:
    with Archive.open(tmp_path / "a.jsonl", header) as archive:
        record(archive, archive.add_context({}), 1, acc=1.0)
    with pytest.raises(ArchiveError, match=f"line 1 is damaged .{list(header)[-1]}: "):
        SearchResult.load(tmp_path / "a.jsonl")


def test_the_point_that_a_search_was_given_is_read_from_its_archive(tmp_path: Path) -> None:
    with Archive.open(tmp_path / "a.jsonl", {"metrics": ["acc", "latency"]}) as archive:
        key = archive.add_context({})
        for point in ({"acc": 60.0, "latency": 9.0}, {"acc": 70.0, "latency": 4.0}):
            archive.begin_run({"acc": key, "latency": key}, point)
        record(archive, key, 1, acc=85.0, latency=1.0)
    result = SearchResult.load(tmp_path / "a.jsonl")
    assert result.reference_point == point and "(given)" in result.hypervolume_conditions()
    other = SearchResult.load(tmp_path / "a.jsonl", [LATENCY])
    assert "(from the first trials)" in other.hypervolume_conditions(), "that point is one of other objectives"


def test_what_is_no_archive_of_a_search_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="cannot read the archive"):
        SearchResult.load(tmp_path / "none.jsonl")
    (tmp_path / "a.csv").write_text("Sub-network,Date\n")
    with pytest.raises(ArchiveError, match="not a nas_compress archive"):
        SearchResult.load(tmp_path / "a.csv")
    for name, search in (("a", {}), ("b", {"metrics": ["mine"]})):
        with Archive.open(tmp_path / f"{name}.jsonl", search) as archive:
            record(archive, archive.add_context({}), 1, mine=1.0)
        with pytest.raises(ConfigError, match="give objectives"):
            SearchResult.load(tmp_path / f"{name}.jsonl")
        assert len(SearchResult.load(tmp_path / f"{name}.jsonl", [ObjectiveInfo("mine", "minimize")])) == 1
