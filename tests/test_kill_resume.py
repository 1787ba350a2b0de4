"""Killed at any moment and started again, a search ends with the archive of one that was not killed."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import nas_compress
from nas_compress.search import strategies

KILLS = 8


def rows(path: Path) -> list[dict[str, object]]:
    """The archive's lines without their dates."""
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [{key: value for key, value in line.items() if key != "date"} for line in lines]


def table(path: Path) -> list[list[str]]:
    """The CSV's cells without the dates."""
    with path.open(newline="") as stream:
        return [[cell for i, cell in enumerate(cells) if i != 1] for cells in csv.reader(stream)]


@pytest.mark.parametrize("strategy", list(strategies))
def test_a_killed_search_ends_as_one_that_was_not(strategy: str, tmp_path: Path) -> None:
    program = Path(__file__).with_name("killed_search.py")
    command = [sys.executable, str(program), strategy, str(tmp_path), str(KILLS), "11"]
    single = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    env = {**os.environ, **single, "PYTHONPATH": str(Path(nas_compress.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(KILLS), "True"]

    whole, killed = rows(tmp_path / "whole.jsonl"), rows(tmp_path / "killed.jsonl")
    assert killed == whole
    measured = [(str(r["architecture"]), r["objective"]) for r in whole if "objective" in r]
    assert len(set(measured)) == len(measured)
    assert table(tmp_path / "killed.csv") == table(tmp_path / "whole.csv")
    assert any("error" in r for r in whole) and len(table(tmp_path / "whole.csv")) == 41


def test_at_least_twenty_kills() -> None:
    assert KILLS * len(list(strategies)) >= 20
