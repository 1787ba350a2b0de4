"""`score` on the command line."""

import re
import time

import pytest
from typer.testing import CliRunner

from nas_compress.cli import app
from nas_compress.proxies import proxies, score
from nas_compress.proxies.initial import initialised
from nas_compress.supernets import load_supernet

CONFIG = "nas: {approach: denas, denas: {supernet: %s}}\n"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")

    def invoke(supernet, *arguments):
        path = tmp_path / "search.yaml"
        path.write_text(CONFIG % supernet)
        return CliRunner().invoke(app, ["score", str(path), *arguments])

    return invoke


def test_values_are_those_of_python(run):
    done = run("digits_resnet", "smallest", "--names", "synflow", "--names", "params", "--names", "zen")
    assert done.exit_code == 0, done.output
    net = load_supernet("digits_resnet", trained=False, seed=0)
    smallest = net.space.smallest()
    network = initialised(net.extract(smallest), 0)
    wanted = score(network, net.example_input(16, smallest), ["synflow", "params", "zen_score"])
    rows = dict(re.findall(r"^ *(\w+) +(\S+)  \w+ is better, [\d.]+ CPU s", done.output, re.MULTILINE))
    assert {name: float(value) for name, value in rows.items()} == pytest.approx(wanted, rel=1e-4)
    assert "random inputs of shape (16, 1, " in done.output


def test_an_architecture_with_precisions_is_scored_in_fp32(run):
    smallest = load_supernet("digits_resnet", trained=False).space.smallest().to_dict()
    done = run("digits_resnet", str(smallest | {"precision": ["int8"]}), "--names", "params")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("supernet", ["digits_resnet", "digits_vit", "tiny_bert", "fsdd_asr"])
def test_every_score_has_a_value_or_a_reason(run, supernet):
    done = run(supernet, "smallest", "--batch", "4")
    assert done.exit_code == 0, done.output
    for name in proxies:
        (row,) = [line for line in done.output.splitlines() if line.split()[:1] == [name]]
        assert "is better" in row or len(row.partition(" none ")[2]) > 20
    assert done.output.count("is better") >= 8


@pytest.mark.parametrize(
    ("supernet", "arguments", "words"),
    [
        ("digits_resnet", ["--names", "synflo"], "did you mean 'synflow'"),
        ("digits_resnet", ["middling"], "ARCHITECTURE: "),
        ("replay/nas_bench_201", [], "has no network to score"),
        ("null", [], "nas.denas.supernet: is not set"),
    ],
)
def test_mistakes(run, supernet, arguments, words):
    done = run(supernet, *arguments)
    assert done.exit_code == 2 and words in done.output + done.stderr


def test_the_first_call_is_not_in_the_seconds(run, monkeypatch):
    calls = []

    def measured(network, inputs, names, **options):
        calls.append(names)
        spent = time.process_time() + (0.3 if len(calls) == 1 else 0)
        while time.process_time() < spent:
            pass
        return {name: 1.0 for name in names}

    monkeypatch.setattr("nas_compress.proxies.score", measured)
    done = run("digits_resnet", "smallest", "--names", "synflow", "--names", "params")
    assert done.exit_code == 0, done.output
    seconds = [float(each) for each in re.findall(r"([\d.]+) CPU s", done.output)]
    assert len(seconds) == 2 and max(seconds) < 0.2


def test_what_is_made_of_scores_is_no_score(run):
    done = run("digits_resnet", "smallest", "--names", "de_score")
    assert done.exit_code == 2 and "unknown zero-cost proxy 'de_score'" in done.output + done.stderr
    assert "It is not de_score, which compares networks" in " ".join(
        CliRunner().invoke(app, ["score", "--help"]).output.replace("│", " ").split()
    )


def test_proxies_are_listed():
    done = CliRunner().invoke(app, ["list", "proxies"])
    assert done.exit_code == 0 and all(name in done.output for name in proxies)
