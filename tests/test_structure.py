import json

import pytest
import torch

from nas_compress import Architecture, best_structure, load_best_structure
from nas_compress.errors import ArchitectureError, CheckpointError, ConfigError, UnknownNameError
from nas_compress.objectives.cost import Params
from nas_compress.result import SearchResult
from nas_compress.search import Trial
from nas_compress.structure import Structure
from nas_compress.supernets import supernets
from nas_compress.weights import write_state

VIT = supernets.get("digits_vit")(seed=0)
SMALLEST = VIT.space.smallest()


@pytest.fixture
def path(tmp_path):
    Structure("digits_vit", SMALLEST, {"de_score": 1.25}).save(tmp_path / "best.json")
    return tmp_path / "best.json"


def test_round_trip(path):
    assert Structure.load(path) == Structure("digits_vit", SMALLEST, {"de_score": 1.25})
    assert len(path.read_text().splitlines()) == 7


def test_texts_and_fractions_survive(tmp_path):
    space = supernets.entry("denas_cnn").info["space"]()
    for architecture in (space.smallest(), Architecture({"mlp": (3, 3.5), "flag": (True,)})):
        Structure("denas_cnn", architecture).save(tmp_path / "best.json")
        assert Structure.load(tmp_path / "best.json").architecture == architecture


def test_a_structure_with_precisions_is_the_network_in_fp32(path):
    x = VIT.example_input(2)
    quantized = Structure("digits_vit", Architecture({**SMALLEST.to_dict(), "precision": ["int8"]}))
    assert torch.equal(load_best_structure(quantized)(x), load_best_structure(path)(x))


def test_the_model_has_the_initial_weights_of_the_seed(path):
    x = VIT.example_input(2)
    assert torch.equal(load_best_structure(path)(x), VIT.extract(SMALLEST)(x))
    assert not torch.equal(load_best_structure(path, seed=1)(x), VIT.extract(SMALLEST)(x))
    assert load_best_structure(path, num_classes=3)(x).shape == (2, 3)
    assert not load_best_structure(path).training


def test_weights_are_inherited_from_a_supernet(path, tmp_path):
    trained, x = supernets.get("digits_vit")(seed=9), VIT.example_input(2)
    write_state(tmp_path / "net.safetensors", trained.state_dict())
    expected = trained.eval().extract(SMALLEST)(x)
    assert torch.equal(load_best_structure(path, checkpoint=tmp_path / "net.safetensors")(x), expected)
    assert torch.equal(load_best_structure(path, supernet=trained)(x), expected)
    with pytest.raises(CheckpointError):
        load_best_structure(path, checkpoint=tmp_path / "missing.safetensors")
    own = supernets.get("digits_vit")(seed=1)
    before = own.fingerprint()
    inherited = load_best_structure(path, supernet=own, checkpoint=tmp_path / "net.safetensors")
    assert torch.equal(inherited(x), expected) and own.fingerprint() == before
    with pytest.raises(ConfigError, match="structure is a dict; wants what best_structure returns"):
        load_best_structure({})
    with pytest.raises(ConfigError, match="wants the result of a search in a super-network"):
        best_structure([])


def test_weights_are_inherited_from_a_pretrained_bert_without_head(tmp_path):
    pretrained = supernets.get("tiny_bert")(seed=9)
    encoder = {key: tensor for key, tensor in pretrained.state_dict().items() if not key.startswith("head.out.")}
    write_state(tmp_path / "encoder.safetensors", encoder)
    write_state(tmp_path / "whole.safetensors", pretrained.state_dict())
    structure = Structure("tiny_bert", pretrained.space.smallest())
    fresh = load_best_structure(structure)
    new_head, whole = (
        load_best_structure(structure, checkpoint=tmp_path / f"{name}.safetensors") for name in ("encoder", "whole")
    )
    words = "embeddings.words.weight"
    expected = pretrained.eval().extract(structure.architecture).state_dict()
    assert torch.equal(new_head.state_dict()[words], expected[words])
    head = [key for key in expected if key.startswith("head.out.")]
    assert all(torch.equal(new_head.state_dict()[key], fresh.state_dict()[key]) for key in head)
    assert all(torch.equal(tensor, expected[key]) for key, tensor in whole.state_dict().items())


def result(**search):
    trials = [Trial(a, {"params": float(VIT.params(a))}) for a in (VIT.space.largest(), SMALLEST)]
    return SearchResult(trials, [Params(VIT)], provenance={"search": search})


def test_the_best_of_a_result():
    assert best_structure(result(supernet="digits_vit")).architecture == SMALLEST
    assert best_structure(result(supernet="digits_vit"), "params").values == {"params": VIT.params(SMALLEST)}
    with pytest.raises(ConfigError, match="'acc' was not measured; known: params"):
        best_structure(result(supernet="digits_vit"), "acc")
    with pytest.raises(ConfigError, match="wants the result of a search in a super-network"):
        best_structure(result())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "else"}, "holds no structure"),
        ({"version": 2}, "is of version 2; this nas_compress reads versions up to 1"),
        ({"version": None}, "is of version None"),
        ({"version": True}, "is of version True"),
        ({"supernet": 3}, "supernet is 3; wants a str"),
        ({"architecture": []}, "architecture is .*; wants a dict"),
        ({"architecture": {"depth": [[1]]}}, "best.json"),
        ({"values": {"acc": "high"}}, "values: acc is 'high'; wants a number"),
    ],
)
def test_wrong_files_are_refused(path, change, words):
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ConfigError, match=words):
        Structure.load(path)


@pytest.mark.parametrize("text", ["", "[1]", "{", "nas: 3", "[" * 100_000])
def test_what_is_no_structure_is_refused(path, text):
    path.write_text(text)
    with pytest.raises(ConfigError, match="best.json"):
        load_best_structure(path)


def test_missing_files_and_unknown_nets(path, tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        load_best_structure(tmp_path / "none.json")
    with pytest.raises(UnknownNameError, match="digits_vit"):
        load_best_structure(Structure("digits_vitt", SMALLEST))
    with pytest.raises(ArchitectureError):
        load_best_structure(Structure("denas_cnn", SMALLEST))


@pytest.mark.parametrize(
    ("change", "options", "error", "words"),
    [
        ({"supernet": "digits_mbv3"}, {}, ArchitectureError, "best.json: .*space 'digits_mbv3'"),
        ({"architecture": {"d": [99]}}, {}, ArchitectureError, "best.json: "),
        ({"supernet": "digits_vitt"}, {}, UnknownNameError, "best.json: .*did you mean 'digits_vit'"),
        ({"supernet": "replay/ofa_mbv3"}, {}, ConfigError, "best.json: .*has no network"),
        (
            {"supernet": "digits_mbv3"},
            {"supernet": VIT},
            ConfigError,
            "best.json: is of .*digits_mbv3'; 'digits_vit' is",
        ),
        ({}, {"supernet": VIT, "num_classes": 3}, ConfigError, "num_classes and supernet are both given"),
        ({}, {"supernet": "digits_vit"}, ConfigError, "supernet is a str; wants a super-network"),
    ],
)
def test_errors_name_the_file(path, change, options, error, words):
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(error, match=words):
        load_best_structure(path, **options)


def test_a_supernet_without_a_name_may_have_any(path, monkeypatch):
    net = supernets.get("digits_vit")(seed=0)
    monkeypatch.setattr(net, "name", "")
    assert load_best_structure(path, supernet=net)(VIT.example_input(2)).shape == (2, 10)
