"""docs/supernets.md says what the registry says, and its snippets and architectures work."""

import importlib.util
import json
import re
import textwrap
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from nas_compress.space import Architecture
from nas_compress.supernets import replay_of, supernets
from nas_compress.supernets.bert import BertSupernet
from nas_compress.supernets.bert_config import BertConfig
from nas_compress.weights import write_state

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture(scope="module")
def tables():
    spec = importlib.util.spec_from_file_location("make_supernets", DOCS / "make_supernets.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page():
    return (DOCS / "supernets.md").read_text(encoding="utf-8")


def snippets(page):
    """Return the page's indented blocks of code."""
    blocks = re.findall(r"(?:^\n)((?:^(?:    .*)?\n)+)", page, flags=re.M)
    return [textwrap.dedent(block).strip() + "\n" for block in blocks if block.startswith("    ")]


def test_the_tables_are_up_to_date(tables, page):
    assert tables.render() == page, "run: python docs/make_supernets.py"


def test_every_network_is_in_both_tables(page):
    for name in supernets:
        assert page.count(f"\n| `{name}` |") == (0 if replay_of(name) else 2), name


def test_costs_lie_between_those_that_the_table_gives(tables):
    for net, _ in tables.networks():
        rows = net.space.encode(net.space.sample(np.random.default_rng(0), 200))
        for cost, count in (("macs", net.macs), ("params", net.params)):
            values = net.encoded_cost(cost, net.space, rows)
            smallest, largest = count(net.space.smallest()), count(net.space.largest())
            assert smallest <= values.min() and values.max() <= largest, (net.name, cost)


def test_the_architectures_fit_their_spaces(page):
    written = re.findall(r"^- `(\w[\w.]*)`: `(\{.*\})`$", page, flags=re.M)
    for name, text in written:
        supernets.entry(name).info["space"]().validate(Architecture(eval(text, {"__builtins__": {}})))
    assert len(written) == page.count('`: `{"') == 9


@pytest.mark.parametrize(
    ("published", "other"),
    [
        ("autoformer_base", "denas_vit"),
        ("ofa_mbv3_d234_e346_k357_w1.0", "compofa_mbv3_w1.0"),
        ("ofa_mbv3_d234_e346_k357_w1.2", "compofa_mbv3_w1.2"),
    ],
)
def test_weights_of_one_network_fit_another(published, other):
    with torch.device("meta"):
        ours, theirs = (supernets.get(name)(seed=0).state_dict() for name in (other, published))
    assert {key: tensor.shape for key, tensor in ours.items()} == {key: tensor.shape for key, tensor in theirs.items()}


def bert_folder(path):
    """Make a folder as Hugging Face's, with random weights of an encoder and no head."""
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": 50, **sizes}))
    net = BertSupernet("net", BertConfig.from_folder(path), seed=0)
    encoder = {key: tensor for key, tensor in net.state_dict().items() if not key.startswith("head.out.")}
    write_state(path / "model.safetensors", encoder)


def sentences(path):
    """Make a folder of labelled sentences, and one with their word pieces."""
    (path / "sst2-folder").mkdir()
    rows = [f"{number % 2}\tfilm {'good' if number % 2 else 'bad'}" for number in range(20)]
    for part in ("train", "test"):
        (path / "sst2-folder" / f"{part}.tsv").write_text("\n".join(["label\ttext", *rows]) + "\n")
    (path / "tokenizer-folder").mkdir()
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "film", "good"]
    (path / "tokenizer-folder" / "vocab.txt").write_text("\n".join(pieces))


def test_the_snippets_run_in_the_order_of_the_page(page, tmp_path, monkeypatch):
    pytest.importorskip("tokenizers", reason="needs tokenizers, which reads word pieces")
    monkeypatch.chdir(tmp_path)
    bert_folder(tmp_path / "bert-folder")
    sentences(tmp_path)
    names, checks = {}, iter(CHECKS)
    codes = snippets(page)
    assert len(codes) == len(CHECKS)
    for code in codes:
        exec(re.sub(r"epochs=\d+", "epochs=1", code), names)
        next(checks)(names)


def _one_subnet(names):
    session = onnxruntime.InferenceSession(names["model"])
    (outputs,) = session.run(None, {"input": names["inputs"].numpy()})
    with torch.no_grad():
        torch.testing.assert_close(names["subnet"](names["inputs"]), names["logits"], atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(outputs, names["logits"].detach().numpy(), atol=1e-4)
    assert len(names["keys"]) > 3


def _trained(names):
    fresh = supernets.get(names["net"].name)(seed=0).state_dict()
    assert any(not torch.equal(tensor, fresh[key]) for key, tensor in names["net"].state_dict().items())


def _distilled(names):
    _trained(names)
    student, teacher = names["student"], names["teacher"]
    untouched = names["net"].extract(names["net"].space.smallest())
    assert any(not torch.equal(a, b) for a, b in zip(student.parameters(), untouched.parameters(), strict=True))
    assert len(student.layers) < len(teacher.layers)


def _coupled(names):
    assert names["space"].size() < names["full"].size()
    for architecture in names["space"].sample(np.random.default_rng(1), 20):
        assert all(e in (0, d + 1) for d, e in zip(np.repeat(architecture["d"], 3), architecture["e"], strict=True))


def _bert(names):
    session = onnxruntime.InferenceSession(names["model"])
    inputs = [torch.ones(3, 7, dtype=torch.int64) for _ in range(3)]
    (outputs,) = session.run(None, {i.name: x.numpy() for i, x in zip(session.get_inputs(), inputs, strict=True)})
    assert outputs.shape == (3, 2)


def _chain(names):
    assert names["text"].startswith("SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,1,8,1)")
    assert names["mutant"] != names["seed"]
    assert names["network"](names["net"].example_input(2)).shape == (2, 10)


CHECKS = [_one_subnet, _trained, _distilled, _coupled, _bert, _chain]
