import json

import pytest

from nas_compress.errors import ConfigError
from nas_compress.report import compare, write_report
from nas_compress.report.comparison import sentence


def entry(name, *, accuracy, latency, macs, size):
    return {
        "name": name,
        "accuracy": {"value": accuracy, "spread": 0.3, "images": 359},
        "latency": {"median_ms": latency, "error_ms": latency / 100, "runs": 200},
        "macs": macs,
        "params": 1000,
        "size_bytes": size,
        "architecture": {"d": [1]},
        "context": {
            "backend": "onnxruntime", "versions": {"onnxruntime": "1"}, "threads": 1, "batch_size": 1,
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


def test_a_slower_artefact_is_called_slower():
    assert "slower" in sentence(compare(LARGE, SMALL))
    assert "slower" not in sentence(compare(SMALL, LARGE))


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
