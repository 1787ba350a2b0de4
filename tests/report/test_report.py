import json

import pytest

from nas_compress.errors import ConfigError
from nas_compress.report import compare, compare_all, plus_minus, sentence, step_conditions, steps_rows, write_report
from nas_compress.report.write import table_rows


def entry(name, *, accuracy, latency, macs, size, clock="wall", backend="onnxruntime"):
    return {
        "name": name,
        "accuracy": {"value": accuracy, "spread": 0.3, "images": 359},
        "latency": {
            "median_ms": latency, "error_ms": latency / 100, "cpu_ms": 0.9 * latency, "runs": 200, "clock": clock,
        },
        "macs": macs,
        "params": 1000,
        "size_bytes": size,
        "architecture": {"d": [1]},
        "context": {
            "backend": backend, "versions": {backend: "1"}, "threads": 1, "batch_size": 1,
            "hardware": {"cpu": "a <CPU>", "cores": 2, "os": "Linux"},
        },
    }  # fmt: skip


LARGE = entry("largest fp32", accuracy=98.0, latency=0.4, macs=4000, size=800)
SMALL = entry("chosen int8", accuracy=97.5, latency=0.1, macs=500, size=100)


def test_comparison_gives_factors_above_one_where_the_artefact_is_better():
    row = compare(SMALL, LARGE)
    assert (row["macs"], row["size"]) == (8, 8)
    assert row["latency"]["value"] == pytest.approx(4)
    assert row["latency"]["spread"] == pytest.approx(4 * 0.0002**0.5)
    assert row["accuracy"]["value"] == pytest.approx(-0.5)
    assert row["accuracy"]["spread"] == pytest.approx(0.3 * 2**0.5)


def test_a_comparison_reads_well_either_way():
    assert sentence(compare(SMALL, LARGE)) == (
        "chosen int8 against largest fp32: 4.00 ± 0.06 times as fast, 8.0 times fewer MACs, 8.0 times smaller file, "
        "accuracy -0.50 ± 0.42 points."
    )
    worse = sentence(compare({**LARGE, "size_bytes": 200}, SMALL))
    assert "0.250 ± 0.004 times as fast (slower), 8.0 times more MACs, 2.0 times larger file" in worse
    same = sentence(compare({**LARGE, "size_bytes": 801}, LARGE))
    assert "the same MACs, a file of about the same size" in same


@pytest.mark.parametrize(
    ("value", "spread", "text"),
    [
        (4.9, 0.06, "4.90 ± 0.06"),
        (0.124, 0.0009, "0.1240 ± 0.0009"),
        (97.5, 1.26, "97.50 ± 1.26"),
        (1, 0, "1.00 ± 0.00"),
    ],
)
def test_a_spread_that_is_not_0_does_not_read_0(value, spread, text):
    assert plus_minus(value, spread) == text


def test_a_comparison_names_what_ran_the_two_where_that_differs():
    torch = entry("chosen int8", accuracy=97.5, latency=0.1, macs=500, size=100, backend="torch")
    text = sentence(compare(torch, LARGE))
    assert text.startswith("chosen int8 (torch) against largest fp32 (onnxruntime): 4.00 ± 0.06 times as fast, ")


def test_latencies_of_two_clocks_are_compared_by_cpu_time_of_one_thread_or_not_at_all():
    busy = entry("chosen int8", accuracy=97.5, latency=0.1, macs=500, size=100, clock="cpu")
    busy["latency"]["cpu_ms"] = 0.08
    row = compare(busy, LARGE)
    assert row["latency"]["value"] == pytest.approx(0.9 * 0.4 / 0.08) and row["latency"]["clock"] == "cpu"
    assert ": 4.50 ± 0.06 times as fast in cpu time, 8.0 times fewer MACs" in sentence(row)
    two = {**busy, "context": {**busy["context"], "threads": 2}}
    row = compare(two, LARGE)
    assert row["latency"] == {"value": None, "spread": None, "clock": None}
    assert ": latencies of two clocks, which do not compare, 8.0 times fewer MACs" in sentence(row)


def test_int8_is_compared_with_its_own_fp32_too():
    middle = entry("chosen fp32", accuracy=97.6, latency=0.09, macs=500, size=300)
    pairs = [(row["artefact"], row["reference"]) for row in compare_all([LARGE, middle, SMALL])]
    assert pairs == [
        ("chosen fp32", "largest fp32"), ("chosen int8", "largest fp32"), ("chosen int8", "chosen fp32"),
    ]  # fmt: skip


def test_any_quantized_file_is_compared_with_the_one_before():
    files = [LARGE, *(entry(f"chosen {n}", accuracy=97.5, latency=0.1, macs=500, size=100) for n in ("fp32", "bf16"))]
    assert (compare_all(files)[-1]["artefact"], compare_all(files)[-1]["reference"]) == ("chosen bf16", "chosen fp32")


def test_a_latency_of_another_clock_is_marked_in_its_row():
    busy = entry("chosen int8", accuracy=97.5, latency=0.1, macs=500, size=100, clock="disturbed wall")
    rows = table_rows([LARGE, busy])
    assert [row[-1] for row in rows] == ["0.4000 ± 0.0040", "0.1000 ± 0.0010 (disturbed wall)"]


def test_steps_say_which_clock_their_latencies_are_of_and_compare_none_of_two():
    def measured(latency, clock, threads=2):
        each = entry("chosen fp32", accuracy=97.5, latency=latency, macs=500, size=100, clock=clock)
        return {**each, "context": {**each["context"], "threads": threads}}

    calm, busy = measured(0.4, "wall"), measured(0.2, "disturbed wall")
    outcomes = {
        "select": {"measured": {"before": calm, "after": measured(0.1, "wall")}},
        "prune": {"measured": {"before": calm, "after": busy}},
        "distill": {"measured": {"before": measured(0.4, "wall", 1), "after": measured(0.1, "cpu", 1)}},
    }
    assert [row[3:5] for row in steps_rows(outcomes)] == [
        ("0.4000 ± 0.0040", ""),
        ("0.1000 ± 0.0010", "4.00 ± 0.06"),
        ("0.2000 ± 0.0020 (disturbed wall)", ""),
        ("0.1000 ± 0.0010 (cpu)", "4.00 ± 0.06"),
    ]
    explained = step_conditions(outcomes)
    assert any(line.startswith("Latency (disturbed wall): wall time of runs") for line in explained)
    assert len(step_conditions({"select": outcomes["select"]})) == 1


def record(folder, **outcomes):
    steps = {name: {"key": "k", "outcome": outcome} for name, outcome in outcomes.items()}
    (folder / "steps.json").write_text(json.dumps({"format": "nas_compress recipe run", "version": 1, "steps": steps}))


def test_report_holds_every_artefact_with_its_conditions(tmp_path):
    record(tmp_path, benchmark={"artefacts": [LARGE, SMALL], "test_images": 359})
    page = write_report(tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["artefacts"] == [LARGE, SMALL]
    text = page.read_text()
    for part in ("chosen int8", "97.50 ± 0.30", "359 test images", "onnxruntime", "a &lt;CPU&gt;", "1 thread"):
        assert part in text


def test_report_says_whether_the_limits_were_met(tmp_path):
    limits = {"macs": "<= 0.25 x largest", "latency": "<= 0.2 ms"}
    record(tmp_path, select={"architecture": {"d": [1]}, "constraints": limits}, benchmark={
        "artefacts": [LARGE, {**SMALL, "latency": {**SMALL["latency"], "median_ms": 0.3}}], "test_images": 359,
    })  # fmt: skip
    page = write_report(tmp_path).read_text()
    report = json.loads((tmp_path / "report.json").read_text())
    assert [(row["limit"], row["artefact"], row["met"]) for row in report["limits"]] == [
        ("macs <= 0.25 x largest", "chosen int8", True),
        ("latency <= 0.2 ms", "chosen int8", False),
    ]
    assert "macs &lt;= 0.25 x largest: chosen int8 0.125 x, met" in page
    assert "latency &lt;= 0.2 ms: chosen int8 0.300 ± 0.001 ms, NOT met" in page


def test_a_report_without_limits_has_none(tmp_path):
    record(tmp_path, select={"architecture": {"d": [1]}}, benchmark={"artefacts": [LARGE, SMALL], "test_images": 359})
    assert "Limits" not in write_report(tmp_path).read_text()
    assert json.loads((tmp_path / "report.json").read_text())["limits"] == []


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: None, "not the folder of a recipe"),
        (lambda folder: (folder / "steps.json").write_text("{"), "damaged"),
        (lambda folder: record(folder, nas={}), "not come to a 'benchmark' step"),
    ],
)
def test_folders_without_a_finished_recipe(tmp_path, prepare, message):
    prepare(tmp_path)
    with pytest.raises(ConfigError, match=message):
        write_report(tmp_path)
