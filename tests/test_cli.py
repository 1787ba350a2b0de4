"""The commands that need no training, in one process."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from nas_compress.cli import app
from nas_compress.config import NASConfig
from nas_compress.documents import template_names, template_text
from nas_compress.recipe import STEP_NAMES, Recipe
from nas_compress.supernets import supernets

SEARCH = "nas: {dynas: {supernet: digits_mbv3, metrics: [macs, params], population: 10, num_evals: 20}}"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in an empty folder; returns the exit code and what was printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*arguments: str):
        result = CliRunner().invoke(app, arguments)
        return result.exit_code, result.stdout, result.stderr

    return invoke


def test_list_shows_every_name(run):
    code, out, _ = run("list")
    assert code == 0
    for name in [*supernets, *STEP_NAMES, *template_names(), "digits", "latency", "onnxruntime", "dynas", "gp"]:
        assert f"  {name} " in out


@pytest.mark.parametrize(("command", "kept"), [("search", True), ("compress", True), ("list", False)])
def test_an_interrupted_command_says_that_work_is_kept_where_it_is(run, monkeypatch, command, kept):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(NASConfig, "from_yaml", interrupted)
    monkeypatch.setattr(Recipe, "from_yaml", interrupted)
    monkeypatch.setattr("nas_compress.console.show_names", interrupted)
    code, _, err = run(command, *([] if command == "list" else ["x"]))
    assert code == 130 and err.startswith("interrupted") and ("are kept" in err) == kept


def test_the_package_is_the_same_command():
    command = [sys.executable, "-m", "nas_compress", "list", "backends"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "onnxruntime" in told


def test_list_of_one_topic(run):
    code, out, _ = run("list", "backends")
    assert code == 0 and "onnxruntime" in out and "digits_mbv3" not in out


def test_init_copies_a_template_and_keeps_what_is_there(run, tmp_path):
    assert run("init", "quickstart")[0] == 0
    copy = tmp_path / "quickstart.yaml"
    assert copy.read_text() == template_text("quickstart")
    copy.write_text("mine")
    code, _, err = run("init", "quickstart")
    assert code == 2 and "quickstart.yaml exists" in err and copy.read_text() == "mine"
    assert run("init", "quickstart", "--force")[0] == 0
    assert run("init", "quickstart", "new/folder/recipe.yaml")[0] == 0
    assert (tmp_path / "new/folder/recipe.yaml").is_file()


@pytest.mark.parametrize("name", template_names())
def test_the_first_line_of_a_template_says_what_it_is(name):
    first = template_text(name).partition("\n")[0]
    assert first.startswith(("# Recipe: ", "# Search config: ")) and first.endswith(".")


def test_init_without_a_name_lists_the_templates(run):
    code, out, _ = run("init")
    assert code == 0 and all(name in out for name in template_names())


@pytest.mark.parametrize("kind", ["search", "recipe"])
def test_schema_is_json(run, kind):
    code, out, _ = run("schema", kind)
    assert code == 0 and json.loads(out)["additionalProperties"] is False


@pytest.mark.parametrize(
    "command", ["search", "compress", "train-supernet", "measure", "report", "list", "init", "schema"]
)
def test_help_describes_every_argument(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0 and "Usage" in out and "--help" in out


def test_search_prints_the_front_and_writes_its_files(run, tmp_path):
    (tmp_path / "config.yaml").write_text(SEARCH)
    code, out, err = run("search", "config.yaml", "--plot", "front.png", "--seed", "3")
    assert code == 0, err
    assert "Pareto front" in out and "of 20 architectures" in out and "search_results.csv" in out
    assert (tmp_path / "front.png").stat().st_size > 0
    assert len((tmp_path / "search_results.csv").read_text().splitlines()) == 21


def test_measure_prints_every_metric(run, tmp_path):
    NASConfig.parse({"dynas": {"supernet": "digits_mbv3", "metrics": ["macs", "params"]}}).to_yaml(tmp_path / "a.yaml")
    largest, smallest = run("measure", "a.yaml")[1], run("measure", "a.yaml", "smallest")[1]
    assert "macs" in largest and "params" in largest and "exact" in largest
    assert largest != smallest
    code, _, err = run("measure", "a.yaml", "{'ks': [3]}")
    assert code == 2 and "error: " in err
    code, _, err = run("measure", "a.yaml", "biggest")
    assert code == 2 and "ARCHITECTURE: not an architecture: 'biggest'" in err and "or largest, or smallest" in err


def test_a_recipe_without_training_cannot_train(run, tmp_path):
    (tmp_path / "recipe.yaml").write_text("supernet: digits_mbv3\nsteps: [nas]\n")
    code, _, err = run("train-supernet", "recipe.yaml")
    assert code == 2 and "has no 'train_supernet' step" in err


def test_a_plot_that_cannot_be_written_is_refused_before_the_search(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["search", "search_macs", "--plot", "front.xyz"])
    assert result.exit_code == 2
    assert "allowed: .png" in result.output and not (tmp_path / "outputs").exists()
