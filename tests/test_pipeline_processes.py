"""The training of a recipe by several processes: one command, one folder, the weights of one process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import nas_compress
from nas_compress import Recipe, compress
from nas_compress.errors import ConfigError
from nas_compress.weights import read_state


def recipe(folder: Path) -> Recipe:
    """One epoch without batch normalisation, without random changes of images: two processes train it as one does."""
    options = {"epochs": 1, "batch_size": 256, "subnets_per_step": 2, "augment": None, "warmup_epochs": 0}
    return Recipe(supernet="digits_vit", seed=1, output=folder, steps=[{"train_supernet": {**options, "curve": 50}}])


def torchrun(file: Path, command: str = "train-supernet") -> subprocess.CompletedProcess[str]:
    starter = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "nas_compress"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(nas_compress.__file__).parents[1])}
    arguments = [sys.executable, *starter, command, str(file)]
    return subprocess.run(arguments, env=env, capture_output=True, text=True, timeout=300)


def test_two_processes_train_the_super_network_of_a_recipe(tmp_path):
    together, alone = recipe(tmp_path / "together"), recipe(tmp_path / "alone")
    file = tmp_path / "recipe.yaml"
    together.to_yaml(file)
    first = torchrun(file)
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("weights: ") == 1
    compress(alone)
    found, expected = (read_state(each.folder / "supernet.safetensors") for each in (together, alone))
    assert max(float((found[name] - expected[name]).abs().max()) for name in expected) < 1e-4
    assert not all(torch.equal(found[name], expected[name]) for name in expected)  # two did work on it

    again = torchrun(file)
    assert again.returncode == 0 and "done before" in again.stderr
    assert compress(together).outcomes["train_supernet"]["files"]  # one process takes the outcome up


def test_several_processes_are_refused_where_there_is_more_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="run train-supernet under torchrun"):
        compress(recipe(tmp_path))
    assert not any(tmp_path.iterdir())
