"""The popdb command: from the results of a search and its config to a config with a smaller space."""

import os
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from nas_compress.cli import app
from nas_compress.config import NASConfig
from nas_compress.space import Architecture
from nas_compress.supernets import supernets
from nas_compress.supernets.precision_config import PrecisionConfig
from nas_compress.tables import COLUMNS

CONFIG = """nas:
  approach: random
  search: {search_space: {ks: [3, 5, 7], r: [224]}}
  random: {supernet: ofa_mbv3_d234_e346_k357_w1.0, metrics: [macs, params], num_evals: 20, results_csv_path: out/a.csv}
"""


def results(n=120, resolution=224, macs="1000"):
    """A table of architectures in two crowds that never use kernels of 3 in the first block."""
    rng, rows = np.random.default_rng(0), [",".join(COLUMNS)]
    for i in range(n):
        ks, e = [5 if i % 2 else 7] * 20, [6 if i % 2 else 3] * 20
        for slot in rng.integers(1, 20, size=4):
            ks[slot], e[slot] = int(rng.choice([3, 5, 7])), int(rng.choice([3, 4, 6]))
        point = Architecture({"ks": ks, "e": e, "d": [4 if i % 2 else 3] * 5, "r": resolution})
        rows.append(f'"{point}",2024-01-01,,{macs},')
    return "\n".join(rows) + "\n"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the command in a folder that holds a config and results; returns the exit code and what was printed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "results.csv").write_text(results())

    def invoke(*arguments: str):
        options = ["--min-cluster-size", "20", "--min-samples", "2"]
        result = CliRunner().invoke(app, ["popdb", *(arguments or ("results.csv", "config.yaml")), *options])
        return result.exit_code, result.stdout, result.stderr

    return invoke


def test_the_report_says_what_was_dropped(run):
    code, out, err = run()
    assert code == 0, err
    assert "distinct architectures" in out and "in 2 clusters" in out
    assert "ks[0]: 3" in out and "e[0]: 4" in out and "d[0]: 2" in out
    assert "sub-networks before" in out and "failed" not in out


def test_the_config_that_is_written_searches_the_restricted_space(run, tmp_path):
    code, out, err = run("results.csv", "config.yaml", "--output", "smaller.yaml")
    assert code == 0 and "config: smaller.yaml" in out, err
    before, after = NASConfig.from_yaml("config.yaml"), NASConfig.from_yaml("smaller.yaml")
    assert after.search_space["r"] == [224] and after.search_space["ks"] == [3, 5, 7]
    assert after.search_space["ks[0]"] == [5, 7] and after.search_space["d[4]"] == [3, 4]
    assert after.random.results_csv_path.as_posix() == "out/a-popdb.csv"
    before.search_space, before.random.results_csv_path = after.search_space, after.random.results_csv_path
    assert before == after
    after.check()
    space = supernets.entry(after.random.supernet).info["space"]()
    restricted = space.restrict(after.search_space)
    assert restricted.size() < space.restrict({"r": [224]}).size()
    assert restricted.contains(Architecture({"ks": [5] * 20, "e": [6] * 20, "d": [4] * 5, "r": 224}))


def test_a_search_its_popdb_and_the_next_search(run, tmp_path):
    """The archive of a search serves as well as its table."""
    (tmp_path / "config.yaml").write_text(CONFIG.replace("num_evals: 20", "num_evals: 60"))
    assert CliRunner().invoke(app, ["search", "config.yaml"]).exit_code == 0
    code, _, err = run("out/a.jsonl", "config.yaml", "--threshold", "0")
    assert code == 2 and "the search did not crowd anywhere" in err  # a random one does not
    code, _, err = run("results.csv", "config.yaml", "--output", "b.yaml")
    assert code == 0, err
    done = CliRunner().invoke(app, ["search", "b.yaml"])
    assert done.exit_code == 0 and (tmp_path / "out" / "a-popdb.csv").is_file(), done.stderr


def test_thresholds_of_dimensions(run):
    code, out, err = run("results.csv", "config.yaml", "--threshold", "ks=0.3", "--threshold", "e=0")
    assert code == 0, err
    ks, e = (next(line for line in out.splitlines() if line.startswith(name)) for name in ("ks ", "e "))
    assert "ks[1]: 3" in ks and "e[0]: 4" in e and "e[1]" not in e and "d[0]" not in out
    code, out, _ = run("results.csv", "config.yaml", "--threshold", "0", "--threshold", "ks=0.3")
    assert code == 0 and ks in out and e in out and "d[0]: 2" in out


def test_precisions_are_a_part_of_the_space(run, tmp_path):
    config = CONFIG.replace("num_evals: 20", "num_evals: 20, precision: {by: network}")
    (tmp_path / "precise.yaml").write_text(config.replace("[macs, params]", "[acc, macs]"))
    rows = results().splitlines()
    space = PrecisionConfig(by="network").space(supernets.entry("ofa_mbv3_d234_e346_k357_w1.0").info["space"]())
    name, gene = space.dimensions[-1].name, space.gene_names[-1]
    rows[1:] = [row.replace("}", f", '{name}': ['int8']}}") for row in rows[1:]]
    (tmp_path / "results.csv").write_text("\n".join(rows))
    code, out, err = run("results.csv", "precise.yaml", "--output", "smaller.yaml")
    assert code == 0, err
    assert NASConfig.from_yaml("smaller.yaml").search_space[gene] == ["int8"]
    command = ["analyse-predictors", "results.csv", "--predictor", "ridge", "--sizes", "20", "--trials", "1"]
    (tmp_path / "results.csv").write_text((tmp_path / "results.csv").read_text().replace("1000", "1001", 1))
    done = CliRunner().invoke(app, [*command, "--config", "precise.yaml"])
    assert done.exit_code == 0 and "macs" in done.stdout, done.stderr


def test_rows_that_cannot_be_used_are_counted(run, tmp_path):
    more = results(10, resolution=192).splitlines()[1:] + results(5, macs="").splitlines()[1:]
    (tmp_path / "results.csv").write_text(results() + "\n".join(more) + "\n")
    code, out, _ = run()
    assert code == 0 and "15 rows failed or are outside search_space" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.csv", "config.yaml"), "cannot read the results nowhere.csv"),
        (("config.yaml", "config.yaml"), "config.yaml"),
        (("results.csv", "nowhere.yaml"), "no such file or template: nowhere.yaml"),
        (("results.csv", "search_digits"), "line 2: ks has 20 values, space 'digits_mbv3' wants 9"),
        (("results.csv", "config.yaml", "--threshold", "2"), "threshold of ks: 2.0 is not allowed"),
        (("results.csv", "config.yaml", "--threshold", "many"), "--threshold: 'many' is no number, nor NAME=NUMBER"),
        (("results.csv", "config.yaml", "--threshold", "ks=x"), "--threshold: 'ks=x' is no number, nor NAME=NUMBER"),
        (("results.csv", "config.yaml", "--threshold", "kernel=0.1"), "has no dimension 'kernel'"),
        (("results.csv", "config.yaml", "--threshold", "ks=0", "--threshold", "ks=0.1"), "gives 'ks' twice"),
        (("results.csv", "config.yaml", "--threshold", "0", "--threshold", "0.1"), "gives two numbers for all"),
        (("results.csv", "config.yaml", "--output", "config.yaml"), "--output: config.yaml exists"),
        (("empty.csv", "config.yaml"), "has no architecture inside search_space with a value of a known metric"),
        (("few.csv", "config.yaml"), "fewer than min_cluster_size (20)"),
        (("results.csv", "without.yaml"), "nas.random.supernet: is not set"),
        (("results.csv", "unknown.yaml"), "unknown supernet 'ofa'"),
        (("results.csv", "wrong.yaml"), "nas.search.search_space"),
    ],
)
def test_mistakes_are_named(run, tmp_path, arguments, message):
    (tmp_path / "empty.csv").write_text(results(macs=""))
    (tmp_path / "few.csv").write_text(results(5))
    name = "ofa_mbv3_d234_e346_k357_w1.0"
    (tmp_path / "without.yaml").write_text(CONFIG.replace(f"supernet: {name}, ", ""))
    (tmp_path / "unknown.yaml").write_text(CONFIG.replace(name, "ofa"))
    (tmp_path / "wrong.yaml").write_text(CONFIG.replace("ks: [3, 5, 7]", "kernel: [3]"))
    code, _, err = run(*arguments)
    assert code == 2 and err.startswith("error: ") and message in err.replace("\n", " "), err


def test_no_deep_learning_library_is_loaded(run, tmp_path):
    code = (
        "import sys; from typer.testing import CliRunner; from nas_compress.cli import app\n"
        "options = ['--min-cluster-size', '20', '--min-samples', '2']\n"
        "done = CliRunner().invoke(app, ['popdb', 'results.csv', 'config.yaml', *options])\n"
        "print(done.exit_code, 'torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=300)
    assert done.stdout.split() == ["0", "False"], done.stderr
