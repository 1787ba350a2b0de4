"""Searches over networks for text, questions, translation and speech, through the public door."""

import json

import numpy as np
import pytest

from nas_compress import NAS, NASConfig
from nas_compress.errors import ConfigError, DataError
from nas_compress.supernets import supernets
from nas_compress.weights import write_state

WORDS = ["good", "bad", "fine", "poor", "film", "plot", "a", "the", "is", "who", "wrote", "it", "ann", "bob", "."]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    """A folder with BERT's `vocab.txt`."""
    pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("vocabulary")
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    return folder


def weights(name, folder, classes=None):
    """Random weights of a network, in a file, as if it had been trained."""
    net = supernets.get(name)(num_classes=classes, seed=0)
    path = folder / f"{name}.safetensors"
    write_state(path, net.state_dict())
    return path


def search(folder, name, metrics, classes=None, **options):
    config = NASConfig(approach="random", seed=3)
    section = config.section
    section.supernet, section.metrics, section.num_evals = name, metrics, 4
    section.supernet_ckpt_path = weights(name, folder, classes)
    section.results_csv_path = folder / "results.csv"
    for key, value in options.items():
        setattr(section, key, value)
    return NAS(config)


def check(agent, metric, low=0.0, high=100.0):
    result = agent.search()
    values = result.to_dataframe()[metric]
    assert len(result) == 4
    assert values.between(low, high).all()
    again = NAS(agent.config).search()  # everything comes from the archive
    assert again.to_dataframe().equals(result.to_dataframe())
    return result


def sentences(folder):
    rng = np.random.default_rng(0)
    for part, count in (("train", 40), ("dev", 10), ("test", 10)):
        lines = [f"{i % 2}\tthe {rng.choice(WORDS[5:7])} is {WORDS[i % 2]} ." for i in range(count)]
        (folder / f"toy_{part}.tsv").write_text("\n".join(["label\ttext", *lines]))
    return folder / "toy"


def test_sentences(tmp_path, vocabulary):
    agent = search(
        tmp_path,
        "tiny_bert",
        ["acc", "macs"],
        dataset="sst2",
        dataset_path=sentences(tmp_path),
        dataset_options={"tokenizer": str(vocabulary), "length": 16},
    )
    result = check(agent, "acc")
    context = result.provenance["contexts"]["acc"]
    assert context["sentences"] == 10
    assert "calibration_images" not in context


def test_options_from_python_may_be_paths_and_must_be_plain(tmp_path, vocabulary):
    from nas_compress.data.tokenizer import Tokenizer

    options = {"dataset": "sst2", "dataset_path": sentences(tmp_path)}
    agent = search(tmp_path, "tiny_bert", ["acc"], dataset_options={"tokenizer": vocabulary, "length": 16}, **options)
    assert agent.data is agent.data
    check(agent, "acc")
    agent.config.to_yaml(tmp_path / "config.yaml")
    assert NASConfig.from_yaml(tmp_path / "config.yaml").section.dataset_options["tokenizer"] == str(vocabulary)
    first = agent.data
    agent.config.section.dataset_options["length"] = 12
    assert agent.data.length == 12 and first.length == 16
    with pytest.raises(ConfigError, match=r"dataset_options.*Tokenizer is not plain data.*data=\.\.\."):
        search(tmp_path, "tiny_bert", ["acc"], dataset_options={"tokenizer": Tokenizer(vocabulary)}, **options)


def test_questions(tmp_path, vocabulary):
    paragraphs = [
        {
            "context": f"the film is fine . {who} wrote it . {number}",
            "qas": [
                {
                    "id": str(number),
                    "question": "who wrote it",
                    "answers": [{"text": who, "answer_start": 19}],
                }
            ],
        }
        for number, who in enumerate(["ann", "bob"] * 10)
    ]
    file = tmp_path / "toy.json"
    file.write_text(json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": [p]} for p in paragraphs]}))
    name = "bert_base_squad"
    config = NASConfig(approach="random")
    config.section.supernet, config.section.metrics = name, ["f1", "exact_match"]
    config.section.dataset_path, config.section.num_evals = file, 2
    config.section.results_csv_path = tmp_path / "results.csv"
    config.section.dataset_options = {"tokenizer": str(vocabulary), "length": 24, "stride": 4}
    result = NAS(config, supernet=tiny_answering_net()).search()
    frame = result.to_dataframe()
    assert (frame["exact_match"] <= frame["f1"]).all()


def tiny_answering_net():
    from dataclasses import replace

    from nas_compress.supernets.bert import build
    from nas_compress.supernets.bert_config import TINY_BERT

    return build("tiny_answers", replace(TINY_BERT, task="answering", num_classes=2), None, 0).eval()


def test_translation(tmp_path):
    pytest.importorskip("tokenizers")
    pytest.importorskip("sacrebleu")
    for part, count in (("train", 60), ("val", 6), ("test", 6)):
        rng = np.random.default_rng(count)
        lines = [" ".join(rng.choice(WORDS, size=5)) for _ in range(count)]
        (tmp_path / f"{part}.de").write_text("\n".join(lines))
        (tmp_path / f"{part}.en").write_text("\n".join(line.upper() for line in lines))
    options = {"languages": ["de", "en"], "vocabulary": 120}
    from nas_compress.data import load_data
    from nas_compress.data.fit import outputs

    count = outputs(load_data("translation", tmp_path, options))
    agent = search(
        tmp_path,
        "multi30k_hat",
        ["bleu", "params"],
        count,
        dataset="translation",
        dataset_path=tmp_path,
        dataset_options=options,
    )
    check(agent, "bleu")


def digits(path):
    """Utterances in the form of the Free Spoken Digit Dataset: a tone per digit."""
    rng, audio, labels, speaker, index = np.random.default_rng(0), [], [], [], []
    for number in range(10):
        for who in range(2):
            for recording in range(9):
                time = np.arange(2400) / 8000
                tone = np.sin(2 * np.pi * (200 + 150 * number) * time) + 0.1 * rng.standard_normal(2400)
                audio.append((8000 * tone).astype(np.int16))
                labels.append(number)
                speaker.append(who)
                index.append(recording)
    offsets = np.cumsum([0, *(len(samples) for samples in audio)])
    np.savez(
        path,
        audio=np.concatenate(audio),
        offsets=offsets,
        labels=np.array(labels),
        speaker=np.array(speaker),
        speakers=np.array(["ann", "bob"]),
        index=np.array(index),
    )
    return path


def test_speech(tmp_path):
    pytest.importorskip("jiwer")
    agent = search(
        tmp_path,
        "fsdd_asr",
        ["wer", "params"],
        dataset_path=digits(tmp_path / "digits.npz"),
        dataset_options={"speakers": ["ann"]},
    )
    check(agent, "wer", 0, 10_000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "digits", "dataset_path": None}, "'digits' is data of images, supernet 'tiny_bert' takes text"),
        ({"metrics": ["bleu"]}, "'bleu' is not a metric of supernet 'tiny_bert''s task; those are: acc"),
        ({"dataset_options": {}}, "dataset_options.*wants 'tokenizer'"),
        ({"dataset_options": {"tokeniser": "x"}}, r"has no option 'tokeniser' \(did you mean 'tokenizer'\?\)"),
        ({"dataset_path": None}, "dataset_path.*none is given"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_before_any_work(tmp_path, vocabulary, change, message):
    options = {
        "dataset": "sentences",
        "dataset_path": sentences(tmp_path),
        "dataset_options": {"tokenizer": str(vocabulary)},
    }
    metrics = change.pop("metrics", ["acc"])
    with pytest.raises(ConfigError, match=message):
        search(tmp_path, "tiny_bert", metrics, **(options | change))


def test_data_of_another_task_is_refused_for_a_net_that_is_given(tmp_path, vocabulary):
    config = NASConfig(approach="random")
    config.section.metrics = ["acc"]
    config.section.dataset = "digits"
    agent = NAS(config, supernet=tiny_answering_net())
    with pytest.raises(DataError, match="their tasks differ"):
        agent.search()


def test_the_page_on_searching_names_every_task_and_source():
    from pathlib import Path

    from nas_compress.data import data_sources, task_of
    from nas_compress.objectives import objectives

    page = (Path(__file__).parent.parent / "docs" / "search.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    for name in data_sources:
        assert any(row.startswith(f"| {task_of(name)} ") and f"`{name}`" in row for row in rows)
    assert all(
        any(f"`{name}`" in row for row in rows) for name in objectives if objectives.entry(name).info.get("quality")
    )
