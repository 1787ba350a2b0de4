"""A recipe that is really killed, again and again, ends as one that is left alone."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nas_compress import Recipe
from nas_compress.weights import read_state

KILLS = 8

SCRIPT = """
import sys, torch
torch.set_num_threads(1)
from nas_compress import compress
compress(sys.argv[1])
"""


def start(recipe):
    command = [sys.executable, "-c", SCRIPT, str(recipe)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def write_recipe(folder):
    steps = [
        {"train_supernet": {"epochs": 4, "batch_size": 128, "subnets_per_step": 2}},
        {"nas": {"metrics": ["acc", "macs"], "population": 6, "num_evals": 20, "calibration_images": 400}},
        {"select": {"constraints": {"macs": "<= 0.5 x largest"}}},
        {"distill": {"epochs": 6, "batch_size": 128}},
        {"prune": {"rounds": 2, "training": {"epochs": 2, "batch_size": 128}}},
        {"quantize": {"calibration_images": 64}},
        "export",
    ]
    path = folder / "recipe.yaml"
    Recipe(name="killed", supernet="digits_mbv3", seed=1, output=folder / "out", steps=steps).to_yaml(path)
    return path


def outcome(folder):
    """What must be the same: outcomes, measurements in order (their dates aside), all weights."""
    out = folder / "out"
    record = json.loads((out / "steps.json").read_text())
    rows = [json.loads(line) for line in (out / "search_results.jsonl").read_text().splitlines()]
    rows = [{k: v for k, v in row.items() if k != "date"} for row in rows]
    weights = {
        path.name: {key: tensor.tolist() for key, tensor in read_state(path).items()}
        for path in sorted(out.glob("**/*.safetensors"))
    }
    int8 = (out / "models" / "chosen_int8.onnx").stat().st_size
    return record, rows, weights, int8


@pytest.mark.slow
def test_a_killed_recipe_ends_as_one_left_alone(tmp_path):
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    for folder in (alone, killed):
        folder.mkdir()
    began = time.monotonic()
    assert start(write_recipe(alone)).wait() == 0
    whole = time.monotonic() - began
    rng = random.Random(0)
    recipe, kills = write_recipe(killed), 0
    while True:
        process = start(recipe)
        try:
            # The moments spread over the whole run: each start has the time for about a third of it.
            _, errors = process.communicate(timeout=rng.uniform(2, 2 + whole / 3) if kills < KILLS else None)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
            continue
        assert process.returncode == 0, errors
        break
    assert kills >= 3
    first, second = outcome(alone), outcome(killed)
    keys = [{name: step["key"] for name, step in record["steps"].items()} for record in (first[0], second[0])]
    assert keys[0] == keys[1] and len(keys[0]) == 7
    assert first[1:] == second[1:]
