"""Recipes for text, translation and speech, run on small data made here."""

import json

import numpy as np
import pytest
import torch

from nas_compress import Recipe, compress
from nas_compress.backends.onnxruntime import OnnxSession
from nas_compress.compression.state import State
from nas_compress.data import load_data
from nas_compress.errors import DataError
from nas_compress.objectives.text import text_accuracy
from nas_compress.supernets import supernets
from nas_compress.weights import write_state

QUICK = {"budget_s": 0.02, "min_runs": 3, "warmup": 1}
TRAIN = {"epochs": 1, "batch_size": 16, "optimizer": "adamw", "warmup_epochs": 0, "curve": 0}
KNOWN = {"select": {"architecture": "smallest"}}
BENCHMARK = {"benchmark": {"latency": QUICK}}
WORDS = ["good", "bad", "film", "plot", "the", "is", "."]


def state_of(whole):
    state = State(whole, whole.folder)
    steps = json.loads((whole.folder / "steps.json").read_text())["steps"]
    state.outcomes = {label: step["outcome"] for label, step in steps.items()}
    return state


def sentences(folder):
    """Sentences whose label is in their last word but one."""
    rng = np.random.default_rng(0)
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    for part, count in (("train", 64), ("dev", 20), ("test", 30)):
        nouns = [" ".join(rng.choice(WORDS[2:4], i % 3 + 1)) for i in range(count)]
        lines = [f"{i % 2}\tthe {noun} is {WORDS[i % 2]} ." for i, noun in enumerate(nouns)]
        (folder / f"{part}.tsv").write_text("\n".join(["label\ttext", *lines]))
    return {"dataset_path": folder, "dataset_options": {"tokenizer": str(folder), "length": 16}}


def digits(folder):
    """Utterances in the form of the Free Spoken Digit Dataset: a tone per digit, and six recordings of each."""
    time, rng = np.arange(1600) / 8000, np.random.default_rng(0)
    tones = [np.sin(2 * np.pi * (200 + 150 * number) * time) for number in range(10) for _ in range(6)]
    audio = [(8000 * (tone + 0.1 * rng.standard_normal(1600))).astype(np.int16) for tone in tones]
    np.savez(
        folder / "digits.npz",
        audio=np.concatenate(audio),
        offsets=1600 * np.arange(len(audio) + 1),
        labels=np.repeat(np.arange(10), 6),
        speaker=np.zeros(60, int),
        speakers=np.array(["ann"]),
        index=np.tile(np.arange(3, 9), 10),
    )
    return {"dataset_path": folder / "digits.npz"}


def parallel(folder):
    for part, count in (("train", 40), ("val", 4), ("test", 4)):
        lines = [" ".join(np.random.default_rng(i).choice(WORDS, 4)) for i in range(count)]
        (folder / f"{part}.de").write_text("\n".join(lines))
        (folder / f"{part}.en").write_text("\n".join(line.upper() for line in lines))
    return {"dataset_path": folder, "dataset_options": {"languages": ["de", "en"], "vocabulary": 60}}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """The template for text, made smaller, and run."""
    pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("text")
    whole = Recipe.from_yaml("text_int8")
    for name, value in {**sentences(folder), "output": folder / "run", "latency": QUICK}.items():
        setattr(whole, name, value)
    changes = {
        "train_supernet": TRAIN | {"epochs": 5, "lr": 3e-3, "algorithm": "single_path", "subnets_per_step": 1},
        "nas": {"approach": "random", "num_evals": 2, "population": 2, "metrics": ["acc", "macs"]},
        "select": {"constraints": {"macs": "<= 0.9 x largest"}},
        "distill": TRAIN,
        "benchmark": BENCHMARK["benchmark"],
    }
    whole.steps = [{step.name: changes.get(step.name, step.options)} for step in whole.steps]
    return whole, compress(whole)


def test_text_from_training_to_int8(text):
    whole, result = text
    assert [entry["name"] for entry in result.artefacts] == ["largest fp32", "chosen fp32", "chosen int8"]
    assert list(result.table()["step"]) == ["largest", "select", "distill", "quantize"]
    data = load_data("sentences", whole.dataset_path, whole.dataset_options)
    for entry in result.artefacts:
        again = text_accuracy(OnnxSession(whole.folder / entry["file"]), data.test, trim=True)
        assert (entry["accuracy"]["value"], entry["accuracy"]["sentences"]) == (again.value, 30)
        assert entry["accuracy"]["value"] > 80
        assert entry["context"]["backend"] == "onnxruntime" and entry["context"]["inputs"] == [[1, 32]] * 3
    assert "30 test sentences" in (whole.folder / "report.html").read_text()
    worked = []
    compress(whole, progress=lambda p: worked.append(p.note))
    assert set(worked) == {"done before"}


def test_the_files_of_a_text_network_take_any_batch_and_length(text):
    whole, _ = text
    state = state_of(whole)
    session, module = OnnxSession(whole.folder / "models/chosen_fp32.onnx"), state.network("chosen")
    for batch, length in ((1, 5), (3, 16)):
        inputs = tuple(each[:, :length] for each in state.data.test.rows(torch.arange(batch)))
        with torch.no_grad():
            torch.testing.assert_close(session(*inputs), module(*inputs), atol=1e-4, rtol=1e-4)
    assert json.loads(session.metadata["classes"]) == ["0", "1"] and session.metadata["task"] == "text"
    assert "resolution" not in session.metadata


def recipe(folder, name, data, *steps):
    return Recipe(supernet=name, **data, output=folder / "run", steps=steps, latency=QUICK, seed=1)


def test_speech_is_judged_by_its_errors(tmp_path):
    pytest.importorskip("jiwer")
    export = {"export": {"formats": ["onnx"]}}
    steps = [{"train_supernet": TRAIN}, KNOWN, {"finetune": {**TRAIN, "stop_if": "wer rise > 1000 %"}}, export]
    whole = recipe(tmp_path, "fsdd_asr", digits(tmp_path), *steps, BENCHMARK)
    result = compress(whole)
    table, (largest, chosen) = result.table(), result.artefacts
    assert table["wer"].gt(0).all() and list(table["step"]) == ["largest", "select", "finetune"]
    assert chosen["metric"] == "wer" and chosen["wer"]["utterances"] == 20 and largest["macs"] > chosen["macs"]
    state = state_of(whole)
    in_torch = state.domain.quality(state.network("chosen"), "test")
    assert chosen["wer"]["value"] == pytest.approx(in_torch.value)


@pytest.fixture
def untrained_translator(tmp_path):
    pytest.importorskip("tokenizers")
    pytest.importorskip("sacrebleu")
    data = parallel(tmp_path)
    vocabulary = len(load_data("translation", tmp_path, data["dataset_options"]).target_vocabulary)
    net = supernets.get("multi30k_hat")(num_classes=vocabulary, seed=0)
    write_state(tmp_path / "net.safetensors", net.state_dict())
    return {**data, "dataset": "translation", "supernet_ckpt_path": tmp_path / "net.safetensors"}


def test_translation_is_measured_in_torch(untrained_translator, tmp_path):
    steps = [KNOWN, {"distill": TRAIN}, {"export": {"formats": ["safetensors"]}}, BENCHMARK]
    whole = recipe(tmp_path, "multi30k_hat", untrained_translator, *steps)
    result = compress(whole)
    assert [entry["file"] for entry in result.artefacts] == [
        "models/largest_fp32.safetensors",
        "models/chosen_fp32.safetensors",
    ]
    for entry in result.artefacts:
        assert entry["context"]["backend"] == "torch" and entry["bleu"]["sentences"] == 4
        assert entry["size_bytes"] == (whole.folder / entry["file"]).stat().st_size
    assert not list(whole.folder.rglob("*.onnx"))
    assert "test BLEU" in (whole.folder / "report.html").read_text()


def test_data_that_do_not_fit_are_refused_before_any_work(tmp_path):
    pytest.importorskip("tokenizers")
    data = sentences(tmp_path)
    data["dataset_options"]["length"] = 4000
    with pytest.raises(DataError, match="has rows of 4000 word pieces, the net takes"):
        compress(recipe(tmp_path, "tiny_bert", data, {"train_supernet": TRAIN}))
    assert not (tmp_path / "run" / "steps").exists()
