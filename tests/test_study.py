"""The loop that evaluates: nothing twice, nothing lost, failures recorded, the same again on every start."""

import csv
import logging
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy import Listed, Quality, Size, Speed, build, distinct, score, toy_space

import nas_compress
from nas_compress import stopping
from nas_compress.archive import Archive
from nas_compress.constraints import parse_constraint
from nas_compress.errors import (
    ArchiveError,
    ConfigError,
    EvaluationError,
    InfeasibleError,
    NASError,
    OutputError,
    TrainingError,
)
from nas_compress.objectives.base import Measurement
from nas_compress.result import SearchResult
from nas_compress.search import SearchProblem
from nas_compress.search.volume import OPENING
from nas_compress.space import Architecture
from nas_compress.stopping import StopRules
from nas_compress.study import HOPELESS, Study, StudyProgress
from nas_compress.tables import read_results

SPACE = toy_space()
ASKS = distinct(10)


def study(archive: Archive, asks: list[Architecture] = ASKS, **options: object) -> Study:
    objectives = options.pop("objectives", None) or [Quality(), Size(), Speed()]
    strategy = options.pop("strategy", None) or Listed(SPACE, asks)
    problem = SearchProblem(
        SPACE, objectives, **{k: options.pop(k) for k in ("constraints", "limited") if k in options}
    )
    names = ("patience", "min_gain", "time_budget")
    rules = StopRules(options.pop("num_evals", 10), **{k: options.pop(k) for k in names if k in options})
    return Study(problem, strategy, archive, options.pop("build", build), rules=rules, **options)


def test_asks_evaluates_and_tells_in_order() -> None:
    quality, strategy = Quality(), Listed(SPACE, ASKS)
    result = study(Archive(), objectives=[quality, Size(), Speed()], strategy=strategy, num_evals=8).run()
    assert quality.calls == ASKS[:8] == [t.architecture for t in result]
    assert [len(batch) for batch in strategy.told] == [3, 3, 2]
    assert [t for batch in strategy.told for t in batch] == list(result.trials)
    trial = result.trials[0]
    assert trial.ok and set(trial.values) == {"acc", "size", "latency"} and trial.spreads == {"acc": 0.5}
    assert trial.values["latency"] == 0.1 + score(ASKS[0]) ** 0.5


def test_ends_when_there_is_nothing_left_to_ask() -> None:
    assert len(study(Archive(), asks=ASKS[:4], num_evals=100).run()) == 4


def test_the_same_subnet_is_evaluated_once() -> None:
    small = Architecture({"ks": (3, 5, 7, 3, 5, 7), "d": (1, 1)})
    twin = Architecture({"ks": (3, 7, 7, 3, 3, 3), "d": (1, 1)})
    quality = Quality()
    result = study(Archive(), asks=[small, twin], objectives=[quality]).run()
    assert len(quality.calls) == 1 and quality.calls[0]["ks"] == (3, 0, 0, 3, 0, 0)
    assert result.trials[0] == result.trials[1]


def test_a_second_run_measures_and_builds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with Archive.open(path, {}) as archive:
        first = study(archive, num_evals=6).run()
    before = path.read_bytes()
    with Archive.open(path, {}) as archive:
        again = study(archive, num_evals=6, build=lambda a: pytest.fail("built")).run()
    assert again.trials == first.trials and path.read_bytes() == before
    assert again.provenance["measured_now"] == 0 and first.provenance["measured_now"] == 18


def test_a_search_goes_on_with_more_evaluations(tmp_path: Path) -> None:
    with Archive.open(tmp_path / "a.jsonl", {}) as archive:
        study(archive, num_evals=4).run()
    quality = Quality()
    with Archive.open(tmp_path / "a.jsonl", {}) as archive:
        result = study(archive, objectives=[quality, Size(), Speed()], num_evals=9).run()
    assert quality.calls == ASKS[4:9] and len(result) == 9


def test_analytic_objectives_need_no_subnet() -> None:
    result = study(Archive(), objectives=[Size()], build=lambda a: pytest.fail("built")).run()
    assert [t.values["size"] for t in result] == [sum(a["ks"]) * 1000.0 for a in ASKS]


def test_a_subnet_is_built_once_for_all_objectives() -> None:
    built: list[Architecture] = []
    study(Archive(), build=lambda a: built.append(a) or build(a)).run()
    assert built == ASKS


def test_failures_are_recorded_and_never_tried_again(tmp_path: Path) -> None:
    for attempt in range(2):
        quality, speed = Quality(broken=ASKS[1:3]), Speed(nan=True)
        with Archive.open(tmp_path / "a.jsonl", {}) as archive:
            result = study(archive, objectives=[quality, speed]).run()
        assert len(quality.calls) == (10 if attempt == 0 else 0)
        assert result.trials[1].error == "acc: the logits are not finite" and not result.trials[1].values
        nans = [t for t in result if t.error == "latency: the value is nan"]
        expected = [a for a in ASKS if score(a) % 7 == 2 and a not in ASKS[1:3]]
        assert [t.architecture for t in nans] == expected and expected
        assert result.provenance["failed"] == 2 + len(nans)
        assert ASKS[1] not in speed.calls


def test_a_build_that_fails_is_a_failed_trial() -> None:
    def fragile(architecture: Architecture) -> object:
        if architecture == ASKS[2]:
            raise EvaluationError("cannot recalibrate")
        return build(architecture)

    result = study(Archive(), build=fragile).run()
    assert [t.error for t in result.trials[:4]] == [None, None, "acc: cannot recalibrate", None]


@pytest.mark.parametrize("population", [3, 3 * HOPELESS])
def test_a_search_is_given_up_when_its_first_trials_all_fail(tmp_path: Path, population: int) -> None:
    asks = distinct(3 * HOPELESS)
    quality = Quality(broken=asks)
    for _ in range(2):
        with (
            Archive.open(tmp_path / "a.jsonl", {}) as archive,
            pytest.raises(EvaluationError, match=r"none of the first \d+ .* acc: the logits are not finite; .*a.jsonl"),
        ):
            study(archive, strategy=Listed(SPACE, asks, population), objectives=[quality], num_evals=len(asks)).run()
    assert quality.calls == asks[:HOPELESS]
    few = study(Archive(), objectives=[Quality(broken=ASKS[:3])]).run()
    assert [t.ok for t in few.trials[:4]] == [False, False, False, True]


def test_other_exceptions_pass_and_lose_nothing(tmp_path: Path) -> None:
    class Crash(Quality):
        def measure(self, subnet, architecture):  # type: ignore[no-untyped-def]
            if len(self.calls) == 5:
                raise KeyboardInterrupt
            return super().measure(subnet, architecture)

    with Archive.open(tmp_path / "a.jsonl", {}) as archive, pytest.raises(KeyboardInterrupt):
        study(archive, objectives=[Crash(), Speed()], csv_path=tmp_path / "a.csv").run()
    quality = Quality()
    with Archive.open(tmp_path / "a.jsonl", {}) as archive:
        assert len(archive) == 10
        study(archive, objectives=[quality, Speed()], csv_path=tmp_path / "a.csv").run()
    assert quality.calls == ASKS[5:]


class Fragile(Quality):
    """Raises what it is given for some architectures."""

    def __init__(self, error: Exception, *architectures: Architecture) -> None:
        super().__init__()
        self.error, self.architectures = error, architectures

    def measure(self, subnet, architecture):  # type: ignore[no-untyped-def]
        if architecture in self.architectures:
            raise self.error
        return super().measure(subnet, architecture)


def test_an_exception_of_another_library_is_a_failed_trial(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        for now in (10, 0):
            quality = Fragile(RuntimeError("out of memory\nat line 3"), *ASKS[2:5])
            with Archive.open(tmp_path / "a.jsonl", {}) as archive:
                result = study(archive, objectives=[quality]).run()
            assert [t.error for t in result.trials[1:6]] == [None, *["acc: RuntimeError: out of memory"] * 3, None]
            assert result.provenance["failed"] == 3 and result.provenance["measured_now"] == now
    warned = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert [r.getMessage() for r in warned] == [f"acc of {ASKS[2]} failed: RuntimeError: out of memory"]
    assert len([r for r in caplog.records if r.levelno == logging.DEBUG and r.exc_info]) == 3
    silent = study(Archive(), objectives=[Fragile(AssertionError(), ASKS[0])]).run()
    assert silent.trials[0].error == "acc: AssertionError"


def test_exceptions_that_all_evaluations_raise_are_named() -> None:
    with pytest.raises(EvaluationError, match=r"none of the first \d+ .*The first one: acc: ValueError: no such axis"):
        study(Archive(), objectives=[Fragile(ValueError("no such axis"), *ASKS)]).run()


@pytest.mark.parametrize("error", [ConfigError("data: missing"), OutputError("disk full"), ArchiveError("damaged")])
def test_errors_that_are_about_no_single_architecture_end_the_search(error: NASError) -> None:
    with pytest.raises(type(error), match=str(error)):
        study(Archive(), objectives=[Fragile(error, ASKS[2])]).run()


def test_a_candidate_whose_training_diverges_is_a_failed_trial() -> None:
    result = study(Archive(), objectives=[Fragile(TrainingError("the loss is nan"), ASKS[2])]).run()
    assert result.trials[2].error == "acc: the loss is nan"


class Sloppy(Quality):
    """Measures what it was made with."""

    def __init__(self, measured: object) -> None:
        super().__init__()
        self.measured = measured

    def measure(self, subnet: object, architecture: Architecture) -> Any:
        return self.measured


@pytest.mark.parametrize(
    "measured", [0.7, None, Measurement(None), Measurement("3"), Measurement(np.ones(2)), Measurement(1.0, "x")]
)
def test_what_is_no_measurement_is_an_error_of_the_objective(measured: object) -> None:
    with pytest.raises(ConfigError, match="objective acc: measure returned .*; wants a Measurement of one number"):
        study(Archive(), objectives=[Sloppy(measured)]).run()


def test_numbers_of_any_kind_are_recorded_as_plain_ones(tmp_path: Path) -> None:
    for place, measured in enumerate((Measurement(np.float32(2), np.float32(1)), Measurement(Decimal(2), Decimal(1)))):
        with Archive.open(tmp_path / f"{place}.jsonl", {}) as archive:
            trial = study(archive, objectives=[Sloppy(measured)], num_evals=1).run().trials[0]
        assert (trial.values, trial.spreads) == ({"acc": 2.0}, {"acc": 1.0}) and type(trial.spreads["acc"]) is float


def test_changed_conditions_measure_again_and_say_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    quality = Quality(conditions={"images": 200})
    with Archive.open(tmp_path / "a.jsonl", {}) as archive:
        study(archive, objectives=[Quality(conditions={"images": 100}), Size()], context={"net": 1}).run()
    with Archive.open(tmp_path / "a.jsonl", {}) as archive, caplog.at_level(logging.WARNING):
        result = study(archive, objectives=[quality, Size()], context={"net": 1}).run()
    assert len(quality.calls) == 10
    assert "data.images: 100 there, 200 now" in caplog.text and "size" not in caplog.text
    assert result.provenance["contexts"]["acc"] == {"net": 1, "data": {"images": 200}}


def test_values_that_do_not_depend_on_weights_are_kept_when_these_change(tmp_path: Path) -> None:
    class Timed(Speed):
        depends_on_weights = False

    for weights, measured in (("a", 20), ("b", 10)):
        with Archive.open(tmp_path / "a.jsonl", {}) as archive:
            result = study(archive, objectives=[Quality(), Timed()], context={"checkpoint": weights}).run()
        assert result.provenance["measured_now"] == measured
    assert "checkpoint" not in result.provenance["contexts"]["latency"]


def test_progress_is_told_after_every_trial() -> None:
    archive, seen = Archive(), []
    study(archive, num_evals=4, on_trial=seen.append).run()
    study(archive, num_evals=5, on_trial=seen.append).run()
    assert [(p.done, p.total, p.measured) for p in seen] == [
        *((i, 4, True) for i in range(1, 5)),
        *((i, 5, False) for i in range(1, 5)),
        (5, 5, True),
    ]
    assert all(isinstance(p, StudyProgress) for p in seen) and seen[0].trial.architecture == ASKS[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_evals": 0}, "num_evals: 0"),
        ({"objectives": [Quality(), Quality()]}, "objectives"),
    ],
)
def test_wrong_arguments(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        study(Archive(), **options)


# -- the table -------------------------------------------------------------------------------------------------


def test_the_table_has_the_columns_of_inc_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "results" / "a.csv"
    result = study(Archive(), objectives=[Quality(broken=ASKS[:1]), Size()], csv_path=path).run()
    assert path.read_text().splitlines()[0] == "Sub-network,Date,Latency (ms), MACs,Top-1 Acc (%),Size,Hypervolume"
    with path.open(newline="") as stream:
        rows = list(csv.reader(stream))[1:]
    assert [r[0] for r in rows] == [str(a.to_dict()) for a in ASKS]
    assert rows[0][2:] == ["", "", "", "", "0"]
    assert [float(row[-1]) for row in rows] == pytest.approx(result.hypervolumes().tolist(), rel=1e-5)
    assert rows[1][2:4] == ["", ""] and rows[1][5] == str(sum(ASKS[1]["ks"]) * 1000)
    read = read_results(path, SPACE)
    assert [a for a, _ in read] == ASKS
    assert [v.get("acc") for _, v in read] == [t.values.get("acc") for t in result]


def test_the_table_is_written_anew_on_resume(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for n in (4, 7):
        with Archive.open(tmp_path / "a.jsonl", {}) as archive:
            study(archive, num_evals=n, csv_path=path).run()
        assert len(read_results(path, SPACE)) == n
    once = study(Archive(), num_evals=7, csv_path=tmp_path / "b.csv").run()
    dates = [line.split("}")[1].split(",")[1] for line in path.read_text().splitlines()[1:]]
    assert len(dates) == len(once) and all(dates)


def test_the_table_has_the_hypervolume_of_all_rows_as_soon_as_it_is_known(tmp_path: Path) -> None:
    path, columns = tmp_path / "a.csv", []

    def look(progress: StudyProgress) -> None:
        with path.open(newline="") as stream:
            columns.append([row["Hypervolume"] for row in csv.DictReader(stream)])

    asks = distinct(OPENING + 5)
    result = study(Archive(), asks, num_evals=len(asks), csv_path=path, on_trial=look).run()
    assert [len(column) for column in columns] == list(range(1, len(asks) + 1))
    assert not any(columns[OPENING - 2]) and all(columns[OPENING - 1])
    assert list(map(float, columns[-1])) == pytest.approx(result.hypervolumes().tolist(), rel=1e-5)


def test_a_refused_search_leaves_no_archive(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("my notes\n")
    with Archive.open(tmp_path / "a.jsonl", {}) as archive, pytest.raises(ArchiveError, match="not a table"):
        study(archive, csv_path=tmp_path / "a.csv").run()
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv"}


def test_results_of_others_are_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    study(Archive(), csv_path=path).run()
    before = path.read_bytes()
    with pytest.raises(ArchiveError, match="holds results of another search; choose another results_csv_path"):
        study(Archive(), csv_path=path).run()
    assert path.read_bytes() == before
    path.write_text("my notes\n")
    with pytest.raises(ArchiveError, match="not a table of search results"):
        study(Archive(), csv_path=path).run()
    assert path.read_text() == "my notes\n"
    with pytest.raises(ArchiveError, match="cannot write the results table"):
        study(Archive(), csv_path=tmp_path).run()


def test_two_objectives_cannot_share_a_column(tmp_path: Path) -> None:
    other = Quality()
    other.name = "acc2"
    with pytest.raises(ConfigError, match="'acc' and 'acc2' have the same column"):
        study(Archive(), objectives=[Quality(), other], csv_path=tmp_path / "a.csv").run()


def test_the_search_loop_imports_no_deep_learning_library() -> None:
    code = (
        "import sys; import nas_compress.study, nas_compress.archive, nas_compress.result, nas_compress.tables;"
        "print({'torch', 'pandas', 'sklearn', 'pymoo', 'matplotlib'} & set(sys.modules))"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(nas_compress.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == "set()"


def test_the_result_knows_the_largest() -> None:
    result = study(Archive(), asks=[SPACE.largest(), *ASKS]).run()
    assert isinstance(result, SearchResult)
    assert result.best({"size": "<= 0.7 x largest"}).values["size"] <= 0.7 * result.trials[0].values["size"]


# -- ends ------------------------------------------------------------------------------------------------------


def limit(text: str, name: str = "size") -> dict[str, object]:
    return {"constraints": [parse_constraint(text, name=name, unit="ms" if name == "latency" else "")]}


def test_the_result_says_why_the_search_ended() -> None:
    assert study(Archive(), num_evals=4).run().provenance["stopped"] == {
        "rule": "num_evals",
        "reason": "all 4 evaluations are made",
    }
    assert study(Archive(), num_evals=40).run().provenance["stopped"] == {
        "rule": "exhausted",
        "reason": "there is nothing left to ask for",
    }


def test_a_limited_part_of_a_large_space_is_not_called_exhausted(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "no further architecture within the limits was found"
    for small, limits, expected in ((100, True, True), (100, False, False), (SPACE.size(), True, False)):
        monkeypatch.setattr("nas_compress.study.SMALL", small)
        options = limit("<= 1 x largest", "size") if limits else {}
        stopped = study(Archive(), num_evals=40, **options).run().provenance["stopped"]
        assert stopped["rule"] == "exhausted" and (stopped["reason"] == reason) == expected


@pytest.mark.parametrize("patience", [1, 7, 25])
def test_patience_ends_a_search_and_a_resumed_one_at_the_same_trial(tmp_path: Path, patience: int) -> None:
    asks = distinct(300)
    options = {"num_evals": 300, "patience": patience, "min_gain": 0.01}
    whole = study(Archive(), asks, **options).run()
    assert whole.provenance["stopped"]["rule"] == "patience" and OPENING + patience <= len(whole) < 300
    volumes, mark, stale = whole.hypervolumes(whole.reference_point), 0.0, 0
    for i, volume in enumerate(volumes.tolist(), start=1):
        stale = 0 if volume > 1.01 * mark or i <= OPENING else stale + 1
        mark = volume if volume > 1.01 * mark else mark
        assert (stale >= patience) == (i == len(whole))
    for stop in (5, OPENING, len(whole) - 1, len(whole)):
        with Archive.open(tmp_path / "a.jsonl", {}) as archive:
            study(archive, asks, **{**options, "num_evals": stop}).run()
        with Archive.open(tmp_path / "a.jsonl", {}) as archive:
            assert study(archive, asks, **options).run().trials == whole.trials
        (tmp_path / "a.jsonl").unlink()


def test_a_search_goes_on_with_more_patience(tmp_path: Path) -> None:
    asks = distinct(200)
    for patience in (3, 20):
        with Archive.open(tmp_path / "a.jsonl", {}) as archive:
            result = study(archive, asks, num_evals=200, patience=patience, min_gain=0.05).run()
    assert result.trials == study(Archive(), asks, num_evals=200, patience=20, min_gain=0.05).run().trials


def test_a_time_budget_loses_nothing_and_every_run_gets_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: clock[0])

    class Slow(Quality):
        def measure(self, subnet, architecture):  # type: ignore[no-untyped-def]
            clock[0] += 1.0
            return super().measure(subnet, architecture)

    quality, lengths = Slow(), []
    for _ in range(4):
        with Archive.open(tmp_path / "a.jsonl", {}) as archive:
            result = study(archive, objectives=[quality, Size()], num_evals=9, time_budget=2.5).run()
        lengths.append(len(result))
    assert lengths == [3, 6, 9, 9] and quality.calls == ASKS[:9]
    assert result.provenance["stopped"]["rule"] == "num_evals"
    assert result.trials == study(Archive(), objectives=[Quality(), Size()], num_evals=9).run().trials


def test_a_strategy_is_told_whole_answers_when_time_runs_out() -> None:
    strategy = Listed(SPACE, ASKS, population=4)
    result = study(Archive(), strategy=strategy, time_budget=1e-9).run()
    assert len(result) == 1 and strategy.told == []
    assert result.provenance["stopped"]["rule"] == "time_budget"


@pytest.mark.parametrize("rules", [{"num_evals": 0}, {"patience": 0}, {"min_gain": 1.0}, {"time_budget": -1.0}])
def test_rules_out_of_range(rules: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(rules))):
        study(Archive(), **rules)


# -- limits ----------------------------------------------------------------------------------------------------


def test_what_breaks_a_limit_is_measured_and_does_not_count() -> None:
    sizes = sorted(sum(a["ks"]) * 1000.0 for a in ASKS)
    asks = [SPACE.largest(), *ASKS]
    result = study(
        Archive(), asks, num_evals=11, objectives=[Quality()], limited=[Size()], **limit(f"<= {sizes[4]}")
    ).run()
    assert len(result) == 11 and all(set(t.values) == {"acc", "size"} for t in result)
    assert {t.values["size"] <= sizes[4] for t in result.feasible} == {True} and len(result.feasible) >= 5
    assert all(t in result.feasible for t in result.front()) and result.best() in result.feasible
    assert result.hypervolumes()[0] == 0.0 < result.hypervolumes()[-1]
    relative = study(
        Archive(),
        ASKS,
        objectives=[Quality()],
        limited=[Size()],
        **limit(f"<= {(sizes[4] + 1) / 42000:.12f} x largest"),
    ).run()
    assert [t.architecture for t in relative.feasible] == [t.architecture for t in result.feasible]


def test_limits_that_nothing_keeps_are_an_error_that_keeps_the_measurements(tmp_path: Path) -> None:
    with (
        Archive.open(tmp_path / "a.jsonl", {}) as archive,
        pytest.raises(InfeasibleError, match=r"none of 10 .*latency <= 1 ms: the closest has .*a.jsonl.*all 10 eval"),
    ):
        study(archive, csv_path=tmp_path / "a.csv", **limit("<= 1 ms", "latency")).run()
    with Archive.open(tmp_path / "a.jsonl", {}) as archive:
        assert study(archive, build=lambda a: pytest.fail("built"), **limit("<= 9 ms", "latency")).run().feasible


def test_limits_that_refer_to_a_largest_that_fails_end_the_search(caplog: pytest.LogCaptureFixture) -> None:
    quality = Quality(broken=[SPACE.largest()])
    limits = limit("<= 0.9 x largest", "latency")
    with pytest.raises(EvaluationError, match=r"latency <= 0.9 x largest: the largest.*measured: acc: the logits"):
        study(Archive(), [SPACE.largest(), *ASKS], objectives=[quality, Speed()], **limits).run()
    assert quality.calls == [SPACE.largest()]
    with caplog.at_level(logging.WARNING):
        assert len(study(Archive(), **limits).run().feasible) == 10
    assert "latency <= 0.9 x largest is left out: the largest architecture was not measured" in caplog.text


def test_a_computed_limit_outlives_a_largest_that_fails() -> None:
    quality = Quality(broken=[SPACE.largest()])
    asks = [SPACE.largest(), *ASKS]
    result = study(Archive(), asks, objectives=[quality, Size()], num_evals=11, **limit("<= 0.9 x largest")).run()
    assert 0 < len(result.feasible) and all(t.values["size"] <= 0.9 * 42000 for t in result.feasible)


def test_a_strategy_that_asks_for_too_many_is_refused() -> None:
    class Greedy(Listed):
        def ask(self, n: int) -> list[Architecture]:
            return super().ask(n) + super().ask(n)

    quality = Quality()
    with pytest.raises(ConfigError, match=r"Greedy.ask\(2\) returned 4 architectures; wants 2 at most"):
        study(Archive(), objectives=[quality], strategy=Greedy(SPACE, ASKS), num_evals=2).run()
    assert not quality.calls


def test_progress_shows_the_hypervolume_once_it_is_known() -> None:
    seen: list[StudyProgress] = []
    reference = {"acc": 10.0, "size": 50000.0}
    result = study(Archive(), objectives=[Quality(), Size()], reference=reference, on_trial=seen.append).run()
    assert [p.hypervolume for p in seen] == pytest.approx(result.hypervolumes(reference).tolist())
    seen.clear()
    study(Archive(), on_trial=seen.append).run()
    assert {p.hypervolume for p in seen} == {None}
