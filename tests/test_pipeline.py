import json
import shutil
from pathlib import Path

import onnx
import pytest
import torch
from safetensors import safe_open

from nas_compress import Recipe, compress
from nas_compress.backends.onnxruntime import OnnxSession
from nas_compress.compression import steps
from nas_compress.compression.state import State
from nas_compress.data import load_data
from nas_compress.errors import ConfigError, InfeasibleError
from nas_compress.objectives.quality import accuracy
from nas_compress.report import write_report
from nas_compress.space import Architecture
from nas_compress.supernets import supernets
from nas_compress.weights import read_state, write_state

digits_mbv3 = supernets.get("digits_mbv3")


def recipe(folder, **changes):
    """The whole path, as short as it can be."""
    quick = {"budget_s": 0.02, "min_runs": 3, "warmup": 1}
    options = {
        "train_supernet": {"epochs": 1, "batch_size": 256, "subnets_per_step": 2, "warmup_epochs": 0},
        "nas": {
            "metrics": ["acc", "macs", "latency"], "population": 4, "num_evals": 6, "latency": quick,
            "calibration_images": 200, "search_space": {"r": [8, 12]},
        },
        "select": {"constraints": {"macs": "<= 0.9 x largest"}},
        "distill": {"epochs": 1, "batch_size": 256},
        "quantize": {"calibration_images": 32},
        "export": {},
        "benchmark": {"latency": quick},
    }  # fmt: skip
    for name, change in changes.items():
        options[name] = {**options[name], **change}
    listed = [{name: value} for name, value in options.items()]
    return Recipe(name="tiny", supernet="digits_mbv3", seed=1, output=folder, steps=listed, latency=quick)


def state_of(result):
    """The state in which a finished run ended."""
    state = State(recipe(result.folder), result.folder)
    state.outcomes = result.outcomes
    (work,) = result.folder.glob("steps/nas-*")
    state.work_keys["nas"] = work.name.removeprefix("nas-")
    return state


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipe")
    return compress(recipe(folder))


def run(recipe):
    """Run a recipe and return its result and the steps that were not done before."""
    worked = []
    result = compress(recipe, progress=lambda p: worked.append(p.step) if p.note == "done" else None)
    return result, worked


def test_the_folder_holds_what_the_user_needs(finished):
    files = {p.relative_to(finished.folder).as_posix() for p in finished.folder.rglob("*") if p.is_file()}
    assert files >= {
        "recipe.yaml", "report.json", "report.html", "pareto.png", "search_results.csv", "search_results.jsonl",
        "training.csv", "training.png",
        "supernet.safetensors", "models/largest_fp32.onnx", "models/chosen_fp32.onnx", "models/chosen_int8.onnx",
        "models/largest_fp32.safetensors", "models/chosen_fp32.safetensors",
    }  # fmt: skip
    assert not [name for name in files if ".part" in name]
    assert Recipe.from_yaml(finished.folder / "recipe.yaml") == recipe(finished.folder)


def test_reported_figures_are_those_of_the_files(finished):
    report = json.loads((finished.folder / "report.json").read_text())
    assert report["artefacts"] == finished.artefacts
    data = load_data("digits")
    for entry in finished.artefacts:
        path = finished.folder / entry["file"]
        size = Architecture(entry["architecture"])["r"][0]
        again = accuracy(OnnxSession(path), data.test, size)
        assert entry["accuracy"]["value"] == again.value
        assert entry["accuracy"]["images"] == len(data.test) == 359
        assert entry["size_bytes"] == path.stat().st_size
        assert entry["latency"]["median_ms"] > 0 and entry["latency"]["error_ms"] >= 0
        assert entry["context"]["hardware"]["cores"] and entry["context"]["threads"] == 1
    operators = {node.op_type for node in onnx.load(finished.folder / "models/chosen_int8.onnx").graph.node}
    assert "QuantizeLinear" in operators


def test_exported_files_agree_with_each_other_and_say_what_they_are(finished):
    state = state_of(finished)
    chosen = state.architecture("chosen")
    module = state.network("chosen")
    weights = read_state(finished.folder / "models/chosen_fp32.safetensors")
    assert all(torch.equal(weights[key], tensor) for key, tensor in module.state_dict().items())
    images = state.data.test.images(torch.arange(16), state.supernet.resolution(chosen))
    with torch.no_grad():
        expected = module(images)
    session = OnnxSession(finished.folder / "models/chosen_fp32.onnx")
    torch.testing.assert_close(session(images), expected, atol=1e-4, rtol=1e-4)
    assert Architecture(json.loads(session.metadata["architecture"])) == chosen
    with safe_open(finished.folder / "supernet.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["supernet"])["name"] == "digits_mbv3"


def test_the_choice_keeps_to_the_limits(finished):
    state = state_of(finished)
    largest = state.supernet.space.restrict({"r": [8, 12]}).largest()
    chosen = finished.outcomes["select"]
    assert chosen["values"]["macs"] <= 0.9 * state.supernet.macs(largest)
    result = state.search()
    better = [t for t in result if t.values["acc"] > chosen["values"]["acc"]]
    assert all(t.values["macs"] > 0.9 * state.supernet.macs(largest) for t in better)


def test_run_again_nothing_is_done_twice(finished):
    result, worked = run(recipe(finished.folder))
    assert worked == []
    assert result.artefacts == finished.artefacts


STEPS = ["train_supernet", "nas", "select", "distill", "quantize", "export", "benchmark"]
CHANGES = {
    "train_supernet": {"lr": 0.02},
    "nas": {"calibration_images": 300},
    "select": {"constraints": {"macs": "<= 0.3 x largest"}},
    "distill": {"lr": 0.02},
    "quantize": {"calibration_images": 33},
    "export": {"formats": ["onnx"]},
    "benchmark": {"batch_size": 2},
}


@pytest.fixture
def copied(finished, tmp_path):
    """A folder of one's own with the finished run."""
    return Path(shutil.copytree(finished.folder, tmp_path / "copy"))


@pytest.mark.parametrize("name", STEPS)
def test_a_changed_step_is_run_again_with_those_after_it(copied, name):
    result, worked = run(recipe(copied, **{name: CHANGES[name]}))
    assert worked == STEPS[STEPS.index(name) :]
    assert list(result.outcomes) == STEPS
    assert Recipe.from_yaml(copied / "recipe.yaml") == recipe(copied, **{name: CHANGES[name]})
    report = json.loads((copied / "report.json").read_text())
    chosen = next(e for e in report["artefacts"] if e["name"] == "chosen int8")
    assert chosen["architecture"] == report["steps"]["select"]["architecture"]


def test_a_longer_search_keeps_what_was_measured(copied):
    before = (copied / "search_results.jsonl").read_text()
    _, worked = run(recipe(copied, nas={"num_evals": 8}))
    assert worked == STEPS[1:]
    after = (copied / "search_results.jsonl").read_text()
    assert after.startswith(before) and after != before


def test_a_changed_search_is_another_one_and_the_first_is_kept(copied):
    archives = {p: p.read_bytes() for p in copied.glob("steps/nas-*/search_results.jsonl")}
    run(recipe(copied, nas={"population": 5}))
    assert len(list(copied.glob("steps/nas-*"))) == len(archives) + 1
    assert all(path.read_bytes() == rows for path, rows in archives.items())


def test_missing_files_are_made_again(copied):
    (copied / "models" / "chosen_int8.onnx").unlink()
    result, worked = run(recipe(copied))
    assert worked == ["export", "benchmark"]
    assert all((copied / entry["file"]).is_file() for entry in result.artefacts)


def test_steps_that_the_recipe_no_longer_has_leave_nothing_behind(copied):
    shorter = recipe(copied)
    shorter.steps = [step for step in shorter.steps if step.name not in ("distill", "quantize")]
    result, worked = run(shorter)
    assert worked == ["export", "benchmark"]
    assert [entry["name"] for entry in result.artefacts] == ["largest fp32", "chosen fp32"]
    assert not (copied / "models" / "chosen_int8.onnx").exists()
    assert not {"distill", "quantize"} & set(json.loads((copied / "report.json").read_text())["steps"])


def test_an_unfinished_change_leaves_no_report_of_the_run_before(copied, monkeypatch):
    monkeypatch.setitem(steps.STEPS, "distill", broken)
    with pytest.raises(KeyboardInterrupt):
        compress(recipe(copied, select={"constraints": {"macs": "<= 0.3 x largest"}}))
    with pytest.raises(ConfigError, match="not come to a 'benchmark' step"):
        write_report(copied)


def test_other_weights_in_the_same_file_count_as_a_change(copied, tmp_path):
    weights = tmp_path / "weights.safetensors"

    def borrowed():
        made = recipe(tmp_path / "out")
        made.steps = made.steps[1:]
        made.supernet_ckpt_path = weights
        return made

    shutil.copyfile(copied / "supernet.safetensors", weights)
    assert run(borrowed())[1] == STEPS[1:]
    assert run(borrowed())[1] == []
    write_state(weights, digits_mbv3(seed=9).state_dict())
    assert run(borrowed())[1] == STEPS[1:]


def test_training_alone_leaves_the_rest_as_it_is(copied):
    before = {name: (copied / name).read_bytes() for name in ("recipe.yaml", "steps.json", "report.json")}
    result = compress(recipe(copied), until="train_supernet")
    assert list(result.outcomes) == ["train_supernet"]
    assert all((copied / name).read_bytes() == content for name, content in before.items())


def broken(*_):
    raise KeyboardInterrupt


def test_a_run_that_broke_goes_on_at_the_step_it_broke_in(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(steps.STEPS, "quantize", broken)
        with pytest.raises(KeyboardInterrupt):
            compress(recipe(tmp_path))
    rows = (tmp_path / "search_results.jsonl").read_bytes()
    result, worked = run(recipe(tmp_path))
    assert worked == ["quantize", "export", "benchmark"]
    assert len(result.artefacts) == 3
    assert (tmp_path / "search_results.jsonl").read_bytes() == rows


def test_limits_that_cannot_be_met_leave_the_search_intact(tmp_path):
    with pytest.raises(InfeasibleError, match="closest"):
        compress(recipe(tmp_path, select={"constraints": {"macs": "<= 10"}}))
    _, worked = run(recipe(tmp_path))
    assert worked == ["select", "distill", "quantize", "export", "benchmark"]


@pytest.mark.parametrize("record", ["{", '{"steps": []}', '{"steps": {"train_supernet": {}}}', '{"version": 9}'])
def test_a_damaged_record_is_named(tmp_path, record):
    (tmp_path / "steps.json").write_text(record)
    with pytest.raises(ConfigError, match=r"steps\.json is damaged"):
        compress(recipe(tmp_path))


def test_intel_neural_compressor_as_the_engine(tmp_path):
    pytest.importorskip("neural_compressor.torch")
    result = compress(recipe(tmp_path, quantize={"engine": "inc", "calibration_images": 32}))
    entry = next(e for e in result.artefacts if e["precision"] == "int8")
    assert entry["file"] == "models/chosen_int8.pt2" and (tmp_path / entry["file"]).is_file()
    fp32 = next(e for e in result.artefacts if e["name"] == "chosen fp32")
    assert abs(entry["accuracy"]["value"] - fp32["accuracy"]["value"]) < 10
    assert entry["context"]["backend"] == "torch"
