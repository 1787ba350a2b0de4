"""What recipes do differently in each domain, on networks that are exported."""

import json
from dataclasses import replace

import pytest

from nas_compress.backends.onnxruntime import OnnxSession
from nas_compress.compression.domains import Questions, domain_of
from nas_compress.compression.export import export_onnx
from nas_compress.data import load_data
from nas_compress.errors import EvaluationError


@pytest.fixture
def questions(tmp_path):
    pytest.importorskip("tokenizers")
    words = ["who", "wrote", "it", "ann", "bob", "film", "the", "is", "fine", "."]
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    paragraphs = [
        {
            "context": f"the film is fine . {who} wrote it . {'the film is fine . ' * (number % 3)}",
            "qas": [{"id": str(number), "question": "who wrote it", "answers": [{"text": who, "answer_start": 19}]}],
        }
        for number, who in enumerate(["ann", "bob"] * 10)
    ]
    file = tmp_path / "toy.json"
    file.write_text(json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": [p]} for p in paragraphs]}))
    return load_data("questions", file, {"tokenizer": str(tmp_path), "length": 24, "stride": 4})


def test_answers_of_an_exported_file_are_those_of_the_module(questions, tmp_path):
    from nas_compress.supernets.bert import build
    from nas_compress.supernets.bert_config import TINY_BERT

    net = build("answers", replace(TINY_BERT, task="answering", num_classes=2), None, 0).eval()
    domain, module = domain_of(questions), net.extract(net.space.smallest())
    assert isinstance(domain, Questions) and domain.task.name == "questions"
    example, path = net.example_input(2), tmp_path / "net.onnx"
    export_onnx(module, example, path, axes=domain.axes, sample=domain.sample(None))
    session = OnnxSession(path)
    found, wanted = (domain.quality(network, "test", batch_size=3) for network in (session, module))
    assert (found.value, found.spread) == (wanted.value, wanted.spread)
    assert domain.size(net, net.space.smallest()) is None
    assert sum(len(inputs[0]) for inputs in domain.calibration(None, 5)) == 5


def test_lengths_that_a_file_would_not_take_are_found_at_the_export(questions, tmp_path):
    from nas_compress.supernets.bert import build
    from nas_compress.supernets.bert_config import TINY_BERT

    net = build("answers", replace(TINY_BERT, task="answering", num_classes=2), None, 0).eval()
    module, sample = net.extract(net.space.smallest()), domain_of(questions).sample(None)
    with pytest.raises(EvaluationError, match="the ONNX model takes 'input_ids' of shape"):
        export_onnx(module, net.example_input(2), tmp_path / "net.onnx", sample=sample)
    assert not (tmp_path / "net.onnx").exists()
