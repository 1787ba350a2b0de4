"""A run that is stopped at any step, any number of times, ends bit for bit as one that was not."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from squares import equal, plain_network, squares, tiny_supernet, weights
from torch import nn

from nas_compress.data.base import ImageData
from nas_compress.errors import CheckpointError
from nas_compress.training import loop, trainer
from nas_compress.training.checkpoint import EpochLog
from nas_compress.training.config import AugmentConfig, FinetuneConfig, Optimizer, Schedule, SupernetTrainConfig
from nas_compress.training.trainer import TrainProgress, finetune, train_supernet
from nas_compress.weights import read_state, write_state

AUGMENT = AugmentConfig(shift=0.1, rotate=5, scale=0.1, flip=True)
EVERYTHING: dict[str, Any] = {
    "batch_size": 36,
    "lr": 0.01,
    "augment": AUGMENT,
    "accumulate": 2,
    "ema": 0.9,
    "max_norm": 1.0,
    "curve": 12,
}
FIRST = {"epochs": 1, "warmup_epochs": 0.5}
LAST = {"elastic": dict.fromkeys(("ks", "e", "d", "r")), "epochs": 2, "subnets_per_step": 2, "sort": True}

Train = Callable[[str | Path, Any], tuple[list[EpochLog], dict[str, Any]]]


class CrashError(Exception):
    """Stands for a crash."""


def crash_after(steps: int) -> Callable[[TrainProgress], None]:
    """Return a callback that crashes at a step from now, before the state after it is stored."""
    left = [steps]

    def progress(state: TrainProgress) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise CrashError

    return progress


def supernet_run(**options: Any) -> Train:
    config = SupernetTrainConfig(**EVERYTHING | options)

    def train(folder: str | Path, progress: Any) -> tuple[list[EpochLog], dict[str, Any]]:
        net = tiny_supernet()
        return train_supernet(net, squares(), config, checkpoint_dir=folder, progress=progress), weights(net)

    return train


def network_run(**options: Any) -> Train:
    config = FinetuneConfig(**options)

    def train(folder: str | Path, progress: Any) -> tuple[list[EpochLog], dict[str, Any]]:
        net = plain_network()
        return finetune(net, squares(), 8, config, checkpoint_dir=folder, progress=progress), weights(net)

    return train


def always_crashing(train: Train, folder: Path, steps: int) -> tuple[list[EpochLog], dict[str, Any], int]:
    """Run again and again, each time for some steps; return log, weights and crashes."""
    for crashes in range(200):
        try:
            return *train(folder, crash_after(steps)), crashes
        except CrashError:
            continue
    raise AssertionError("the run never ends")


@pytest.fixture
def save_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the state stored after every step."""
    monkeypatch.setattr(loop, "SAVE_EVERY", -1.0)


@pytest.mark.parametrize(
    "options",
    [
        {"algorithm": "progressive_shrinking", "stages": [FIRST, LAST], "momentum": 0.8},
        {"algorithm": "progressive_shrinking", "stages": [FIRST, LAST], "optimizer": "adamw", "curve": 0},
        {"algorithm": "sandwich", "subnets_per_step": 3, "epochs": 2, "momentum": 0.8, "curve": 0},
    ],
    ids=["stages-sgd", "stages-adamw", "sandwich"],
)
def test_a_run_that_dies_after_every_step(save_always: None, tmp_path: Path, options: dict[str, Any]) -> None:
    """Each process makes two steps and stores the first alone: the run goes on from every single step."""
    train = supernet_run(**options)
    log, expected = train(tmp_path / "straight", None)
    found_log, found, crashes = always_crashing(train, tmp_path / "run", 2)
    assert crashes == sum(3 for _ in log) - 1
    assert equal(found, expected)
    assert found_log == log
    for file in (tmp_path / "straight").iterdir():
        assert (tmp_path / "run" / file.name).read_bytes() == file.read_bytes()


def test_published_stages_go_on_at_any_step(save_always: None, tmp_path: Path) -> None:
    train = supernet_run(algorithm="progressive_shrinking", epochs=4, curve=0)
    log, expected = train(tmp_path / "straight", None)
    assert [entry.stage for entry in log] == ["largest", "kernel", "depth, all", "width, all"]
    found_log, found, _ = always_crashing(train, tmp_path / "run", 5)
    assert equal(found, expected) and found_log == log


@pytest.mark.parametrize("optimizer", get_args(Optimizer))
def test_every_optimizer_learns_and_goes_on(save_always: None, tmp_path: Path, optimizer: Optimizer) -> None:
    schedules = get_args(Schedule)
    schedule = schedules[get_args(Optimizer).index(optimizer) % len(schedules)]
    lr = 0.05 if optimizer in ("sgd", "adagrad", "radam") else 0.01
    train = network_run(optimizer=optimizer, schedule=schedule, lr=lr, epochs=4, batch_size=27, augment=None, curve=0)
    log, expected = train(tmp_path / "straight", None)
    assert log[-1].loss < 0.9 * log[0].loss
    found_log, found, crashes = always_crashing(train, tmp_path / "run", 4)
    assert crashes > 3 and equal(found, expected) and found_log == log


@pytest.mark.parametrize("schedule", get_args(Schedule))
def test_every_schedule_is_the_runs(tmp_path: Path, schedule: Schedule) -> None:
    rates: list[float] = []
    train = network_run(schedule=schedule, lr=0.05, epochs=2, batch_size=27, augment=None, curve=0, warmup_epochs=0.5)
    train(tmp_path, lambda p: rates.append(p.lr))
    assert rates == [loop.learning_rate(step, 8, 2, 0.05, schedule) for step in range(8)]


def interrupt_after_two_steps(progress: TrainProgress) -> None:
    if (progress.epoch, progress.step) == (1, 2):
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_stores_the_step_and_goes_on(data: ImageData, tmp_path: Path) -> None:
    train = supernet_run(algorithm="sandwich", epochs=2)
    log, expected = train(tmp_path / "straight", None)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", interrupt_after_two_steps)
    assert signal.getsignal(signal.SIGINT) == before
    index = json.loads((tmp_path / "run" / "training.json").read_text())
    assert (index["epoch"], index["step"], index["state"]) == (0, 2, "epoch-0000-000002.safetensors")
    assert index["log"] == []
    found_log, found = train(tmp_path / "run", None)
    assert equal(found, expected)
    assert found_log == log  # the sums over the first two steps were kept


@pytest.mark.parametrize("epochs", [1, 2])
def test_ctrl_c_at_the_end_of_an_epoch_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, epochs: int
) -> None:
    """The curve takes its time; after the last epoch the run is stored as finished, and yet its caller is stopped."""
    config = FinetuneConfig(**EVERYTHING, epochs=epochs)

    def measure(*_: object) -> float:
        signal.raise_signal(signal.SIGINT)
        return 0.0

    monkeypatch.setattr(trainer, "score", measure)
    steps: list[TrainProgress] = []
    with pytest.raises(KeyboardInterrupt):
        finetune(plain_network(), squares(), 8, config, checkpoint_dir=tmp_path, progress=steps.append)
    assert [(p.epoch, p.step) for p in steps] == [(1, 1), (1, 2), (1, 3)]
    assert [file.name for file in tmp_path.glob("*.safetensors")] == ["epoch-0001-000000.safetensors"]


@pytest.mark.parametrize("kind", ["supernet", "subnet"])
def test_the_network_itself_goes_on_after_ctrl_c(tmp_path: Path, kind: str) -> None:
    """It is trained in place: the same call again finds it half trained, and a third one trained."""

    def train(net: nn.Module, folder: str, progress: Any = None) -> list[EpochLog]:
        options: dict[str, Any] = {"checkpoint_dir": tmp_path / folder, "progress": progress}
        if kind == "supernet":
            return train_supernet(net, squares(), SupernetTrainConfig(**EVERYTHING, epochs=2), **options)
        return finetune(net, squares(), 8, FinetuneConfig(**EVERYTHING, epochs=2), **options)

    make = tiny_supernet if kind == "supernet" else plain_network
    straight, net = make(), make()
    log = train(straight, "straight")
    with pytest.raises(KeyboardInterrupt):
        train(net, "run", interrupt_after_two_steps)
    steps: list[TrainProgress] = []
    assert train(net, "run", steps.append) == train(net, "run", steps.append) == log
    assert len(steps) == 4  # of six
    assert equal(weights(net), weights(straight))
    for file in (tmp_path / "straight").iterdir():
        assert (tmp_path / "run" / file.name).read_bytes() == file.read_bytes()


def test_a_run_from_other_weights_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    config, net = SupernetTrainConfig(**EVERYTHING, epochs=1), tiny_supernet()
    train_supernet(tiny_supernet(), squares(), config, checkpoint_dir=tmp_path)
    next(net.parameters()).data.add_(1)
    before = weights(net)
    message = r"weights was '\w+' there, is '\w+' here; give the network as it was before its training to go on, "
    with pytest.raises(CheckpointError, match=rf"is of another run: {message}another folder, or delete this one"):
        train_supernet(net, squares(), config, checkpoint_dir=tmp_path)
    assert equal(weights(net), before)


def test_ctrl_c_without_a_folder_stops_too() -> None:
    def interrupt(progress: TrainProgress) -> None:
        seen.append(progress.step)
        signal.raise_signal(signal.SIGINT)

    seen: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        train_supernet(tiny_supernet(), squares(), SupernetTrainConfig(epochs=1, curve=0), progress=interrupt)
    assert seen == [1]


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    def interrupt(progress: TrainProgress) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        supernet_run(epochs=1)(tmp_path, interrupt)
    assert not (tmp_path / "training.json").exists()


def test_states_are_stored_in_the_middle_of_an_epoch_when_it_is_time(tmp_path: Path) -> None:
    """Not before: the steps of a short epoch are cheaper than their states."""

    def look(progress: TrainProgress) -> None:
        found.append(sorted(file.name for file in tmp_path.glob("*.safetensors")))

    found: list[list[str]] = []
    supernet_run(epochs=2)(tmp_path, look)
    assert found == [[]] * 3 + [["epoch-0001-000000.safetensors"]] * 3


def test_a_teachers_state_is_kept(save_always: None, tmp_path: Path) -> None:
    train = supernet_run(algorithm="progressive_shrinking", stages=[FIRST, LAST])
    teachers = []
    for steps in (3, 5, 2):
        with pytest.raises(CrashError):
            train(tmp_path, crash_after(steps))
        (state,) = tmp_path.glob("*.safetensors")
        teachers.append({k: v for k, v in read_state(state).items() if k.startswith("extra.")})
    assert teachers[0] == {}
    assert teachers[1] and equal(teachers[1], teachers[2])


@pytest.mark.parametrize("part", ["average.<steps>", "extra.classifier.2.bias"])
def test_a_state_that_lacks_a_part_is_damaged(save_always: None, tmp_path: Path, part: str) -> None:
    train = supernet_run(algorithm="progressive_shrinking", stages=[FIRST, LAST])
    with pytest.raises(CrashError):
        train(tmp_path, crash_after(5))
    (path,) = tmp_path.glob("*.safetensors")
    state = read_state(path)
    del state[next(key for key in state if key == part or (part[:5] == key[:5] == "extra"))]
    write_state(path, state)
    with pytest.raises(CheckpointError, match=r"the state in .* is damaged .*delete it"):
        train(tmp_path, None)
