"""The loop that evaluates: nothing twice, nothing lost, failures recorded, the same again on every start."""

import csv
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from toy import Listed, Quality, Size, Speed, build, distinct, score, toy_space

import nas_compress
from nas_compress.archive import Archive
from nas_compress.errors import ArchiveError, ConfigError, EvaluationError
from nas_compress.result import SearchResult
from nas_compress.space import Architecture
from nas_compress.study import HOPELESS, Study, StudyProgress
from nas_compress.tables import read_results

SPACE = toy_space()
ASKS = distinct(10)


def study(archive: Archive, asks: list[Architecture] = ASKS, **options: object) -> Study:
    objectives = options.pop("objectives", None) or [Quality(), Size(), Speed()]
    strategy = options.pop("strategy", None) or Listed(SPACE, asks)
    options.setdefault("num_evals", 10)
    return Study(SPACE, objectives, strategy, archive, options.pop("build", build), **options)


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


def test_a_search_is_given_up_when_its_first_trials_all_fail(tmp_path: Path) -> None:
    asks = distinct(3 * HOPELESS)
    quality = Quality(broken=asks)
    for _ in range(2):
        with (
            Archive.open(tmp_path / "a.jsonl", {}) as archive,
            pytest.raises(EvaluationError, match=r"none of the first \d+ .* acc: the logits are not finite; .*a.jsonl"),
        ):
            study(archive, asks, objectives=[quality], num_evals=len(asks)).run()
    assert quality.calls == asks[: len(quality.calls)] and HOPELESS <= len(quality.calls) < len(asks)
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
    assert path.read_text().splitlines()[0] == "Sub-network,Date,Latency (ms), MACs,Top-1 Acc (%),Size"
    with path.open(newline="") as stream:
        rows = list(csv.reader(stream))[1:]
    assert [r[0] for r in rows] == [str(a.to_dict()) for a in ASKS]
    assert rows[0][2:] == ["", "", "", ""]
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
