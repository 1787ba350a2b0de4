"""What is printed says what it was measured on."""

import pytest
from rich.console import Console
from toy import Listed, Quality, Size, Speed, build, distinct, toy_space

from nas_compress import console
from nas_compress.archive import Archive
from nas_compress.constraints import parse_constraint
from nas_compress.objectives import Measurement
from nas_compress.pipeline import CompressionResult, StepProgress
from nas_compress.result import SearchResult
from nas_compress.search import SearchProblem, Trial
from nas_compress.stopping import StopRules
from nas_compress.study import Study, StudyProgress

HARDWARE = {"cpu": "a CPU", "cores": 2, "os": "Linux"}
BACKEND = {"backend": "torch", "versions": {"torch": "2"}, "threads": 1, "batch_size": 8, "hardware": HARDWARE}


class Timed(Speed):
    depends_on_weights = False

    def context(self):
        return BACKEND


@pytest.fixture
def printed(monkeypatch):
    """Return what was printed, as text."""
    out = Console(width=200, record=True, quiet=False, file=open("/dev/null", "w"))
    monkeypatch.setattr(console, "_out", out)
    yield out.export_text
    out.file.close()


def test_a_front_has_spreads_and_conditions(printed):
    space = toy_space()
    objectives = [Quality(conditions={"images": 100}), Size(), Timed()]
    problem = SearchProblem(space, objectives)
    result = Study(problem, Listed(space, distinct(4)), Archive(), build, rules=StopRules(4)).run()
    console.show_front(result)
    text = printed()
    assert " ± 0.50 " in text
    assert "latency: median, ± one standard error; torch (torch 2), batch 8, 1 thread, a CPU (2 cores), Linux." in text


def test_a_search_says_why_it_ended_and_what_its_hypervolume_refers_to(printed):
    result = SearchResult(
        [Trial(a, {"acc": 80.0 + i, "size": 1000.0 - i, "latency": 2.0}) for i, a in enumerate(distinct(4))],
        [Quality(), Size()],
        limited=[Speed()],
        constraints=[parse_constraint("<= 3 ms", name="latency", unit="ms")],
        reference={"acc": 60.0, "size": 2000.0},
        provenance={
            "stopped": {"rule": "patience", "reason": "the last 3 evaluations gained no hypervolume"},
            "strategy": {
                "predictors": {"acc": {"predictor": "gp", "kendall_tau": 0.9, "mape": 1.5, "measurements": 40}}
            },
        },
    )
    console.show_search(result)
    lines = printed().splitlines()
    volume = 23 / 40 * 1003 / 2000
    assert lines[0] == "ended after 4 evaluations: the last 3 evaluations gained no hypervolume"
    assert lines[1] == "limits (latency <= 3 ms): kept by 4 of 4 architectures"
    assert lines[2] == (
        f"hypervolume {volume:.4g} of 1; reference point acc 60 %, size 2000 (given); ideal point acc 100 %, size 0"
    )
    assert lines[3] == "predictor of acc (gp), cross-validated on 40: Kendall tau 0.900, mean error 1.5 %"
    console.show_front(result)
    assert "latency (ms)" in printed()


def test_the_choice_of_a_predictor_is_named():
    assert console._choice({"predictor": "gp"}) == ""
    assert console._choice({"predictor": "auto", "chosen": "svr"}) == ": svr"
    assert (
        console._choice({"predictor": "ensemble", "weights": {"gp": 0.754, "ridge": 0.246}}) == ": 0.75 gp, 0.25 ridge"
    )


def test_progress_has_the_hypervolume(capsys):
    trial = Trial(distinct(1)[0], {"acc": 1.0})
    with console.search_progress() as update:
        update(StudyProgress(1, 2, trial, True))
        update(StudyProgress(2, 2, trial, True, 0.12345))
    assert "2 of 2 architectures, hypervolume 0.1235" in capsys.readouterr().err


def test_measurements_have_conditions_and_say_which_clock(printed):
    rows = [
        (Timed(), Measurement(0.2, 0.01, {"clock": "cpu"})),
        (Size(), Measurement(1000.0)),
        (Quality(), Measurement(97.0, 0.5)),
    ]
    shared = {"calibration_images": 2000, "calibration_augmentation": "none", "supernet": "x", "checkpoint": "y"}
    console.show_measurements(rows, shared)
    text = printed()
    assert "acc: BN recalibrated on up to 2000 training images" in text
    assert "latency: median, ± one standard error; torch (torch 2), batch 8" in text
    assert "latency (cpu): CPU time of the computing thread" in text and "size:" not in text


def test_a_recipe_ends_with_its_limits(printed, tmp_path):
    def entry(name, latency):
        return {
            "name": name,
            "accuracy": {"value": 97.0, "spread": 0.4, "images": 359},
            "latency": {"median_ms": latency, "error_ms": 0.001, "runs": 30, "clock": "wall"},
            "macs": 1000, "params": 10, "size_bytes": 100, "context": BACKEND,
        }  # fmt: skip

    artefacts = [entry("largest fp32", 0.4), entry("chosen fp32", 0.2), entry("chosen int8", 0.1)]
    outcomes = {"select": {"constraints": {"latency": "<= 0.25 x largest"}}}
    console.show_compression(CompressionResult(tmp_path, outcomes, artefacts))
    text = printed()
    assert "latency <= 0.25 x largest: chosen int8 0.250 ± 0.003 x, met" in text
    assert "latency <= 0.25 x largest: chosen fp32 0.500 ± 0.003 x, NOT met" in text
    assert "chosen int8 against chosen fp32: 2.00" in text and "batch 8, 1 thread" in text


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_no_figure_of_a_table_is_cut_off(columns, monkeypatch, capsys):
    monkeypatch.setattr(console, "_out", Console(width=columns))
    headers = ["network", "test accuracy (%)", "MACs", "parameters", "file (kB)", "latency (ms)", ""]
    row = ["largest fp32", "99.16 ± 0.55", "3,239,168", "205,586", "829.3", "0.2089 ± 0.0090", "a word"]
    console._show_table("Exported files, measured", headers, [row, ["", *row[1:]]])
    text = capsys.readouterr().out
    assert all(text.count(cell) == 2 for cell in row[1:-1]) and row[0] in text
    assert "…" not in text and max(map(len, text.splitlines())) <= max(columns, 90)


def test_progress_is_told_in_lines_where_there_is_no_terminal(capsys, monkeypatch):
    clock = iter([0.0, 1.0, 12.0, 13.0, 24.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with console.recipe_progress() as update:
        for done, note in ((0, ""), (1, "epoch 1"), (5, "epoch 5"), (6, "epoch 6"), (10, "done")):
            update(StepProgress("train_supernet", done, 10, note))
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" (")[0] for line in lines] == [
        "train_supernet: begun", "train_supernet: epoch 5", "train_supernet: done",
    ]  # fmt: skip
    assert "12 s left" in lines[1]


def test_the_time_left_is_not_told_before_it_can_be_known(capsys, monkeypatch):
    clock = iter([0.0, 11.0, 22.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with console.recipe_progress() as update:
        for done in (1, 2, 4):  # a search tells of its first trial when that is done
            update(StepProgress("search", done, 10, f"{done} of 10"))
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["search: 1 of 10 (0 s)", "search: 2 of 10 (11 s, 88 s left)", "search: 4 of 10 (22 s, 44 s left)"]
