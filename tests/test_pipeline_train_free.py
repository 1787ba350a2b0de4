"""A recipe whose search is train-free, run: nothing untrained is measured or exported, and it goes on where it was."""

import json

import numpy as np
import pytest
from PIL import Image

from nas_compress import Recipe, compress
from nas_compress.compression.state import State
from nas_compress.supernets import supernets
from nas_compress.weights import read_state

QUICK = {"budget_s": 0.02, "min_runs": 3, "warmup": 1}
SEARCH = {
    "nas": {
        "approach": "denas",
        "population": 4,
        "num_evals": 6,
        "select_num": 2,
        "score_seeds": 1,
        "score_reference": 8,
        "score_batch": 2,
        "saliency_weight": 1,
        "expressivity_weight": 0,
        "complexity_weight": 0,
        "metrics": ["de_score", "macs"],
        "search_engine": "RandomSearchEngine",
    }
}
STEPS = [
    SEARCH,
    {"select": {"constraints": {"macs": "<= 0.8 x largest"}}},
    {"finetune": {"epochs": 2, "lr": 0.05, "batch_size": 128}},
    {"quantize": {"calibration_images": 32}},
    "export",
    {"benchmark": {"latency": QUICK}},
]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    whole = Recipe(
        supernet="digits_resnet", seed=5, latency=QUICK, steps=STEPS, output=tmp_path_factory.mktemp("recipe")
    )
    return whole, compress(whole)


def test_the_chosen_network_alone_is_made(done):
    whole, result = done
    assert list(result.outcomes["export"]["artefacts"]) == ["chosen fp32", "chosen int8"]
    assert [entry["name"] for entry in result.artefacts] == ["chosen fp32", "chosen int8"]
    assert list(result.table()["step"]) == ["finetune", "quantize"]
    assert not [path for path in whole.folder.rglob("*") if "largest" in path.name]
    assert result.outcomes["finetune"]["kept"] == "after" and result.table()["accuracy"][0] > 30


def test_the_best_score_within_the_limit_is_chosen(done):
    whole, result = done
    net = supernets.get("digits_resnet")(seed=0)
    limit = 0.8 * net.macs(net.space.largest())
    (text,) = result.outcomes["select"]["constraints"]["macs"]
    assert float(text.removeprefix("<= ")) == pytest.approx(limit)
    rows = _trials(whole)
    best = max((values for values in rows if values["macs"] <= limit), key=lambda values: values["de_score"])
    assert result.outcomes["select"]["values"] == best
    report = json.loads((whole.folder / "report.json").read_text())
    files = [(row["artefact"], row["met"]) for row in report["limits"]]
    assert files == [("chosen fp32", True), ("chosen int8", True)]


def _trials(whole):
    from nas_compress.result import SearchResult

    return [dict(trial.values) for trial in SearchResult.load(whole.folder / "search_results.jsonl")]


def test_training_starts_from_weights_of_the_recipes_seed(done):
    whole, _ = done
    (first,) = [read_state(path) for path in whole.folder.glob("steps/select_chosen.safetensors")]
    state = State(whole, whole.folder)
    state.outcomes["select"] = json.loads((whole.folder / "steps.json").read_text())["steps"]["select"]["outcome"]
    fresh = supernets.get("digits_resnet")(seed=5, num_classes=10).extract(state.architecture("chosen")).state_dict()
    names = [name for name in fresh if name.endswith("weight")]
    assert names and all(np.array_equal(fresh[name], first[name]) for name in names)


def test_a_finished_recipe_is_not_run_again(done):
    notes = []
    compress(done[0], progress=lambda p: notes.append(p.note))
    assert set(notes) == {"done before"}


def _photos(folder):
    """Write an image folder: two classes, of light and of dark noise, 32 pixels wide."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 60), ("val", 20), ("test", 20)):
        for label, brightness in (("dark", 60), ("light", 180)):
            (folder / split / label).mkdir(parents=True)
            for number in range(count):
                pixels = rng.normal(brightness, 30, (32, 32, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / label / f"{number}.png")
    return folder


def test_networks_that_share_no_weights_are_searched_and_trained(tmp_path):
    whole = Recipe(
        supernet="denas_cnn", dataset="image_folder", dataset_path=_photos(tmp_path / "photos"), latency=QUICK,
        output=tmp_path / "out",
        steps=[
            {"nas": {**SEARCH["nas"], "metrics": ["de_score"], "budget_model_size": 30_000}},
            "select",
            {"finetune": {"epochs": 6, "lr": 0.05, "batch_size": 20}},
            {"quantize": {"calibration_images": 32}},
            "export",
        ],
    )  # fmt: skip
    outcomes = compress(whole).outcomes
    assert outcomes["select"]["costs"]["chosen fp32"]["params"] <= 30_000
    assert list(outcomes["export"]["artefacts"]) == ["chosen fp32", "chosen int8"]
    assert outcomes["finetune"]["measured"]["after"]["accuracy"]["value"] > 90
