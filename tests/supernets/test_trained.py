"""Weights that come with the package: found by name, compared with their card, loaded without a checkpoint."""

import json
from pathlib import Path

import pytest
import torch

from nas_compress import NAS, NASConfig, Recipe
from nas_compress.compression.inputs import check_inputs
from nas_compress.compression.state import State
from nas_compress.errors import CheckpointError, ConfigError
from nas_compress.listing import Topic, names
from nas_compress.pipeline import _hash_weights
from nas_compress.supernets import load_supernet, supernets
from nas_compress.supernets.trained import (
    Card,
    Result,
    cards,
    is_remote,
    read_card,
    sha256,
    shipped,
    verified,
    weights_file,
    write_card,
)
from nas_compress.weights import write_state

NAME = "digits_mbv3"
SHIPPED = [name for name in supernets if (a := supernets.entry(name).info.get("weights")) and not is_remote(a)]


def make_card(name, folder, **changes):
    """Return a card of the weights of `name` in a folder; its results are made up."""
    file, space = weights_file(name, folder), supernets.entry(name).info["space"]()
    genes = space.largest().to_dict()
    ends = {"smallest": 1, "median": 2, "largest": 3}
    results = [
        Result(role=r, architecture=genes, macs=n * 10**6, params=n * 1000, value=90 + n, spread=0.3)
        for r, n in ends.items()
    ]
    facts = {
        "supernet": name,
        "sha256": sha256(file),
        "size": file.stat().st_size,
        "dtype": "fp32",
        "dataset": "digits",
        "data": "0123456789abcdef",
        "licence": "CC BY 4.0",
        "recipe": {"supernet": name, "seed": 1, "steps": [{"train_supernet": {"epochs": 3}}]},
        "log": [{"epoch": 1, "loss": 1.5}],
        "seconds": 61.5,
        "machine": "one core",
        "versions": {"torch": "2.13.0"},
        "metric": "acc",
        "unit": "%",
        "conditions": {"split": "test", "images": 360, "calibration_images": 2000},
        "results": results,
    }
    return Card(**facts | changes)


def ship(name, folder, dtype=torch.float32):
    """Write random weights of `name`, and their card; return the net."""
    net = supernets.get(name)(seed=7).eval()
    state = {k: t.to(dtype) if t.is_floating_point() and t.ndim > 1 else t for k, t in net.state_dict().items()}
    write_state(weights_file(name, folder), state)
    write_card(make_card(name, folder), folder)
    return net


@pytest.fixture
def folder(tmp_path):
    ship(NAME, tmp_path)
    return tmp_path


@pytest.fixture
def comes_trained(folder, monkeypatch):
    """The registry says of one super-network that it brings weights."""
    path = weights_file(NAME, folder)
    monkeypatch.setitem(supernets.entry(NAME).info, "weights", str(path))
    return path


# -- cards -------------------------------------------------------------------------------------------------


def test_a_card_is_read_as_it_was_written(folder):
    card = make_card(NAME, folder)
    assert read_card(weights_file(NAME, folder)) == card == cards(folder)[0]
    assert json.loads((folder / f"{NAME}.json").read_text())["results"][2]["macs"] == 3_000_000
    assert card.result("median").value == 92


def test_what_is_shipped_is_found_by_name(folder, tmp_path):
    assert shipped(NAME, folder) == str(weights_file(NAME, folder))
    assert shipped("digits_resnet", folder) is None
    assert shipped(NAME, tmp_path / "none") is None
    assert cards(tmp_path / "none") == []


def test_names_with_dots_have_files_of_their_own(tmp_path):
    names = "ofa_mbv3_d234_e346_k357_w1.0", "ofa_mbv3_d234_e346_k357_w1.2"
    for name in names:
        weights_file(name, tmp_path).write_bytes(name.encode())
        write_card(make_card(name, tmp_path), tmp_path)
    assert [card.supernet for card in cards(tmp_path)] == [*names]
    assert all(verified(shipped(name, tmp_path)) for name in names)


def test_a_whole_file_is_verified(folder):
    assert verified(str(weights_file(NAME, folder))) == weights_file(NAME, folder)


def tear(path):
    path.write_bytes(path.read_bytes()[:-100])


def change(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (tear, r"not the file that its card is about \(it has [\d,]+ bytes, not [\d,]+"),
        (change, "not the file that its card is about .its sha256 is"),
        (Path.unlink, "cannot read the weights .*No such file"),
        (lambda path: path.with_suffix(".json").unlink(), "no card for .*No such file"),
        (
            lambda path: path.with_suffix(".json").write_text("{"),
            "is no card of trained weights: the file: invalid json",
        ),
        (lambda path: path.with_suffix(".json").write_text("{}"), "is no card of trained weights: supernet: field"),
        (lambda path: path.with_suffix(".json").write_bytes(b"\xff"), "is no card of trained weights"),
        (lambda path: edit(path, version=2), "version: input should be 1"),
        (lambda path: edit(path, supernet="other"), f"card of supernet 'other', not of '{NAME}'"),
        (lambda path: edit(path, sha256="0"), "sha256: string should match"),
    ],
)
def test_damage_is_told(comes_trained, harm, message):
    harm(comes_trained)
    for look in (lambda: verified(comes_trained), lambda: load_supernet(NAME)):
        with pytest.raises(CheckpointError, match=message):
            look()


def edit(path, **changes):
    card = path.with_suffix(".json")
    card.write_text(json.dumps(json.loads(card.read_text()) | changes))


# -- who uses them -----------------------------------------------------------------------------------------


def test_the_registry_finds_weights_in_the_package(folder, monkeypatch):
    from nas_compress.supernets import entry
    from nas_compress.supernets.mobilenet_config import DIGITS_MBV3

    monkeypatch.setattr(entry, "shipped", lambda name: shipped(name, folder))
    for name, expected in ((NAME, str(weights_file(NAME, folder))), ("digits_resnet", None)):
        assert entry.network(name, DIGITS_MBV3, "mobilenet", "a line")[1].info["weights"] == expected
    _, published = entry.network(NAME, DIGITS_MBV3, "mobilenet", "a line", weights="https://a.b/c")
    assert published.info["weights"] == "https://a.b/c"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "num_classes = 0 is not allowed; allowed: whole numbers from 1 on"),
        ({"num_classes": 4.0}, "num_classes = 4.0"),
        ({"seed": -1}, "seed = -1 is not allowed; allowed: whole numbers from 0 on"),
        ({"seed": True}, "seed = True"),
    ],
)
def test_odd_numbers_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        load_supernet(NAME, trained=False, **options)


@pytest.mark.parametrize("factory", [lambda: None, lambda num_classes: None, lambda *, seed, num_classes, more: None])
def test_factories_take_classes_and_a_seed(factory, monkeypatch):
    monkeypatch.setattr(supernets, "_entries", {**supernets._entries})
    supernets.register("odd")(factory)
    with pytest.raises(ConfigError, match="supernet 'odd': its factory wants to be called with .*seed"):
        load_supernet("odd", trained=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_are_loaded_by_name(comes_trained, dtype):
    net = ship(NAME, comes_trained.parent, dtype)
    loaded = load_supernet(NAME, seed=1)
    tolerance = {torch.float32: 0, torch.float16: 1e-3, torch.bfloat16: 1e-2}[dtype]
    for (key, tensor), expected in zip(loaded.state_dict().items(), net.state_dict().values(), strict=True):
        assert tensor.dtype == expected.dtype, key
        torch.testing.assert_close(tensor, expected, rtol=tolerance, atol=tolerance * 1e-3)
    assert not loaded.training


def test_a_checkpoint_and_random_weights_are_still_to_be_had(comes_trained, tmp_path):
    other = supernets.get(NAME)(seed=3)
    write_state(tmp_path / "mine.safetensors", other.state_dict())
    assert load_supernet(NAME, tmp_path / "mine.safetensors").fingerprint() == other.fingerprint()
    tear(comes_trained)  # nobody looks at it
    assert load_supernet(NAME, trained=False, num_classes=4, seed=3).num_classes == 4


def test_another_number_of_classes_is_refused(comes_trained):
    assert load_supernet(NAME, num_classes=10).num_classes == 10
    message = f"'{NAME}' comes with weights for another number of outputs than 4; train it .* has shape .10, 128., this"
    with pytest.raises(CheckpointError, match=message):
        load_supernet(NAME, num_classes=4)


def test_files_of_another_network_are_told_as_such(comes_trained):
    write_state(comes_trained, supernets.get("digits_resnet")(seed=0).state_dict())
    write_card(make_card(NAME, comes_trained.parent), comes_trained.parent)
    with pytest.raises(CheckpointError, match="is of another network: it lacks") as raised:
        load_supernet(NAME, num_classes=4)
    assert "number of outputs" not in str(raised.value)


def test_a_search_needs_no_checkpoint(comes_trained, tmp_path):
    config = NASConfig(approach="random", seed=1)
    section = config.section
    section.supernet, section.metrics, section.num_evals = NAME, ["acc", "macs"], 2
    section.population, section.calibration_images, section.test_fraction = 2, 64, 0.2
    section.results_csv_path = tmp_path / "results.csv"
    agent = NAS(config)
    assert agent.supernet.fingerprint() == load_supernet(NAME).fingerprint()
    assert len(agent.search()) == 2


def test_recipes_need_no_training(comes_trained, tmp_path):
    recipe = Recipe(supernet=NAME, steps=["nas", {"select": {"maximize": "acc"}}], output=tmp_path / "run")
    recipe.check()
    assert recipe.loads_weights and _hash_weights(recipe) == sha256(comes_trained)
    trains = Recipe(supernet=NAME, steps=["train_supernet", "nas"])
    assert not trains.loads_weights and _hash_weights(trains) is None


def test_recipes_without_a_search_for_accuracy_start_from_them(comes_trained):
    steps = [{"nas": {"approach": "denas"}}, "select", "finetune"]
    assert not Recipe(supernet=NAME, steps=steps).untrained
    assert Recipe(supernet="digits_resnet", steps=steps).untrained


def test_recipes_look_at_weights_before_any_work(comes_trained, tmp_path):
    recipe = Recipe(supernet=NAME, steps=["nas", {"select": {"maximize": "acc"}}], output=tmp_path / "run")
    check_inputs(State(recipe, tmp_path))
    net = supernets.get(NAME)(seed=7)
    torch.nn.init.constant_(net.classifier[-1].bias, float("nan"))
    write_state(comes_trained, net.state_dict())
    write_card(make_card(NAME, comes_trained.parent), comes_trained.parent)
    with pytest.raises(CheckpointError, match=r"digits_mbv3.safetensors .*: classifier.2.bias is not finite"):
        check_inputs(State(recipe, tmp_path))


def test_the_list_says_which_come_trained(comes_trained):
    lines = names(Topic.supernets)
    assert lines[NAME].endswith("; trained weights: in the package")
    assert lines["ofa_resnet50"].endswith("; trained weights: published")
    assert "trained weights" not in lines["denas_vit"]


# -- what is in the package --------------------------------------------------------------------------------


def test_every_card_is_of_a_registered_network():
    assert {card.supernet for card in cards()} == set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_in_the_package_is_whole_and_small(name):
    path = Path(supernets.entry(name).info["weights"])
    card, net = read_card(path), load_supernet(name)
    assert verified(path).stat().st_size == card.size <= 6_000_000
    assert all(tensor.isfinite().all() for tensor in net.state_dict().values())
    assert [result.role for result in card.results] == ["smallest", "median", "largest"]
    for result in card.results:
        architecture = type(net.space.largest())(result.architecture)
        assert (net.macs(architecture), net.params(architecture)) == (result.macs, result.params)
    assert card.conditions["split"] == "test" and card.conditions["data"] == card.data
    assert card.metric in supernets.entry(name).info["metrics"]


@pytest.mark.parametrize("name", SHIPPED)
def test_sub_networks_keep_the_precision_of_the_weights(name):
    net = load_supernet(name).double()
    for genes in (net.space.smallest(), net.space.largest()):
        state = net.extract(genes).state_dict().values()
        assert {t.dtype for t in state if t.is_floating_point()} == {torch.float64}
