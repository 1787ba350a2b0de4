"""`build-lut` on the command line, and a search that goes by the table."""

import json

import pytest
from typer.testing import CliRunner

from nas_compress.agent import NAS
from nas_compress.cli import app
from nas_compress.config import NASConfig
from nas_compress.errors import ConfigError
from nas_compress.latency import build
from nas_compress.latency.predictor import load_predictor
from nas_compress.objectives.latency import Latency
from nas_compress.objectives.timing import TimingSettings
from nas_compress.space import Architecture
from nas_compress.supernets import load_supernet

SMALL = ["--restrict", "ks=3", "--restrict", "e=2,4", "--restrict", "r=8", "--sweeps", "1", "--subnets", "10"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    quick = TimingSettings(warmup=0, min_runs=3, max_runs=5, budget_s=0.01)
    monkeypatch.setattr(build, "SWEEP_SETTINGS", quick)


def build_lut(path, *options, supernet="digits_mbv3"):
    return CliRunner().invoke(app, ["build-lut", supernet, "--out", str(path), "--backend", "torch", *options])


def test_a_table_is_built_gone_on_with_and_shown(tmp_path):
    path = tmp_path / "lut.jsonl"
    done = build_lut(path, *SMALL)
    assert done.exit_code == 0, done.output
    assert "blocks, 10 whole sub-networks" in done.output and "sum of blocks x" in done.output
    assert "learned from the sub-networks; error: Kendall tau" in done.output
    before = path.read_bytes()
    again = build_lut(path, *SMALL)
    assert again.exit_code == 0 and path.read_bytes() == before


def test_whole_sub_networks_alone(tmp_path):
    done = build_lut(tmp_path / "learned.jsonl", "--learned", "12", "--sweeps", "1", "--restrict", "r=8")
    assert done.exit_code == 0, done.output
    assert "0 blocks, 12 whole sub-networks" in done.output and "sum of blocks" not in done.output


def test_the_data_may_have_another_number_of_classes(tmp_path):
    path = tmp_path / "lut.jsonl"
    assert build_lut(path, *SMALL, "--classes", "7").exit_code == 0
    load_predictor(path, load_supernet("digits_mbv3", trained=False, num_classes=7))
    with pytest.raises(ConfigError, match="num_classes: 7 there, 10 now"):
        load_predictor(path, load_supernet("digits_mbv3", trained=False))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--restrict", "r"], "--restrict: 'r' is not of the form r=160,192"),
        (["--restrict", "r=8", "--restrict", "r=12"], "--restrict: 'r' is given twice; write all its values at once"),
        (["--restrict", "r=[1"], "--restrict: 'r=[1' is not of the form r=160,192"),
        (["--restrict", "r=8,,12"], "--restrict: 'r=8,,12' is not of the form r=160,192"),
        (["--restrict", "r=8,{a: 1}"], "--restrict: 'r=8,{a: 1}' is not of the form r=160,192"),
        (["--learned", "12", "--subnets", "3"], "--subnets: does not go with --learned, which is the number"),
        (["--threads", "9999"], "--threads: 9999 is more than this machine's"),
        (["--restrict", "r=9"], "r[0]: [9] is not a part of the legal values"),
        (["--backend", "torhc"], "unknown backend 'torhc' (did you mean 'torch'?)"),
        (
            ["--backend", "onnxruntime", "--precision", "bf16"],
            "precision = 'bf16' does not go with backend 'onnxruntime'",
        ),
    ],
)
def test_mistakes_are_named(tmp_path, options, reason):
    done = build_lut(tmp_path / "lut.jsonl", *options)
    assert done.exit_code == 2 and reason in done.output
    assert not (tmp_path / "lut.jsonl").exists()


def test_other_conditions_and_tables_of_values_are_refused(tmp_path):
    path = tmp_path / "lut.jsonl"
    assert build_lut(path, *SMALL).exit_code == 0
    other = build_lut(path, *SMALL, "--batch", "2")
    assert other.exit_code == 2 and "batch_size: 1 there, 2 now" in other.output
    replay = build_lut(tmp_path / "b.jsonl", supernet="replay/nas_bench_201")
    assert replay.exit_code == 2 and "has no network to measure" in replay.output


def test_a_search_goes_by_the_table(tmp_path, monkeypatch):
    assert build_lut(tmp_path / "lut.jsonl", *SMALL).exit_code == 0

    measured, measure = [], Latency.measure

    config = NASConfig(approach="evolutionary", metrics=["macs", "latency"])
    config.search_space = {"ks": [3], "e": [2, 4], "r": [8]}
    section = config.evolutionary
    section.supernet, section.results_csv_path = "digits_mbv3", tmp_path / "results.csv"
    section.latency.backend, section.latency.lut = "torch", tmp_path / "lut.jsonl"
    section.population, section.num_evals = 10, 30
    with monkeypatch.context() as patch:
        patch.setattr(Latency, "measure", lambda *a: (measured.append(a[-1]), measure(*a))[1])
        result = NAS(config).search()
    # The front is measured, and what it measures worse than predicted may leave it.
    assert {trial.architecture for trial in result.front()} <= set(measured)
    assert {Architecture(each["architecture"]) for each in result.provenance["finalists"]} == set(measured)
    assert len(set(measured)) == len(measured) < len(result.trials)
    context = result.provenance["contexts"]["latency"]
    assert context["predicted"].startswith("from measured blocks; torch") and "Kendall tau" in context["error"]
    lines = map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines())
    assert any(line.get("provenance") == {"predicted": True} for line in lines)
