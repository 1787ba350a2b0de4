"""Recipes without a search: conditions, repeated steps, other engines; what each leaves behind."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from nas_compress import Recipe, compress
from nas_compress.backends.onnx import to_onnx
from nas_compress.compression import state as pipeline_state
from nas_compress.compression import steps
from nas_compress.compression.inputs import check_inputs
from nas_compress.compression.options import AccuracyCriterion
from nas_compress.compression.state import State
from nas_compress.data import load_data
from nas_compress.errors import CheckpointError, ConfigError, DataError
from nas_compress.files import sole_use
from nas_compress.report.comparison import everywhere
from nas_compress.supernets import supernets
from nas_compress.training.loop import Loop
from nas_compress.weights import read_state, write_state

QUICK = {"budget_s": 0.02, "min_runs": 3, "warmup": 1}
KNOWN = {"select": {"architecture": "smallest"}}
BRIEF = {"epochs": 1, "batch_size": 256}
QUANTIZE = {"calibration_images": 32}
SCRIPT = """
import sys, numpy, onnxruntime
assert "torch" not in sys.modules and "nas_compress" not in sys.modules
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
with numpy.load(sys.argv[2]) as file:
    logits = session.run(None, {session.get_inputs()[0].name: file["images"]})[0]
    print(100 * int((logits.argmax(1) == file["labels"]).sum()) / len(logits))
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "supernet.safetensors"
    write_state(path, supernets.get("digits_resnet")(seed=3).state_dict())
    return path


@pytest.fixture
def recipe(weights, tmp_path):
    def make(*listed):
        return Recipe(
            supernet="digits_resnet", supernet_ckpt_path=weights, output=tmp_path, steps=listed, latency=QUICK, seed=1
        )

    return make


def files(folder):
    """The names of a run's files, apart from those that it would put back where options come back."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*") if path.is_file()}
    return {name for name in names if not name.startswith("steps/kept/")}


def test_a_known_architecture_wants_no_search(recipe):
    result = compress(recipe({"select": {"architecture": "largest"}}, {"export": {"formats": ["onnx"]}}))
    assert result.stopped is None
    assert list(result.outcomes["export"]["artefacts"]) == ["largest fp32", "chosen fp32"]
    table = result.table()
    assert list(table["step"]) == ["largest", "select"]
    assert table["accuracy"][0] == table["accuracy"][1] and table["size"][0] == table["size"][1]


def test_a_named_architecture_is_taken(recipe):
    smallest = supernets.get("digits_resnet")(seed=0).space.smallest()
    result = compress(recipe({"select": {"architecture": smallest.to_dict()}}))
    assert result.outcomes["select"]["architecture"] == smallest.to_dict()


def test_what_a_condition_skips_leaves_nothing_behind(recipe, tmp_path):
    quantize = {"quantize": {**QUANTIZE, "skip_if": ["accuracy < 0 %", "size ratio > 0"]}}
    result = compress(recipe(KNOWN, quantize, {"export": {"formats": ["onnx"]}}, {"benchmark": {"latency": QUICK}}))
    assert result.stopped is None
    assert [entry["name"] for entry in result.artefacts] == ["largest fp32", "chosen fp32"]
    assert not [name for name in files(tmp_path) if "int8" in name]
    note = result.table()["note"].iloc[-1]
    assert note.startswith("dropped, size ratio > 0: ") and note.endswith("times the size")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["steps"]["quantize"]["dropped"].startswith("size ratio > 0")
    assert "dropped, size ratio" in (tmp_path / "report.html").read_text()


def test_a_pruning_that_is_dropped_leaves_the_costs_as_they_were(recipe, tmp_path):
    whole = recipe(KNOWN, {"prune": {"rounds": 1, "training": BRIEF, "skip_if": "accuracy < 101 %"}})
    state = State(whole, tmp_path)
    state.outcomes = compress(whole).outcomes
    assert state.outcomes["prune"]["dropped"]
    assert state.costs("chosen fp32") == state.outcomes["select"]["costs"]["chosen fp32"]


def test_a_training_that_makes_it_worse_is_taken_back(recipe, tmp_path):
    good, bad = {"epochs": 6, "lr": 0.05}, {"epochs": 1, "lr": 30.0, "optimizer": "sgd", "batch_size": 256}
    result = compress(recipe(KNOWN, {"finetune": good}, {"finetune": bad}, "export"))
    first, second = (result.outcomes[name] for name in ("finetune", "finetune_2"))
    assert (first["kept"], second["kept"], result.stopped) == ("after", "before", None)
    assert second["rejected"]["accuracy"]["value"] < second["measured"]["after"]["accuracy"]["value"]
    assert second["measured"]["after"] == second["measured"]["before"] and not second["files"]
    assert result.table()["note"].iloc[-1] == "training did not help: the weights before it are kept"
    exported, kept = (
        tmp_path / name for name in ("models/chosen_fp32.safetensors", "steps/finetune_chosen.safetensors")
    )
    assert all(torch.equal(tensor, read_state(kept)[key]) for key, tensor in read_state(exported).items())


@pytest.mark.parametrize("condition", ["stop_if", "skip_if"])
def test_conditions_on_training_are_judged_on_the_network_as_trained(recipe, tmp_path, condition):
    good, bad = {"epochs": 6, "lr": 0.05}, {"epochs": 1, "lr": 30.0, "optimizer": "sgd", "batch_size": 256}
    result = compress(recipe(KNOWN, {"finetune": good}, {"finetune": {**bad, condition: "accuracy drop > 5 %"}}))
    second = result.outcomes["finetune_2"]
    assert second["dropped"].startswith("accuracy drop > 5 %: ") and second["stops"] == (condition == "stop_if")
    assert (result.stopped is not None) == (condition == "stop_if")
    before, after = (second["measured"][name]["accuracy"]["value"] for name in ("before", "after"))
    assert after < before - 5 and not second["files"]
    assert (tmp_path / "steps/finetune_chosen.safetensors").is_file()


@pytest.mark.parametrize("step", [{"finetune": BRIEF}, {"prune": {"rounds": 1, "training": BRIEF}}])
def test_another_condition_judges_what_was_trained_without_another_training(recipe, monkeypatch, step):
    ((name, options),), made, original = step.items(), [], Loop._step
    monkeypatch.setattr(Loop, "_step", lambda *given: made.append(1) or original(*given))
    first = compress(recipe(KNOWN, {name: {**options, "stop_if": "accuracy < 100 %"}}))
    assert first.stopped
    trained = len(made)
    second = compress(recipe(KNOWN, {name: {**options, "stop_if": "accuracy < 0 %"}}, "export"))
    assert second.stopped is None and len(made) == trained > 0
    before, after = (r.outcomes[name]["measured"]["after"]["accuracy"]["value"] for r in (first, second))
    assert before == after


@pytest.mark.parametrize("step", [{"finetune": BRIEF}, {"prune": {"rounds": 1, "training": BRIEF}}])
def test_conditions_that_change_judge_what_was_kept_without_another_training(recipe, tmp_path, monkeypatch, step):
    ((name, options),), made, original = step.items(), [], Loop._step
    monkeypatch.setattr(Loop, "_step", lambda *given: made.append(1) or original(*given))

    def run(**conditions):
        return compress(recipe(KNOWN, {name: {**options, **conditions}}, {"export": {"formats": ["onnx"]}}))

    first = run()
    trained, exported = len(made), (tmp_path / "models/chosen_fp32.onnx").read_bytes()
    assert trained and first.outcomes[name]["files"]
    for conditions in ({"skip_if": "accuracy < 0 %"}, {"stop_if": "accuracy < 0 %"}):
        again = run(**conditions)
        assert again.stopped is None and again.outcomes[name] == first.outcomes[name]
    dropped = run(skip_if="accuracy < 101 %")
    assert dropped.outcomes[name]["dropped"] and not dropped.outcomes[name]["files"]
    assert "kept" not in dropped.outcomes[name]
    assert not list(tmp_path.glob(f"steps/{name}_chosen.*"))
    assert (tmp_path / "models/chosen_fp32.onnx").read_bytes() != exported
    assert run(stop_if="accuracy < 101 %").stopped
    assert run(skip_if="size ratio > 9").outcomes[name] == first.outcomes[name]
    assert (tmp_path / "models/chosen_fp32.onnx").read_bytes() == exported
    assert len(made) == trained


def test_files_that_the_recipe_names_are_kept(recipe, tmp_path):
    """A later recipe in the same folder reads what an earlier one made, and does not take it away."""
    train = {"train_supernet": {"epochs": 1, "batch_size": 256, "subnets_per_step": 2}}
    first = recipe(train, KNOWN, "export")
    first.supernet_ckpt_path = None
    compress(first)
    second = recipe(KNOWN, {"distill": {**BRIEF, "teacher": tmp_path / "models/largest_fp32.onnx"}})
    second.supernet_ckpt_path = tmp_path / "supernet.safetensors"
    for _ in range(2):
        compress(second)
        assert (tmp_path / "supernet.safetensors").is_file() and (tmp_path / "models/largest_fp32.onnx").is_file()
    assert not (tmp_path / "models/chosen_fp32.onnx").exists()


def test_files_that_a_step_writes_over_are_refused(recipe, tmp_path):
    (tmp_path / "models").mkdir()
    for name in ("models/largest_fp32.onnx", "search_results.jsonl"):
        (tmp_path / name).write_text("")
    distill = {"distill": {**BRIEF, "teacher": tmp_path / "models/largest_fp32.onnx"}}
    with pytest.raises(
        ConfigError, match=r"steps\[1\]\.distill\.teacher: .*is what the export step of this recipe writes"
    ):
        compress(recipe(KNOWN, distill, "export"))
    search = {"nas": {"metrics": ["acc", "macs"], "warm_start": tmp_path / "search_results.jsonl"}}
    with pytest.raises(ConfigError, match=r"steps\[0\]\.nas\.warm_start: .*is what the nas step of this recipe writes"):
        compress(recipe(search, "select"))


def test_the_recipe_that_is_read_is_not_written_over(recipe, tmp_path):
    path = tmp_path / "recipe.yaml"
    recipe(KNOWN, "export").to_yaml(path)
    path.write_text("# mine\n" + path.read_text())
    compress(path)
    assert path.read_text().startswith("# mine\n")
    compress(recipe(KNOWN, "export", "benchmark"))
    assert not path.read_text().startswith("# mine\n"), "of another recipe: what was run last"


def test_a_condition_that_stops_ends_the_recipe_and_keeps_what_was_before(recipe, tmp_path):
    prune = {"prune": {"rounds": 1, "training": BRIEF, "stop_if": "accuracy < 100 %"}}
    whole = recipe(KNOWN, prune, "export")
    result = compress(whole)
    assert result.stopped.startswith("prune: accuracy < 100 %: ")
    assert list(result.outcomes) == ["select", "prune"]
    begun = [name for name in files(tmp_path) if name.startswith("steps/prune-")]
    assert begun, "the training, for another condition"
    assert not [name for name in files(tmp_path) if "prune" in name and name not in begun or name.startswith("models")]
    worked = []
    again = compress(whole, progress=lambda p: worked.append((p.step, p.note)))
    assert again.stopped == result.stopped and worked == [("select", "done before"), ("prune", "done before")]
    whole.steps = [step for step in whole.steps if step.name != "prune"]
    assert compress(whole).stopped is None


def test_latency_is_judged_and_reported_at_the_batch_sizes_and_threads_that_count(recipe, tmp_path):
    several = list(range(1, min(2, os.cpu_count() or 1) + 1))
    benchmark = {"benchmark": {"batch_size": [1, 4], "latency": {**QUICK, "threads": several}}}
    whole = recipe(KNOWN, {"quantize": QUANTIZE}, {"export": {"formats": ["onnx"]}}, benchmark)
    whole.latency = {**QUICK, "batch_size": 32}
    result = compress(whole)
    for step in ("select", "quantize"):
        assert result.outcomes[step]["measured"]["after"]["context"]["batch_size"] == 32
    runs = [(batch, threads) for batch in (1, 4) for threads in several]
    for entry in result.artefacts:
        measured = [(e["context"]["batch_size"], e["context"]["threads"]) for e in everywhere(entry)]
        assert measured == runs and all(e["latency"]["median_ms"] > 0 for e in everywhere(entry))
    report = json.loads((tmp_path / "report.json").read_text())
    assert all([(x["batch_size"], x["threads"]) for x in c["latencies"]] == runs for c in report["comparisons"])
    page = (tmp_path / "report.html").read_text()
    assert all(
        text in page for text in ("<th>batch 1, 1 thread (ms)", "<th>batch 4, 1 thread (ms)", "batch 32, 1 thread")
    )
    assert Recipe.from_yaml(tmp_path / "recipe.yaml") == whole


def test_conditions_compare_with_the_network_before_the_step(recipe):
    quantize = {"quantize": {**QUANTIZE, "skip_if": "accuracy drop > 100 %"}}
    measured = compress(recipe(KNOWN, {"finetune": BRIEF}, quantize)).outcomes
    assert (
        measured["quantize"]["measured"]["before"]["accuracy"] == measured["finetune"]["measured"]["after"]["accuracy"]
    )


def test_pruned_twice_and_trained_between(recipe, tmp_path):
    prune = {"prune": {"rounds": 1, "target_sparsity": 0.3, "round_to": 4, "training": {**BRIEF, "teacher": None}}}
    whole = recipe(
        {"select": {"architecture": "largest"}}, prune, {"distill": BRIEF}, prune, {"quantize": QUANTIZE}, "export"
    )
    result = compress(whole)
    costs = [result.outcomes[step]["costs"]["chosen fp32"] for step in ("select", "prune", "distill", "prune_2")]
    assert costs[0]["macs"] > costs[1]["macs"] == costs[2]["macs"] > costs[3]["macs"]
    assert costs[0]["params"] > costs[1]["params"] > costs[3]["params"]
    assert list(result.table()["step"]) == ["largest", "select", "prune", "distill", "prune_2", "quantize"]
    worked = []
    compress(whole, progress=lambda p: worked.append(p.note))
    assert set(worked) == {"done before"}
    assert {"models/chosen_fp32.onnx", "models/chosen_int8.onnx", "models/chosen_fp32.safetensors"} <= files(tmp_path)


def test_a_killed_prune_goes_on_with_the_rounds_that_are_done(recipe, monkeypatch):
    whole = recipe(KNOWN, {"prune": {"rounds": 2, "training": BRIEF}}, "export")
    with monkeypatch.context() as patch:
        patch.setitem(steps.STEPS, "export", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            compress(whole)
    worked = []
    compress(whole, progress=lambda p: worked.append(p.step) if p.note == "done" else None)
    assert worked == ["export"]


def _interrupt(*_):
    raise KeyboardInterrupt


def test_an_accuracy_criterion_holds_or_is_said_not_to(recipe):
    criterion = {"criterion": "absolute", "tolerable_loss": 0.0}
    quantize = {"quantize": {**QUANTIZE, "accuracy_criterion": criterion, "tuning_criterion": {"max_trials": 3}}}
    result = compress(recipe(KNOWN, {"finetune": BRIEF}, quantize))
    tuning, note = result.outcomes["quantize"]["tuning"], result.table()["note"].iloc[-1]
    assert tuning["after"] >= tuning["before"]
    assert tuning["after"] == pytest.approx(result.outcomes["quantize"]["measured"]["after"]["accuracy"]["value"])
    assert ("criterion held" in note) == tuning["accepted"] != ("criterion cannot be met" in note)


@pytest.mark.parametrize("condition", ["not smaller", "not faster", "accuracy drop > 0 %"])
def test_conditions_that_stop_are_judged_where_nothing_was_made(recipe, monkeypatch, condition):
    monkeypatch.setattr(AccuracyCriterion, "holds", lambda self, after, before: False)
    criterion = {"accuracy_criterion": {}, "tuning_criterion": {"max_trials": 1}, "stop_if": condition}
    result = compress(recipe(KNOWN, {"quantize": {**QUANTIZE, **criterion}}, {"export": {"formats": ["onnx"]}}))
    quantized, note = result.outcomes["quantize"], result.table()["note"].iloc[-1]
    assert quantized["stops"] == (result.stopped is not None) == condition.startswith("not")
    assert "accuracy criterion cannot be met (1 trials)" in note and "nothing was quantized" in note
    assert "held" not in note and not quantized["models"]


@pytest.mark.parametrize("quantize", [QUANTIZE, {"approach": "dynamic"}], ids=["static", "dynamic"])
def test_exported_files_need_onnx_runtime_alone(recipe, tmp_path, quantize):
    listed = [KNOWN, {"quantize": quantize}, {"export": {"formats": ["onnx"]}}]
    result = compress(recipe(*listed, {"benchmark": {"latency": QUICK, "eval_batch_size": 359}}))
    data = load_data("digits")
    for entry in result.artefacts:
        images = data.test.images(torch.arange(len(data.test)), entry["architecture"]["r"][0])
        np.savez(tmp_path / "test.npz", images=images.numpy(), labels=data.test.labels.numpy())
        command = [sys.executable, "-I", "-c", SCRIPT, str(tmp_path / entry["file"]), str(tmp_path / "test.npz")]
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert float(found) == entry["accuracy"]["value"]


def test_a_teacher_of_ones_own(recipe, tmp_path):
    first = compress(recipe({"select": {"architecture": "largest"}}, {"export": {"formats": ["onnx"]}}))
    teacher = first.folder / first.outcomes["export"]["artefacts"]["largest fp32"]
    kept = tmp_path.parent / f"{tmp_path.name}_teacher.onnx"
    kept.write_bytes(teacher.read_bytes())
    resolution = {
        "select": {"architecture": {**supernets.get("digits_resnet")(seed=0).space.smallest().to_dict(), "r": [16]}}
    }
    result = compress(recipe(resolution, {"distill": {**BRIEF, "teacher": str(kept)}}))
    assert result.outcomes["distill"]["kept"] in ("before", "after")


def _worked(whole):
    worked = []
    compress(whole, progress=lambda p: worked.append(p.step) if p.note == "done" else None)
    return worked


@pytest.mark.parametrize("name", ["steps/select_chosen.safetensors", "steps/quantize_int8.onnx"])
def test_a_damaged_file_is_made_again(recipe, tmp_path, name):
    whole = recipe(KNOWN, {"quantize": QUANTIZE}, {"export": {"formats": ["onnx"]}})
    compress(whole)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    labels = ["select", "quantize", "export"]
    assert _worked(whole) == labels[labels.index(name.removeprefix("steps/").split("_")[0]) :]
    assert len((tmp_path / name).read_bytes()) == len(content)
    assert _worked(whole) == []


class _Linear(torch.nn.Module):
    def __init__(self, channels, size, classes):
        super().__init__()
        self.layer = torch.nn.Linear(channels * size**2, classes)

    def forward(self, x):
        return self.layer(x.flatten(1))


TEACHERS = {
    "of other classes": ((1, 8, 7), "data 'digits' has 10 classes, the net has 7 outputs"),
    "of another size": ((1, 9, 10), "does not take the images of 'digits', of shape \\(1, r, r\\), r of \\["),
    "of other channels": ((3, 8, 10), "does not take the images of 'digits'"),
    "no network": (None, "ONNX Runtime cannot load"),
}


@pytest.mark.parametrize("name", TEACHERS)
def test_a_teacher_that_does_not_fit_is_refused_before_any_work(recipe, tmp_path, name):
    (shape, expected), path = TEACHERS[name], tmp_path.parent / f"{tmp_path.name}.onnx"
    channels, size, _ = shape or (1, 8, 10)
    made = to_onnx(_Linear(*shape), torch.zeros(2, channels, size, size)) if shape else b"nothing"
    path.write_bytes(made)
    compress(recipe(KNOWN, "export"))
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    begun = []
    with pytest.raises(ConfigError, match=rf"^steps\[1\]\.distill\.teacher: .*{expected}"):
        compress(recipe(KNOWN, {"distill": {**BRIEF, "teacher": str(path)}}, "export"), progress=begun.append)
    assert {p.note for p in begun} <= {"done before"}
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before


@pytest.mark.parametrize("wrong", ["of another network", "nan"])
def test_a_wrong_checkpoint_loses_nothing_that_was_made(recipe, weights, tmp_path, wrong):
    compress(recipe(KNOWN, "export"))
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    state = read_state(weights)
    key = next(name for name, tensor in state.items() if tensor.is_floating_point())
    state[key] = state[key][:1] if wrong != "nan" else torch.full_like(state[key], torch.nan)
    other = tmp_path.parent / f"{tmp_path.name}.safetensors"
    write_state(other, state)
    changed = recipe(KNOWN, "export")
    changed.supernet_ckpt_path = other
    with pytest.raises(CheckpointError, match=r"is of another network" if wrong != "nan" else f"{key} is not finite"):
        compress(changed)
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before


@pytest.mark.parametrize(("part", "words"), [("train", "training"), ("val", "search-validation")])
def test_data_with_nan_are_named_before_any_work(recipe, tmp_path, monkeypatch, part, words):
    class Spoilt:
        def __init__(self, split):
            self.split = split

        def __len__(self):
            return len(self.split)

        def images(self, indices, resolution):
            return self.split.images(indices, resolution) * float("nan")

    digits = load_data("digits")
    spoilt = replace(digits, **{part: Spoilt(getattr(digits, part))})
    monkeypatch.setattr(pipeline_state, "load_data", lambda *_: spoilt)
    with pytest.raises(
        DataError, match=f"^data 'digits' has values that are NaN or infinite in its first {words} images"
    ):
        compress(recipe(KNOWN, "export"))
    assert not files(tmp_path)


def test_a_folder_serves_one_run_at_a_time(recipe, tmp_path):
    with sole_use(tmp_path), pytest.raises(ConfigError, match=f"another run is at work in {tmp_path}"):
        compress(recipe(KNOWN))
    assert compress(recipe(KNOWN)).stopped is None


def test_pruning_that_removes_nothing_says_so(recipe):
    prune = {"prune": {"rounds": 1, "round_to": 4096, "training": {**BRIEF, "teacher": None}}}
    assert compress(recipe(KNOWN, prune)).table()["note"].iloc[-1] == "nothing was removed"


def test_fewer_images_than_asked_for_are_said(recipe, caplog):
    compress(recipe(KNOWN, {"quantize": {"calibration_images": 5000}}))
    (said,) = [record.message for record in caplog.records if "calibration_images" in record.message]
    assert said == f"calibration_images = 5000, and data 'digits' has {len(load_data('digits').train)} training images"


def test_another_teacher_in_the_same_file_counts_as_a_change(recipe, tmp_path):
    first = compress(recipe({"select": {"architecture": "smallest"}}, {"export": {"formats": ["onnx"]}}))
    model = first.folder / first.outcomes["export"]["artefacts"]["chosen fp32"]
    teacher = tmp_path.parent / f"{tmp_path.name}_teacher.onnx"
    teacher.write_bytes(model.read_bytes())
    whole = recipe(KNOWN, {"distill": {**BRIEF, "teacher": str(teacher)}})

    def worked():
        labels = []
        compress(whole, progress=lambda p: labels.append(p.step) if p.note == "done" else None)
        return labels

    assert "distill" in worked() and worked() == []
    changed = onnx.load(teacher)
    onnx.helper.set_model_props(changed, {"another": "file"})
    onnx.save(changed, teacher)
    assert worked() == ["distill"]


def test_a_teacher_goes_with_a_search_of_restricted_precisions(recipe, tmp_path):
    first = compress(recipe({"select": {"architecture": "largest"}}, {"export": {"formats": ["onnx"]}}))
    teacher = tmp_path.parent / f"{tmp_path.name}_teacher.onnx"
    teacher.write_bytes((first.folder / first.outcomes["export"]["artefacts"]["largest fp32"]).read_bytes())
    allowed = {"r": [16], "precision": ["int8"]}
    search = {"metrics": ["acc"], "precision": {"by": "network"}, "search_space": allowed}
    whole = recipe({"nas": search}, "select", {"distill": {**BRIEF, "teacher": str(teacher)}})
    check_inputs(State(whole, whole.folder))


def test_a_teacher_of_one_size_teaches_networks_of_others(recipe, tmp_path):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16 * 16, 10))
    teacher = tmp_path.parent / f"{tmp_path.name}_teacher.onnx"
    teacher.write_bytes(to_onnx(net, torch.randn(2, 1, 16, 16)))
    result = compress(recipe(KNOWN, {"distill": {**BRIEF, "teacher": str(teacher)}}))
    assert result.outcomes["select"]["architecture"]["r"] == [8]
    assert result.outcomes["distill"]["kept"] in ("before", "after")
