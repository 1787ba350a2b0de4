"""The command that puts trained weights into the package."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from nas_compress import Recipe, compress
from nas_compress.data import load_data
from nas_compress.errors import NASError
from nas_compress.objectives.calibration import calibrated_subnet
from nas_compress.objectives.quality import accuracy
from nas_compress.space import Architecture
from nas_compress.supernets import load_supernet, supernets
from nas_compress.supernets.trained import cards, read_card, sha256, verified, weights_file
from nas_compress.weights import read_state, write_state

PATH = Path(__file__).parents[1] / "benchmarks" / "ship_supernet.py"
NAME = "digits_mbv3"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("ship_supernet", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tmp_path):
    """A folder as a recipe's training leaves it, with random weights."""
    folder, net = tmp_path / "run", supernets.get(NAME)(seed=7)
    weights = folder / "supernet.safetensors"
    write_state(weights, net.state_dict(), {"supernet": net.describe()})
    steps = [{"train_supernet": {"epochs": 3, "lr": 0.05}}, "export"]
    recipe = Recipe(name="small", supernet=NAME, seed=5, dataset="digits", output=folder, steps=steps)
    recipe.to_yaml(folder / "recipe.yaml")
    record(folder, log=[{"epoch": 1, "loss": 1.5}])
    return folder


def record(folder, **outcome):
    """Write `steps.json` about the weights in a folder."""
    weights = "supernet.safetensors"
    step = {"key": "k", "outcome": {"weights": weights, **outcome}, "files": {weights: sha256(folder / weights)}}
    (folder / "steps.json").write_text(json.dumps({"steps": {"train_supernet": step}}))


def test_a_trained_folder_is_shipped(tool, run, tmp_path, capsys):
    arguments = [NAME, str(run), "--machine", "one core", "--seconds", "12.5", "--to", str(tmp_path / "trained")]
    assert tool.main(arguments) == 0
    file = weights_file(NAME, tmp_path / "trained")
    card = read_card(verified(file))
    assert sorted(path.name for path in file.parent.iterdir()) == [f"{NAME}.json", f"{NAME}.safetensors"]
    assert f"{card.size:,} bytes, sha256 {card.sha256}" in capsys.readouterr().out
    assert load_supernet(NAME, file).fingerprint() == supernets.get(NAME)(seed=7).fingerprint()
    assert (card.supernet, card.dataset, card.seconds, card.machine) == (NAME, "digits", 12.5, "one core")
    assert card.data == load_data("digits").fingerprint and card.licence.startswith("CC BY 4.0")
    assert card.log == [{"epoch": 1, "loss": 1.5}] and card.versions["torch"] == torch.__version__


def test_the_figures_are_those_of_the_test_part(tool, run, tmp_path):
    card = tool.ship(NAME, run, machine="one core", seconds=1.0, to=tmp_path / "trained")
    net, data = load_supernet(NAME, run / "supernet.safetensors"), load_data("digits")
    assert card.conditions["split"] == "test" and card.conditions["images"] == len(data.test)
    assert [result.role for result in card.results] == ["smallest", "median", "largest"]
    for result in card.results:
        architecture = Architecture(result.architecture)
        subnet = calibrated_subnet(net, architecture, data, 2000)
        expected = accuracy(subnet, data.test, net.resolution(architecture))
        assert (result.value, result.spread) == pytest.approx((expected.value, expected.spread))
        assert (result.macs, result.params) == (net.macs(architecture), net.params(architecture))
    smallest, median, largest = (result.macs for result in card.results)
    assert smallest < median < largest
    assert Architecture(card.result("largest").architecture) == net.space.largest()


def test_the_recipe_on_the_card_trains_it_again(tool, run, tmp_path):
    card = tool.ship(NAME, run, machine="one core", seconds=1.0, to=tmp_path / "trained")
    assert not {"output", "dataset_path", "latency"} & card.recipe.keys()
    recipe = Recipe.parse(card.recipe)
    recipe.check()
    assert (recipe.supernet, recipe.seed, recipe.dataset) == (NAME, 5, "digits")
    (step,) = recipe.steps
    assert (step.name, step.options.epochs, step.options.lr) == ("train_supernet", 3, 0.05)


@pytest.mark.parametrize(("dtype", "stored"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_matrices_are_stored_in_fewer_bits(tool, run, tmp_path, dtype, stored):
    card = tool.ship(NAME, run, machine="one core", seconds=1.0, to=tmp_path / "trained", dtype=dtype)
    state = read_state(weights_file(NAME, tmp_path / "trained"))
    for key, tensor in read_state(run / "supernet.safetensors").items():
        matrix = tensor.is_floating_point() and tensor.ndim > 1
        assert state[key].dtype == (stored if matrix else tensor.dtype), key
    assert card.size < 0.7 * (run / "supernet.safetensors").stat().st_size and card.dtype == dtype


def other_weights(folder):
    net = supernets.get("digits_resnet")(seed=7)
    write_state(folder / "supernet.safetensors", net.state_dict(), {"supernet": net.describe()})
    record(folder, log=[])


def changed_weights(folder):
    write_state(folder / "supernet.safetensors", supernets.get(NAME)(seed=8).state_dict())


def other_classes(folder):
    net = supernets.get(NAME)(num_classes=4, seed=7)
    write_state(folder / "supernet.safetensors", net.state_dict())
    record(folder, log=[])


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: (folder / "recipe.yaml").unlink(), "recipe.yaml"),
        (lambda folder: (folder / "steps.json").unlink(), "holds no finished 'train_supernet' step"),
        (lambda folder: (folder / "steps.json").write_text('{"steps": {}}'), "holds no finished 'train_supernet' step"),
        (lambda folder: (folder / "steps.json").write_text("{"), "holds no finished 'train_supernet' step"),
        (lambda folder: (folder / "supernet.safetensors").unlink(), "not the file that the recipe's training wrote"),
        (changed_weights, "not the file that the recipe's training wrote"),
        (other_weights, "is of another 'digits_mbv3' than the registered one"),
        (other_classes, "is of another network: classifier"),
    ],
)
def test_other_folders_are_refused(tool, run, tmp_path, harm, message):
    harm(run)
    with pytest.raises(NASError, match=message):
        tool.ship(NAME, run, machine="one core", seconds=1.0, to=tmp_path / "trained")
    assert not [*(tmp_path / "trained").glob("*")]


def test_what_is_refused_ends_the_command_with_a_message(tool, run, tmp_path, capsys):
    assert tool.main(["digits_resnet", str(run), "--machine", "m", "--seconds", "1", "--to", str(tmp_path)]) == 2
    assert "is about supernet 'digits_mbv3', not 'digits_resnet'" in capsys.readouterr().err


def test_large_files_are_refused(tool, run, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "MOST_BYTES", 500_000)
    with pytest.raises(NASError, match=r"take [\d,]+ bytes in fp32, allowed are 500,000; store them in fewer bits"):
        tool.ship(NAME, run, machine="one core", seconds=1.0, to=tmp_path / "trained")
    assert not [*(tmp_path / "trained").glob("*")]
    assert tool.ship(NAME, run, machine="one core", seconds=1.0, to=tmp_path / "trained", dtype="fp16").size < 500_000


def test_data_of_unknown_licence_is_refused(tool, run, tmp_path, monkeypatch):
    monkeypatch.delitem(tool.LICENCES, "digits")
    with pytest.raises(NASError, match="the licence of data 'digits' is not known here; give --licence"):
        tool.ship(NAME, run, machine="one core", seconds=1.0, to=tmp_path / "trained")
    assert (
        tool.ship(NAME, run, machine="one core", seconds=1.0, to=tmp_path / "trained", licence="mine").licence == "mine"
    )


def test_a_recipe_that_was_run_is_shipped(tool, tmp_path):
    recipe = Recipe(
        supernet=NAME, output=tmp_path / "run", steps=[{"train_supernet": {"epochs": 1, "batch_size": 512}}]
    )
    compress(recipe)
    tool.ship(NAME, tmp_path / "run", machine="one core", seconds=1.0, to=tmp_path / "trained")
    (card,) = cards(tmp_path / "trained")
    assert len(card.log) == 1 and card.result("largest").value > 10
