"""What training and search made outlives changed options, other seeds and typing errors."""

import pytest

from nas_compress import NAS, Recipe, compress
from nas_compress.compression import changes, steps
from nas_compress.recipe import FinetuneStep

TRAIN = {"epochs": 1, "batch_size": 256, "subnets_per_step": 2, "warmup_epochs": 0}
SEARCH = {"metrics": ["acc", "macs"], "population": 2, "num_evals": 3, "calibration_images": 64}
MADE = ("supernet.safetensors", "training.csv", "search_results.csv", "search_results.jsonl")


def recipe(folder, train=TRAIN, search=SEARCH, **changes):
    listed = [{"train_supernet": train}, {"nas": search}, "select", {"export": {"formats": ["onnx"]}}]
    quick = {"budget_s": 0.02, "min_runs": 3, "warmup": 1}
    return Recipe(supernet="digits_resnet", output=folder, steps=listed, latency=quick, **changes)


OTHERS = {
    "training": {"train": TRAIN | {"lr": 0.02}},
    "search": {"search": SEARCH | {"num_evals": 4}},
    "seed": {"seed": 7},
}


def published(folder):
    """The contents of all files outside of `steps/`."""
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and (folder / "steps") not in p.parents}


def run(recipe, **options):
    """Run a recipe and return the steps that were not done before."""
    worked = []
    compress(recipe, progress=lambda p: worked.append(p.step) if p.note == "done" else None, **options)
    return worked


def interrupted(*_):
    raise KeyboardInterrupt


def test_a_change_that_is_interrupted_loses_nothing(tmp_path, monkeypatch):
    run(recipe(tmp_path))
    before = published(tmp_path)
    for name, change in (("train_supernet", OTHERS["training"]), ("nas", OTHERS["search"])):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setitem(steps.STEPS, name, interrupted)
            compress(recipe(tmp_path, **change))
        assert published(tmp_path) == before
        assert run(recipe(tmp_path)) == []


def finetune(lr):
    return {"finetune": {"epochs": 1, "batch_size": 256, "lr": lr}}


def prune(lr):
    return {"prune": {"pattern": "1x1", "rounds": 1, "training": {**finetune(lr)["finetune"], "teacher": None}}}


@pytest.mark.parametrize("step", [finetune, prune])
def test_a_training_outlives_a_measurement_that_is_interrupted(tmp_path, monkeypatch, step):
    def trained(lr):
        """Run a recipe and return whether the step had to train."""
        seen, whole = [], recipe(tmp_path)
        whole.steps = [{"train_supernet": TRAIN}, {"select": {"architecture": "smallest"}}, step(lr)]
        compress(whole, progress=lambda p: seen.append(p.step == step.__name__ and p.note.startswith("epoch")))
        return any(seen)

    def break_off(lr):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(changes, "measure_change", interrupted)
            trained(lr)

    break_off(0.01)
    assert not trained(0.01)  # goes on at the measurement
    assert not list(tmp_path.glob(f"steps/{step.__name__}-*"))
    break_off(0.02)
    assert not trained(0.01)  # what was done before is still there


@pytest.mark.parametrize("other", OTHERS)
def test_going_back_finds_what_was_made(tmp_path, other):
    run(recipe(tmp_path))
    before = published(tmp_path)
    assert run(recipe(tmp_path, **OTHERS[other]))[-3:] == ["nas", "select", "export"]
    assert (tmp_path / "search_results.csv").read_bytes() != before[tmp_path / "search_results.csv"]
    assert run(recipe(tmp_path)) == ["select", "export"]
    after = published(tmp_path)
    assert after.keys() == before.keys()
    assert all(after[tmp_path / name] == before[tmp_path / name] for name in (*MADE, "recipe.yaml"))


def test_what_is_published_is_of_one_recipe(tmp_path):
    run(recipe(tmp_path))
    changed = recipe(tmp_path, **OTHERS["training"])
    assert run(changed, until="train_supernet") == ["train_supernet"]
    names = {path.name for path in published(tmp_path)}
    assert names == {"recipe.yaml", "steps.json", "supernet.safetensors", "training.csv", "training.png"}
    assert Recipe.from_yaml(tmp_path / "recipe.yaml") == changed


def test_a_kept_file_that_was_changed_is_made_again(tmp_path):
    run(recipe(tmp_path))
    run(recipe(tmp_path, **OTHERS["training"]))
    for path in tmp_path.glob("steps/**/supernet.safetensors"):
        path.write_bytes(b"")
    assert run(recipe(tmp_path))[0] == "train_supernet"


def test_a_search_that_ran_out_of_time_is_not_gone_on_with_by_the_step_after_it(tmp_path, monkeypatch):
    limited = recipe(tmp_path, search=SEARCH | {"num_evals": 30, "time_budget": 0.01})
    notes = []
    for _ in range(2):
        compress(limited, until="nas", progress=lambda p: notes.append(p.note))
        assert notes[-1].startswith("out of time after ")
        assert notes[-1].endswith(" of 30 evaluations; another time_budget goes on from there")
    before = published(tmp_path)
    monkeypatch.setattr(NAS, "search", interrupted)
    assert run(limited) == ["select", "export"]
    after = published(tmp_path)
    assert all(after[tmp_path / name] == before[tmp_path / name] for name in MADE)


def test_a_full_search_of_another_length_is_another_one(tmp_path):
    full = SEARCH | {"approach": "full", "generations": 1}
    for count in (4, 6):
        assert run(recipe(tmp_path, search=full | {"num_evals": count}), until="nas")[-1] == "nas"
    assert len(list(tmp_path.glob("steps/nas-*"))) == 2
    for count in (4, 5):
        run(recipe(tmp_path, search=full | {"num_evals": count, "training_samples": 3}), until="nas")
    assert len(list(tmp_path.glob("steps/nas-*"))) == 3


@pytest.mark.parametrize("constraints", [{}, {"macs": "<= 0.5 x largest"}])
def test_a_choice_from_the_archive_is_that_from_the_search(tmp_path, constraints):
    whole = recipe(tmp_path, search=SEARCH | {"num_evals": 6, "constraints": constraints})
    chosen = compress(whole).outcomes["select"]
    (tmp_path / "steps" / "select_chosen.safetensors").unlink()
    again = compress(whole).outcomes["select"]
    assert again["measured"] != chosen["measured"]
    assert all(again[name] == chosen[name] for name in ("architecture", "values"))


def test_how_a_path_is_written_is_no_matter(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = recipe(tmp_path / "first")
    run(whole, until="train_supernet")
    borrowed = recipe(tmp_path / "second")
    borrowed.steps = [{"select": {"architecture": "smallest"}}, "export"]
    for path in (tmp_path / "first/supernet.safetensors", "first/supernet.safetensors", "first/../copy.safetensors"):
        borrowed.supernet_ckpt_path = path
        if "copy" in str(path):
            (tmp_path / "first/supernet.safetensors").rename("copy.safetensors")
        assert run(borrowed) == ([] if path != tmp_path / "first/supernet.safetensors" else ["select", "export"])


def test_a_search_of_other_weights_is_another_one(tmp_path, monkeypatch):
    """Weights that are lost and come out otherwise (on other threads, say) have a search of their own."""
    run(recipe(tmp_path))
    for path in tmp_path.rglob("supernet.safetensors"):
        path.unlink()
    random = steps.STEPS["train_supernet"]

    def otherwise(state, options, tick):
        return random(state, options.model_copy(update={"lr": 0.02}), tick)

    monkeypatch.setitem(steps.STEPS, "train_supernet", otherwise)
    assert run(recipe(tmp_path)) == ["train_supernet", "nas", "select", "export"]


def test_a_training_of_another_network_is_another_one(tmp_path, monkeypatch):
    """A choice, and the outcome of a training, that is made again may be another: latencies vary, threads do."""
    whole = recipe(tmp_path)
    whole.steps = [{"train_supernet": TRAIN}, {"select": {"architecture": "smallest"}}, finetune(0.01), prune(0.01)]
    assert run(whole) == ["train_supernet", "select", "finetune", "prune"]
    for path in tmp_path.rglob("finetune_chosen.safetensors"):
        path.unlink()
    train = changes._CHANGES[FinetuneStep]

    def otherwise(state, options, tick):
        return train(state, options.model_copy(update={"lr": 0.02}), tick)

    with monkeypatch.context() as patch:
        patch.setattr(changes, "_CHANGES", changes._CHANGES | {FinetuneStep: otherwise})
        assert run(whole) == ["finetune", "prune"]
    (tmp_path / "steps" / "select_chosen.safetensors").unlink()
    monkeypatch.setattr(steps, "_choose", lambda state, *_: (state.supernet.space.largest(), {}))
    assert run(whole) == ["select", "finetune", "prune"]


def test_a_choice_that_is_made_again_alike_keeps_its_training(tmp_path):
    whole = recipe(tmp_path)
    whole.steps = [{"train_supernet": TRAIN}, {"select": {"architecture": "smallest"}}, finetune(0.01)]
    run(whole)
    (tmp_path / "steps" / "select_chosen.safetensors").unlink()
    assert run(whole) == ["select"]
