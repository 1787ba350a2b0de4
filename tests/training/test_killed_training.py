"""Training that is killed at random moments, and interrupted, ends as training that was not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import nas_compress

KILLS = 5


@pytest.mark.parametrize(
    "seed", [11, pytest.param(12, marks=pytest.mark.slow), pytest.param(13, marks=pytest.mark.slow)]
)
def test_killed_training_ends_as_if_it_had_not_been(seed: int, tmp_path: Path) -> None:
    program = Path(__file__).parents[1] / "killed_training.py"
    command = [sys.executable, str(program), str(tmp_path), str(KILLS), str(seed)]
    single = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    env = {**os.environ, **single, "PYTHONPATH": str(Path(nas_compress.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(KILLS + 1), "True"]

    names = sorted(file.name for file in (tmp_path / "whole").iterdir())
    assert names == ["epoch-0004-000000.safetensors", "training.json"]
    assert sorted(file.name for file in (tmp_path / "killed").iterdir()) == names
    pairs = [(f"whole/{name}", f"killed/{name}") for name in names]
    for whole, killed in (*pairs, ("whole.safetensors", "killed.safetensors"), ("whole.log", "killed.log")):
        assert (tmp_path / killed).read_bytes() == (tmp_path / whole).read_bytes(), whole
