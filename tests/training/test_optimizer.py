"""Both optimizers on small nets of every family: what decays, that they learn, and that runs go on bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nas_compress.data import load_data
from nas_compress.data.base import ImageData
from nas_compress.errors import CheckpointError, ConfigError
from nas_compress.supernets import supernets
from nas_compress.supernets.base import ImageSupernet
from nas_compress.training.config import FinetuneConfig, SupernetTrainConfig
from nas_compress.training.optimizer import make_optimizer, parameter_groups
from nas_compress.training.trainer import TrainProgress, finetune, train_supernet
from nas_compress.weights import read_state, write_state

CASES = [("digits_resnet", "sgd"), ("digits_vit", "adamw")]


class CrashError(Exception):
    """Stands for a crash."""


def make(name: str) -> ImageSupernet:
    return supernets.get(name)(num_classes=3, seed=0)


def config(optimizer: str, **options: Any) -> SupernetTrainConfig:
    options = {"epochs": 2, "batch_size": 24, "warmup_epochs": 0.5, "subnets_per_step": 2, "augment": None, **options}
    return SupernetTrainConfig(optimizer=optimizer, **options)


def crash(progress: TrainProgress) -> None:
    if (progress.epoch, progress.step) == (2, 3):
        raise CrashError


def decays(module: nn.Module) -> dict[str, float]:
    of_parameter = {id(p): g["weight_decay"] for g in parameter_groups(module, 0.5) for p in g["params"]}
    return {name: of_parameter[id(parameter)] for name, parameter in module.named_parameters()}


@pytest.mark.parametrize("extracted", [False, True])
def test_class_token_and_positions_are_not_decayed(extracted: bool) -> None:
    net = make("digits_vit")
    module = net.extract(net.space.largest()) if extracted else net
    decayed = {name for name, decay in decays(module).items() if decay == 0.5}
    assert decayed == {n for n, p in module.named_parameters() if n.endswith("weight") and "norm" not in n}
    assert len(decayed) == 1 + 4 * 6 + 1
    free = {name.rpartition(".")[2] for name, decay in decays(module).items() if decay == 0}
    assert free == {"class_token", "positions", "vertical", "horizontal", "bias", "weight"}


def test_the_optimizer_is_the_configured_one() -> None:
    net = make("digits_vit")
    adamw, sgd = (make_optimizer(net, config(name)) for name in ("adamw", "sgd"))
    assert type(adamw) is torch.optim.AdamW and type(sgd) is torch.optim.SGD
    assert [group["betas"] for group in adamw.param_groups] == [(0.9, 0.999)] * 2
    assert [(group["momentum"], group["nesterov"]) for group in sgd.param_groups] == [(0.9, True)] * 2
    betas = make_optimizer(net, config("radam", betas=(0.8, 0.98))).param_groups
    assert [group["betas"] for group in betas] == [(0.8, 0.98)] * 2
    rates = [make_optimizer(net, config("rmsprop", momentum=m)).param_groups[0]["momentum"] for m in (None, 0.7)]
    assert rates == [0, 0.7]
    none = make_optimizer(net, config("sgd", momentum=0)).param_groups[0]
    assert (none["momentum"], none["nesterov"]) == (0, False)


def test_the_learning_rate_follows_the_optimizer_unless_it_is_given() -> None:
    assert (config("sgd").peak_lr, config("adamw").peak_lr) == (0.1, 1e-3)
    assert (FinetuneConfig().peak_lr, FinetuneConfig(optimizer="adamw").peak_lr) == (0.01, 1e-4)
    assert config("adamw", lr=0.02).peak_lr == 0.02
    options = config("sgd")
    options.optimizer = "adamw"
    assert options.peak_lr == 1e-3
    assert SupernetTrainConfig(**options.model_dump()) == options


def test_options_of_other_optimizers_are_refused() -> None:
    with pytest.raises(ConfigError, match="momentum = 0.8 is an option of sgd, rmsprop; with adamw leave it out"):
        config("adamw", momentum=0.8)
    with pytest.raises(
        ConfigError, match=r"betas = \(0\.9, 0\.98\) is an option of adam, adamw, .*; with sgd leave it out"
    ):
        config("sgd", betas=(0.9, 0.98))
    with pytest.raises(ConfigError, match=r"betas = \(0\.9, 1\.0\); want two numbers of at least 0 and less than 1"):
        config("adam", betas=(0.9, 1.0))
    with pytest.raises(ConfigError, match="optimizer: 'adamm' is not allowed .did you mean 'adam"):
        config("adamm")


@pytest.mark.parametrize(("name", "optimizer"), CASES)
def test_supernets_learn_within_few_steps(name: str, optimizer: str) -> None:
    epochs, lr = {"sgd": (1, 0.05), "adamw": (2, 3e-3)}[optimizer]
    net, losses = supernets.get(name)(seed=0), []
    options = config(optimizer, lr=lr, epochs=epochs)
    train_supernet(net, load_data("digits"), options, progress=lambda p: losses.append(p.loss))
    assert sum(losses[-5:]) < 0.85 * sum(losses[:5])


@pytest.mark.parametrize(("name", "optimizer"), CASES)
def test_an_interrupted_run_ends_bit_for_bit_as_an_uninterrupted_one(
    data: ImageData, tmp_path: Path, name: str, optimizer: str
) -> None:
    straight, resumed, options = make(name), make(name), config(optimizer, algorithm="single_path")
    log = train_supernet(straight, data, options, checkpoint_dir=tmp_path / "straight")
    with pytest.raises(CrashError):
        train_supernet(make(name), data, options, checkpoint_dir=tmp_path / "run", progress=crash)
    assert train_supernet(resumed, data, options, checkpoint_dir=tmp_path / "run") == log
    assert resumed.fingerprint() == straight.fingerprint()
    for file in (tmp_path / "straight").iterdir():
        assert (tmp_path / "run" / file.name).read_bytes() == file.read_bytes()


def test_interrupted_finetuning_with_adamw_resumes_bit_for_bit(data: ImageData, tmp_path: Path) -> None:
    net = make("digits_vit")
    crashed, straight, resumed = (net.extract(net.space.smallest()) for _ in range(3))
    options = FinetuneConfig(optimizer="adamw", epochs=2, batch_size=24, augment=None)
    finetune(straight, data, 8, options)
    with pytest.raises(CrashError):
        finetune(crashed, data, 8, options, checkpoint_dir=tmp_path, progress=crash)
    finetune(resumed, data, 8, options, checkpoint_dir=tmp_path)
    for one, other in zip(resumed.parameters(), straight.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_state_of_the_other_optimizer_is_refused(data: ImageData, tmp_path: Path) -> None:
    train_supernet(make("digits_vit"), data, config("adamw", epochs=1), checkpoint_dir=tmp_path)
    recorded = json.loads((tmp_path / "training.json").read_text())["run"]["config"]
    assert (recorded["optimizer"], recorded["lr"]) == ("adamw", 1e-3)
    with pytest.raises(CheckpointError, match=r"config\.\w+ was .* there, is .* here"):
        train_supernet(make("digits_vit"), data, config("sgd", epochs=1), checkpoint_dir=tmp_path)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("optimizer.exp_avg.none", "holds exp_avg of 'none', which this network lacks"),
        (
            "optimizer.step.head.classifier.bias",
            r"step of 'head.classifier.bias' has shape \(1,\), this network wants \(3,\)",
        ),
        ("optimizer.exp_avg_sq.head.classifier.bias", r"exp_avg_sq of .* has shape \(1,\), this network wants \(3,\)"),
        ("sum.head.classifier.bias", "holds 'sum.head.classifier.bias', which is no part of a training state"),
    ],
)
def test_a_damaged_state_is_named(data: ImageData, tmp_path: Path, key: str, reason: str) -> None:
    options = config("adamw", epochs=1)
    train_supernet(make("digits_vit"), data, options, checkpoint_dir=tmp_path)
    path = tmp_path / "epoch-0001-000000.safetensors"
    write_state(path, read_state(path) | {key: torch.zeros(1)})
    with pytest.raises(CheckpointError, match=rf"epoch-0001-000000\.safetensors .*{reason}"):
        train_supernet(make("digits_vit"), data, options, checkpoint_dir=tmp_path)
