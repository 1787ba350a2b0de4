"""The training loop: it learns, it resumes bit for bit, it refuses what does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from nas_compress.data.base import ImageData
from nas_compress.errors import CheckpointError, ConfigError, DataError, TrainingError
from nas_compress.supernets.mobilenet import MobileNetSupernet
from nas_compress.training.config import AugmentConfig, DistillConfig, FinetuneConfig, SupernetTrainConfig
from nas_compress.training.optimizer import make_optimizer
from nas_compress.training.trainer import (
    TrainProgress,
    finetune,
    resolve_precision,
    train_supernet,
)
from nas_compress.weights import read_state, write_state

Make = Callable[[], MobileNetSupernet]
AUGMENT = AugmentConfig(shift=0.1, rotate=5, scale=0.1, flip=True)
SHORT = SupernetTrainConfig(epochs=4, batch_size=32, lr=0.05, warmup_epochs=1, augment=AUGMENT)


class CrashError(Exception):
    """Stands for a crash."""


def weights(module: nn.Module) -> dict[str, torch.Tensor]:
    return {key: tensor.clone() for key, tensor in module.state_dict().items()}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def accuracy(module: nn.Module, data: ImageData, resolution: int) -> float:
    """Share of test images classified correctly, with the batch's own statistics and no dropout."""
    module.eval()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.train()
    with torch.no_grad():
        logits = module(data.test.images(torch.arange(len(data.test)), resolution))
    return float((logits.argmax(1) == data.test.labels).float().mean())


def interrupt_at(epoch: int, step: int) -> Callable[[TrainProgress], None]:
    def progress(state: TrainProgress) -> None:
        if (state.epoch, state.step) == (epoch, step):
            raise CrashError

    return progress


def test_supernet_learns(data: ImageData, make_supernet: Make) -> None:
    supernet = make_supernet()
    seen: list[TrainProgress] = []
    config = SHORT.model_copy(update={"epochs": 16, "augment": None})
    entries = train_supernet(supernet, data, config, progress=seen.append)
    assert [entry.epoch for entry in entries] == list(range(1, 17))
    assert entries[-1].loss < 0.6 < 1 < entries[0].loss
    assert entries[-1].accuracy > 90
    assert not supernet.training
    assert [(p.epoch, p.step) for p in seen] == [(e, s) for e in range(1, 17) for s in range(1, 4)]
    assert [p.share for p in seen] == pytest.approx([done / 48 for done in range(1, 49)])
    assert max(p.lr for p in seen) == pytest.approx(config.lr)
    # The smallest sub-network learnt too, from the largest one's outputs alone.
    assert accuracy(supernet.extract(supernet.space.smallest()), data, 8) > 0.8


@pytest.mark.parametrize("algorithm", ["sandwich", "single_path"])
@pytest.mark.parametrize("crashes", [[(2, 1)], [(1, 2)], [(3, 3), (3, 1), (4, 2)]])
def test_interrupted_training_ends_bit_for_bit_as_an_uninterrupted_one(
    data: ImageData, make_supernet: Make, tmp_path: Path, algorithm: str, crashes: list[tuple[int, int]]
) -> None:
    config = SHORT.model_copy(update={"algorithm": algorithm, "subnets_per_step": 3})
    straight = make_supernet()
    log = train_supernet(straight, data, config, checkpoint_dir=tmp_path / "straight")
    for crash in crashes:
        with pytest.raises(CrashError):
            train_supernet(
                make_supernet(), data, config, checkpoint_dir=tmp_path / "run", progress=interrupt_at(*crash)
            )
        torch.rand(7)  # the global generator's state must not matter
    resumed = make_supernet()
    assert train_supernet(resumed, data, config, checkpoint_dir=tmp_path / "run") == log
    assert equal(weights(resumed), weights(straight))
    files = [sorted(file.name for file in (tmp_path / run).iterdir()) for run in ("straight", "run")]
    assert files[0] == files[1] == ["epoch-0004-000000.safetensors", "training.json"]
    for name in files[0]:
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()


def test_a_finished_run_is_loaded_without_training(data: ImageData, make_supernet: Make, tmp_path: Path) -> None:
    first, second = make_supernet(), make_supernet()
    log = train_supernet(first, data, SHORT, checkpoint_dir=tmp_path)
    steps: list[TrainProgress] = []
    assert train_supernet(second, data, SHORT, checkpoint_dir=tmp_path, progress=steps.append) == log
    assert steps == []
    assert equal(weights(first), weights(second))


def test_a_crash_while_saving_leaves_the_epoch_before(data: ImageData, make_supernet: Make, tmp_path: Path) -> None:
    straight, resumed = make_supernet(), make_supernet()
    train_supernet(straight, data, SHORT)
    with pytest.raises(CrashError):
        train_supernet(make_supernet(), data, SHORT, checkpoint_dir=tmp_path, progress=interrupt_at(3, 1))
    # As if killed between the two files of epoch 3, and while writing the first of epoch 4.
    (tmp_path / "epoch-0003-000000.safetensors").write_bytes(
        (tmp_path / "epoch-0002-000000.safetensors").read_bytes()[:99]
    )
    (tmp_path / ".epoch-0004-000000.123.part.safetensors").write_bytes(b"half")
    (tmp_path / "epoch-best.safetensors").write_bytes(b"the user's")
    train_supernet(resumed, data, SHORT, checkpoint_dir=tmp_path)
    assert equal(weights(resumed), weights(straight))
    kept = ["epoch-0004-000000.safetensors", "epoch-best.safetensors", "training.json"]
    assert sorted(file.name for file in tmp_path.iterdir()) == kept


def test_another_run_in_the_folder_is_refused(data: ImageData, make_supernet: Make, tmp_path: Path) -> None:
    config = SHORT.model_copy(update={"epochs": 1})
    train_supernet(make_supernet(), data, config, checkpoint_dir=tmp_path)
    other = config.model_copy(update={"lr": 0.01})
    with pytest.raises(CheckpointError, match=r"config\.lr was 0\.05 there, is 0\.01 here; .*delete this one"):
        train_supernet(make_supernet(), data, other, checkpoint_dir=tmp_path)
    subnet = make_supernet().extract(make_supernet().space.largest())
    with pytest.raises(CheckpointError, match="another run"):
        finetune(subnet, data, 12, FinetuneConfig(epochs=1), checkpoint_dir=tmp_path)


def test_a_missing_option_counts_as_null(data: ImageData, make_supernet: Make, tmp_path: Path) -> None:
    config = SHORT.model_copy(update={"epochs": 1})
    done = train_supernet(make_supernet(), data, config, checkpoint_dir=tmp_path)
    index = json.loads((tmp_path / "training.json").read_text())
    del index["run"]["config"]["ema"]
    (tmp_path / "training.json").write_text(json.dumps(index))
    assert train_supernet(make_supernet(), data, config, checkpoint_dir=tmp_path) == done
    del index["run"]["config"]["epochs"]
    (tmp_path / "training.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"config\.epochs was None there, is 1 here"):
        train_supernet(make_supernet(), data, config, checkpoint_dir=tmp_path)


@pytest.mark.parametrize("content", ["", "{}", '{"format": "other"}', "[1]", "3", "null"])
def test_a_damaged_index_is_named(data: ImageData, make_supernet: Make, tmp_path: Path, content: str) -> None:
    (tmp_path / "training.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"training\.json is damaged"):
        train_supernet(make_supernet(), data, SHORT, checkpoint_dir=tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"run": None},
        {"run": [1]},
        {"run": "x"},
        {"epoch": "1"},
        {"epoch": True},
        {"epoch": 0},
        {"epoch": 2},
        {"step": 1},
        {"step": -1},
        {"sums": [0.0, 1.0]},
        {"epoch": 1.5},
        {"state": 3},
        {"state": "../epoch-0001-000000.safetensors"},
        {"state": "epoch-0002-000000.safetensors"},
        {"log": None},
        {"log": []},
        {"log": [1]},
        {"log": [{"epoch": 1}]},
        {"log": [{"epoch": 1, "loss": "low", "accuracy": 3.0}]},
        {"log": [{"epoch": 1, "loss": 1.0, "accuracy": 3.0, "more": 1}]},
        {"more": 1},
    ],
)
def test_a_damaged_field_of_the_index_is_named(
    data: ImageData, make_supernet: Make, tmp_path: Path, change: dict[str, object]
) -> None:
    config = SHORT.model_copy(update={"epochs": 1})
    train_supernet(make_supernet(), data, config, checkpoint_dir=tmp_path)
    index = json.loads((tmp_path / "training.json").read_text())
    (tmp_path / "training.json").write_text(json.dumps(index | change))
    field = next(iter(change))
    with pytest.raises(CheckpointError, match=rf"training\.json is damaged .*{field}.*delete it"):
        train_supernet(make_supernet(), data, config, checkpoint_dir=tmp_path)


def test_an_index_of_another_version_is_refused(data: ImageData, make_supernet: Make, tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text(json.dumps({"format": "nas_compress training", "version": 99}))
    with pytest.raises(CheckpointError, match="has version 99; this release reads 3"):
        train_supernet(make_supernet(), data, SHORT, checkpoint_dir=tmp_path)


@pytest.mark.parametrize(
    ("key", "shape", "reason"),
    [
        ("other.weight", (1,), "holds 'other.weight', which is no part of a training state"),
        ("weights", (1,), "holds 'weights', which is no part of a training state"),
        ("optimizer.momentum_buffer.none", (1,), "holds momentum_buffer of 'none', which this network lacks"),
        (
            "optimizer.momentum_buffer.stem.0.weight",
            (1,),
            r"_buffer of 'stem.0.weight' has shape \(1,\), .* wants \(8, 1, 3, 3\)",
        ),
    ],
)
def test_a_damaged_state_is_named_and_changes_nothing(
    data: ImageData, make_supernet: Make, tmp_path: Path, key: str, shape: tuple[int, ...], reason: str
) -> None:
    config = SHORT.model_copy(update={"epochs": 1})
    train_supernet(make_supernet(), data, config, checkpoint_dir=tmp_path)
    path = tmp_path / "epoch-0001-000000.safetensors"
    write_state(path, read_state(path) | {key: torch.zeros(shape)})
    supernet = make_supernet()
    with pytest.raises(CheckpointError, match=rf"epoch-0001-000000\.safetensors .*{reason}"):
        train_supernet(supernet, data, config, checkpoint_dir=tmp_path)
    assert equal(weights(supernet), weights(make_supernet()))


def test_the_index_is_readable_json(data: ImageData, make_supernet: Make, tmp_path: Path) -> None:
    train_supernet(make_supernet(), data, SHORT.model_copy(update={"epochs": 1}), checkpoint_dir=tmp_path)
    index = json.loads((tmp_path / "training.json").read_text())
    assert index["run"]["config"]["precision"] == "fp32"
    assert index["run"]["data"] == f"squares {data.fingerprint}"
    assert index["epoch"] == len(index["log"]) == 1


def test_training_leaves_the_global_generator_alone(data: ImageData, make_supernet: Make) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    train_supernet(make_supernet(), data, SHORT.model_copy(update={"epochs": 1}))
    assert torch.equal(torch.rand(1), expected)


def test_the_seed_decides(data: ImageData, make_supernet: Make) -> None:
    outcomes = []
    for seed in (1, 1, 2):
        supernet = make_supernet()
        train_supernet(supernet, data, SHORT.model_copy(update={"epochs": 1, "seed": seed}))
        outcomes.append(weights(supernet))
    assert equal(outcomes[0], outcomes[1])
    assert not equal(outcomes[0], outcomes[2])


def test_divergence_is_an_error_that_names_the_step(data: ImageData, make_supernet: Make) -> None:
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) in epoch \d+, step \d+, .*lower lr \(now 1e\+20\)"):
        train_supernet(make_supernet(), data, SHORT.model_copy(update={"lr": 1e20, "warmup_epochs": 0.0}))


def test_data_that_does_not_fit_the_net(data: ImageData, make_supernet: Make) -> None:
    supernet = make_supernet()
    supernet.num_classes = 10
    with pytest.raises(DataError, match="'squares' has 3 classes, the net has 10 outputs"):
        train_supernet(supernet, data, SHORT)
    supernet.in_channels = 3
    with pytest.raises(DataError, match="images of 1 channels, the net takes 3"):
        train_supernet(supernet, data, SHORT)


@pytest.mark.parametrize("role", ["sub-network", "teacher"])
def test_finetuning_refuses_data_that_does_not_fit(data: ImageData, make_supernet: Make, role: str) -> None:
    def tune(wrong: nn.Module) -> None:
        right = make_supernet().extract(make_supernet().space.smallest())
        subnet, teacher = (wrong, None) if role == "sub-network" else (right, wrong)
        finetune(subnet, data, 8, teacher=teacher)

    pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for classes in (2, 10):
        with pytest.raises(DataError, match=f"'squares' has 3 classes, the net has {classes} outputs"):
            tune(nn.Sequential(nn.Conv2d(1, classes, 3), *pooled))
    with pytest.raises(DataError, match=f"the {role} does not take the images of 'squares', .*1, 8, 8.*3 channels"):
        tune(nn.Sequential(nn.Conv2d(3, 3, 3), *pooled))
    with pytest.raises(DataError, match=f"the {role} gives outputs of shape .*2, 3, 6, 6.*; want logits"):
        tune(nn.Conv2d(1, 3, 3))


class Shaped(nn.Module):
    """Gives logits in another shape, or nothing."""

    def __init__(self, shape: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.layer, self.shape = nn.Linear(64, 3), shape

    def forward(self, x: torch.Tensor) -> object:
        return self.shape(self.layer(x.flatten(1)))


def refuse(logits: torch.Tensor) -> object:
    raise AttributeError("no such thing")


@pytest.mark.parametrize("role", ["sub-network", "teacher"])
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (lambda logits: {"logits": logits}, "gives dict; want logits, a tensor of shape"),
        (lambda logits: (logits, None), "gives tuple; want logits, a tensor of shape"),
        (lambda logits: logits.detach().numpy(), "gives ndarray; want logits"),
        (refuse, "does not take the images of 'squares', .*: no such thing"),
    ],
)
def test_networks_that_give_no_logits(
    data: ImageData, shape: Callable[[torch.Tensor], object], message: str, role: str
) -> None:
    wrong, right = Shaped(shape), Shaped(lambda logits: logits)
    with pytest.raises(DataError, match=f"the {role} {message}"):
        finetune(
            *((wrong, data, 8) if role == "sub-network" else (right, data, 8)),
            teacher=None if role == "sub-network" else wrong,
        )


def test_super_networks_are_tried_out_before_they_are_trained(data: ImageData, make_supernet: Make) -> None:
    with pytest.raises(DataError, match="the super-network does not take the images of 'squares'.*(dtype|type)"):
        train_supernet(make_supernet().double(), data, SHORT)
    frozen = make_supernet().requires_grad_(False)
    with pytest.raises(ConfigError, match="nothing to train: no parameter of MobileNetSupernet wants a gradient"):
        train_supernet(frozen, data, SHORT)
    with pytest.raises(ConfigError, match="config is a dict; wants a SupernetTrainConfig"):
        train_supernet(make_supernet(), data, {"epochs": 3})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="supernet is a Linear; wants a Supernet"):
        train_supernet(nn.Linear(3, 3), data, SHORT)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="config is a SupernetTrainConfig; wants a FinetuneConfig or DistillConfig"):
        finetune(Shaped(lambda logits: logits), data, 8, SHORT)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="resolution is missing; .*'squares' want one above 0"):
        finetune(Shaped(lambda logits: logits), data, 0)


def test_biases_and_normalisation_are_not_decayed(make_supernet: Make) -> None:
    supernet = make_supernet()
    decay = {id(p): g["weight_decay"] for g in make_optimizer(supernet, SHORT).param_groups for p in g["params"]}
    for name, parameter in supernet.named_parameters():
        free = "norm" in name or name.endswith("bias") or parameter.ndim == 1
        assert decay[id(parameter)] == (0 if free else SHORT.weight_decay), name


def test_finetuning_learns_with_and_without_a_teacher(data: ImageData, make_supernet: Make, tmp_path: Path) -> None:
    supernet = make_supernet()
    train_supernet(supernet, data, SHORT.model_copy(update={"epochs": 8, "augment": None}))
    teacher = supernet.extract(supernet.space.largest())
    before = weights(teacher)
    config = {"epochs": 10, "batch_size": 32, "lr": 0.05, "augment": None}
    for options in (
        {"config": FinetuneConfig(**config)},
        {"config": DistillConfig(**config), "teacher": teacher, "teacher_resolution": 12},
        {"config": DistillConfig(**config, features=1.0), "teacher": teacher, "teacher_resolution": 12},
    ):
        subnet = supernet.extract(supernet.space.smallest())
        log = finetune(subnet, data, 8, **options)
        assert log[-1].loss < log[0].loss
        assert not subnet.training
        assert accuracy(subnet, data, 8) > 0.9
    assert equal(weights(teacher), before)


@pytest.mark.parametrize("features", [0.0, 2.0])
def test_interrupted_finetuning_resumes_bit_for_bit(
    data: ImageData, make_supernet: Make, tmp_path: Path, features: float
) -> None:
    supernet = make_supernet()
    smallest, teacher = supernet.space.smallest(), supernet.extract(supernet.space.largest())
    config = DistillConfig(epochs=3, batch_size=32, augment=AUGMENT, features=features)
    straight, crashed, resumed, other = (supernet.extract(smallest) for _ in range(4))
    finetune(straight, data, 8, config, teacher=teacher)
    with pytest.raises(CrashError):
        finetune(crashed, data, 8, config, teacher=teacher, checkpoint_dir=tmp_path, progress=interrupt_at(2, 2))
    finetune(resumed, data, 8, config, teacher=teacher, checkpoint_dir=tmp_path)
    assert equal(weights(resumed), weights(straight))
    with torch.no_grad():
        next(other.parameters()).add_(1)
    with pytest.raises(CheckpointError, match="weights was"):
        finetune(other, data, 8, config, teacher=teacher, checkpoint_dir=tmp_path)


def test_bf16_trains_and_is_recorded(data: ImageData, make_supernet: Make, tmp_path: Path) -> None:
    config = SHORT.model_copy(update={"precision": "bf16", "epochs": 2})
    entries = train_supernet(make_supernet(), data, config, checkpoint_dir=tmp_path)
    assert entries[1].loss < entries[0].loss
    assert json.loads((tmp_path / "training.json").read_text())["run"]["config"]["precision"] == "bf16"
    assert resolve_precision("auto", torch.device("cpu")) == "fp32"


def test_a_batch_larger_than_the_data_is_one_step(data: ImageData, make_supernet: Make) -> None:
    steps: list[TrainProgress] = []
    config = SHORT.model_copy(update={"epochs": 2, "batch_size": 5000})
    train_supernet(make_supernet(), data, config, progress=steps.append)
    assert [(p.step, p.steps) for p in steps] == [(1, 1), (1, 1)]
