"""Two processes train as one does; one of them writes; both go on from what it wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from squares import equal, largest_difference, plain_network, squares, weights
from training_process import PLAIN, train

import nas_compress
from nas_compress.errors import ConfigError
from nas_compress.training.config import FinetuneConfig
from nas_compress.training.distributed import Processes, processes
from nas_compress.training.domains import examples_of
from nas_compress.training.loop import Loop
from nas_compress.training.trainer import finetune
from nas_compress.weights import read_state

PROGRAM = Path(__file__).parents[1] / "training_process.py"


def two_processes(network: str, folder: Path, steps: int = 0, *, torchrun: bool = False) -> int:
    """Train in two processes; return the exit code."""
    folder.mkdir(exist_ok=True)
    starter = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"] if torchrun else []
    command = [sys.executable, *starter, str(PROGRAM), network, str(folder), str(steps)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(nas_compress.__file__).parents[1])}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert steps or done.returncode == 0, done.stderr
    return done.returncode


def outcome(network: str, folder: Path, rank: int) -> tuple[dict[str, torch.Tensor], list[dict[str, object]]]:
    path = folder / f"{network}.{rank}.safetensors"
    return read_state(path), json.loads(path.with_suffix(".json").read_text())


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network without normalisation, trained by two processes."""
    folder = tmp_path_factory.mktemp("pair") / "run"
    two_processes("plain", folder, torchrun=True)
    return folder


def test_two_processes_train_as_one(pair: Path) -> None:
    """A step has 35 examples: 18 for the first process, 17 for the second."""
    net, log = train("plain", None)
    (one, one_log), (other, other_log) = (outcome("plain", pair, rank) for rank in (0, 1))
    assert equal(one, other) and one_log == other_log
    assert largest_difference(one, weights(net)) < 1e-5
    assert largest_difference(one, weights(plain_network())) > 1e-3
    for entry, alone in zip(one_log, log, strict=True):
        assert entry["loss"] == pytest.approx(alone.loss, abs=1e-5)
        assert entry["accuracy"] == alone.accuracy
        assert entry["curve"] == alone.curve


def test_two_processes_go_on_where_they_stopped(pair: Path, tmp_path: Path) -> None:
    assert two_processes("plain", tmp_path, steps=5) == 3
    index = json.loads((tmp_path / "state" / "training.json").read_text())
    assert (index["epoch"], index["step"]) == (1, 1)
    assert two_processes("plain", tmp_path) == 0
    for rank in (0, 1):
        (found, log), (expected, expected_log) = outcome("plain", tmp_path, rank), outcome("plain", pair, rank)
        assert equal(found, expected) and log == expected_log
    for file in (pair / "state").iterdir():
        assert (tmp_path / "state" / file.name).read_bytes() == file.read_bytes()


def test_stages_with_batch_normalisation_in_two_processes(tmp_path: Path) -> None:
    """Each process normalises its own part, so that the outcome is the same within noise alone.

    Both start from the weights of the first, whatever the second one has.
    """
    two_processes("shrinking", tmp_path)
    (one, one_log), (other, other_log) = (outcome("shrinking", tmp_path, rank) for rank in (0, 1))
    counts = {key for key in one if key.endswith("num_batches_tracked")}
    assert one_log == other_log
    assert all(torch.equal(one[key], other[key]) for key in one.keys() - counts)
    _, log = train("shrinking", None)
    assert [entry["stage"] for entry in one_log] == [entry.stage for entry in log]
    for entry, alone in zip(one_log, log, strict=True):
        assert entry["loss"] == pytest.approx(alone.loss, rel=0.15)


def test_only_the_first_process_writes(tmp_path: Path) -> None:
    class Second(Processes):
        def total(self, *values: float) -> list[float]:
            return [2 * value for value in values]

        def _average(self, tensors: list[torch.Tensor]) -> None:
            pass

        def copy_from_first(self, module: torch.nn.Module) -> None:
            pass

    from nas_compress.training import trainer

    for rank, written in ((1, []), (0, ["epoch-0003-000000.safetensors", "training.json"])):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trainer, "processes", lambda device, rank=rank: _inside(Second(rank, 2)))
            finetune(plain_network(), squares(), 8, PLAIN, checkpoint_dir=tmp_path / str(rank))
        assert sorted(file.name for file in (tmp_path / str(rank)).glob("*")) == written


class _inside:  # noqa: N801 - a context
    def __init__(self, group: Processes) -> None:
        self.group = group

    def __enter__(self) -> Processes:
        return self.group

    def __exit__(self, *_: object) -> None:
        pass


def test_shares_are_disjoint_and_whole() -> None:
    indices = torch.randperm(11)
    shares = [Processes(rank, 3).share(indices) for rank in range(3)]
    assert sorted(torch.cat(shares).tolist()) == list(range(11))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert torch.equal(Processes().share(indices), indices)


def test_processes_agree_on_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one of them measures a hair higher must not end its run alone."""
    group = Processes(0, 2)
    monkeypatch.setattr(group, "total", lambda *own: [a + b for a, b in zip(own, (50.0, 70.0), strict=True)])
    assert group.agreed({"largest": 52.0, "smallest": 70.0}) == {"largest": 51.0, "smallest": 70.0}
    assert group.agreed({}) == {}
    assert Processes().agreed({"largest": 52.0}) == {"largest": 52.0}


def test_an_interruption_of_one_process_stops_all_of_them_after_the_same_step(tmp_path: Path) -> None:
    """Ctrl-C reaches the second process alone, or first; the state is whole, and the run ends as any other."""
    assert two_processes("plain", tmp_path, steps=-5) == 3
    index = json.loads((tmp_path / "state" / "training.json").read_text())
    assert (index["epoch"], index["step"]) == (1, 2)


def test_a_step_needs_an_example_for_each_process() -> None:
    net, config = plain_network(), FinetuneConfig(batch_size=2)
    examples = examples_of(squares(), config, torch.device("cpu"), 8)
    with pytest.raises(ConfigError, match="steps of 2 examples cannot be shared by 3 processes"):
        Loop(net, examples, config, Processes(0, 3))


@pytest.mark.parametrize("missing", ["RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_missing_variables_are_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29400"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(missing)
    message = f"WORLD_SIZE is set, but not {missing}; start several processes with torchrun"
    with pytest.raises(ConfigError, match=message):
        finetune(plain_network(), squares(), 8, FinetuneConfig(epochs=1))


@pytest.mark.parametrize("size", ["1", None])
def test_one_process_needs_no_group(monkeypatch: pytest.MonkeyPatch, size: str | None) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if size is not None:
        monkeypatch.setenv("WORLD_SIZE", size)
    with processes(torch.device("cpu")) as group:
        assert (group.rank, group.size, group.total(1.0, 2.0)) == (0, 1, [1.0, 2.0])
        assert not torch.distributed.is_initialized()
        group.wait()
