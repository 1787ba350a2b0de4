"""Steps and epochs: gradient accumulation, clipping, the moving average, the target, the log."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from squares import equal, largest_difference, plain_network, squares, tiny_supernet, weights
from torch import nn

from nas_compress.errors import ConfigError, TrainingError
from nas_compress.training.average import WeightAverage
from nas_compress.training.checkpoint import EpochLog
from nas_compress.training.config import FinetuneConfig, SupernetTrainConfig
from nas_compress.training.trainer import TrainProgress, finetune, train_supernet

PLAIN: dict[str, Any] = {"epochs": 2, "batch_size": 27, "augment": None, "lr": 0.05, "curve": 0}


def tune(progress: Any = None, folder: Path | None = None, **options: Any) -> tuple[nn.Module, list[EpochLog]]:
    net = plain_network()
    config = FinetuneConfig(**PLAIN | options)
    return net, finetune(net, squares(), 8, config, checkpoint_dir=folder, progress=progress)


# -- accumulation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [2, 3, 5, 100])
def test_parts_of_a_batch_add_up_to_it(parts: int) -> None:
    """5 does not divide 27, and 100 parts are single images."""
    (whole, log), (split, split_log) = tune(), tune(accumulate=parts)
    assert largest_difference(weights(split), weights(whole)) < 1e-6
    assert not equal(weights(whole), weights(plain_network()))
    for one, other in zip(split_log, log, strict=True):
        assert (one.epoch, one.accuracy) == (other.epoch, other.accuracy)
        assert one.loss == pytest.approx(other.loss, abs=1e-6)


def test_single_images_have_no_statistics_for_batch_normalisation() -> None:
    options = SupernetTrainConfig(epochs=1, batch_size=9, accumulate=5, curve=0)
    net = tiny_supernet()
    net.classifier = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 3))
    with pytest.raises(ConfigError, match=r"no statistics of a single example: lower accumulate, or raise batch_size"):
        train_supernet(net, squares(), options)
    assert len(train_supernet(net, squares(), options.model_copy(update={"accumulate": 4}))) == 1
    assert len(train_supernet(tiny_supernet(), squares(), options)) == 1  # whose maps are larger than one pixel


def test_the_state_is_kept_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    tune(folder=Path("~/run"))
    assert (tmp_path / "run" / "training.json").is_file()


def test_all_parts_train_the_same_sub_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[int, list[Any]] = {}
    for parts in (1, 3):
        net = tiny_supernet()
        activate, drawn = net.activate, seen.setdefault(parts, [])

        def spy(architecture: Any, activate: Any = activate, drawn: list[Any] = drawn) -> Any:
            drawn.append(architecture)
            return activate(architecture)

        monkeypatch.setattr(net, "activate", spy)
        options = SupernetTrainConfig(
            algorithm="single_path", subnets_per_step=2, epochs=1, batch_size=36, accumulate=parts, curve=0
        )
        train_supernet(net, squares(), options)
    whole, split = seen[1][1:], seen[3][1:]  # the first one is the trial before all steps
    assert split == [a for step in range(3) for _ in range(3) for a in whole[2 * step : 2 * step + 2]]


class Masked(nn.Module):
    """Attention of an image's rows, with a mask that is infinite where it hides something."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0), nn.Linear(64, 3)
        self.register_buffer("mask", torch.full((8, 8), -math.inf).triu(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.last(self.layer(x[:, 0], src_mask=self.mask).flatten(1)))


def masked() -> Masked:
    torch.manual_seed(0)
    return Masked()


def test_infinite_masks_stay_as_they_are(tmp_path: Path) -> None:
    """Averages of weights leave them alone, and states that hold them are read back."""
    config = FinetuneConfig(**PLAIN, ema=0.9)
    for _ in range(2):
        net = masked()
        finetune(net, squares(), 8, config, checkpoint_dir=tmp_path)
        assert torch.equal(cast(torch.Tensor, net.mask), cast(torch.Tensor, masked().mask))


def test_every_weight_learns_in_the_first_step_in_bf16() -> None:
    net, before = masked(), weights(masked())
    config = FinetuneConfig(**PLAIN | {"epochs": 1, "batch_size": 120, "precision": "bf16", "warmup_epochs": 0.0})
    finetune(net, squares(), 8, config)
    assert [name for name, value in weights(net).items() if torch.equal(value, before[name])] == ["mask"]


# -- clipping ----------------------------------------------------------------------------------------------


def test_no_step_is_longer_than_the_clipped_gradient() -> None:
    def lengths(**options: Any) -> list[float]:
        found, before = [], [plain_network()]
        bare = {"momentum": 0, "weight_decay": 0, "schedule": "constant", "warmup_epochs": 0, "lr": 0.5}

        def look(progress: TrainProgress) -> None:
            own = torch.cat([p.detach().flatten() for p in net.parameters()])
            last = torch.cat([p.detach().flatten() for p in before[0].parameters()])
            found.append(float((own - last).norm()))
            before[0].load_state_dict(net.state_dict())

        net = plain_network()
        finetune(net, squares(), 8, FinetuneConfig(**PLAIN | bare | options), progress=look)
        return found

    free, clipped = lengths(), lengths(max_norm=0.01)
    assert min(free) > 0.5 * 0.01
    assert clipped == pytest.approx([0.5 * 0.01] * len(free), rel=1e-3)


# -- divergence --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_norm", [None, 1.0])
def test_a_gradient_that_is_not_finite_ends_the_run_before_it_is_stored(tmp_path: Path, max_norm: float | None) -> None:
    """The loss of the first sub-network is finite; a gradient of the smallest, in an epoch's last step, is not."""
    options = SupernetTrainConfig(epochs=2, batch_size=54, subnets_per_step=2, curve=0, max_norm=max_norm)
    net, backwards = tiny_supernet(), itertools.count(1)
    next(net.parameters()).register_hook(lambda gradient: gradient * math.nan if next(backwards) == 8 else gradient)
    with pytest.raises(TrainingError, match=r"the norm of the gradient is nan in epoch 2, step 2, .*lower lr"):
        train_supernet(net, squares(), options, checkpoint_dir=tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["epoch-0001-000000.safetensors", "training.json"]


@pytest.mark.parametrize("stored", [True, False])
def test_weights_that_are_not_finite_are_no_success(tmp_path: Path, stored: bool) -> None:
    options = {"lr": 1e38, "epochs": 1, "batch_size": 120, "warmup_epochs": 0, "momentum": 0.99, "schedule": "constant"}
    with pytest.raises(TrainingError, match=r"weights are not finite after epoch 1.*lower lr \(now 1e\+38\)"):
        tune(folder=tmp_path if stored else None, weight_decay=1e5, **options)
    assert not list(tmp_path.iterdir())


# -- the moving average ------------------------------------------------------------------------------------


@given(decay=st.floats(0.01, 0.9999), values=st.lists(st.floats(-10, 10), min_size=1, max_size=30))
@settings(max_examples=50)
def test_the_average_is_the_formula(decay: float, values: list[float]) -> None:
    layer = nn.Linear(1, 1, bias=False).double()
    layer.weight.data.fill_(1.0)
    average, expected = WeightAverage(layer, decay), 1.0
    for step, value in enumerate(values, 1):
        layer.weight.data.fill_(value)
        average.update(layer)
        own = min(decay, (1 + step) / (10 + step))
        expected = own * expected + (1 - own) * value
    average.give_to(layer)
    assert layer.weight.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def shadow(net: nn.Module, decay: float) -> tuple[dict[str, torch.Tensor], Callable[[TrainProgress], None]]:
    """Return the average that a run should end with, and the callback that keeps it."""
    expected, count = {name: p.detach().clone() for name, p in net.named_parameters()}, [0]

    def look(progress: TrainProgress) -> None:
        count[0] += 1
        own = min(decay, (1 + count[0]) / (10 + count[0]))
        for name, parameter in net.named_parameters():
            expected[name] = own * expected[name] + (1 - own) * parameter.detach()

    return expected, look


def test_training_ends_with_the_average_of_its_weights() -> None:
    net = plain_network()
    expected, look = shadow(net, 0.7)
    finetune(net, squares(), 8, FinetuneConfig(**PLAIN, ema=0.7), progress=look)
    assert largest_difference(weights(net), expected) < 1e-6
    assert largest_difference(weights(net), weights(tune()[0])) > 1e-4


def test_statistics_are_averaged_as_the_weights_that_they_belong_to() -> None:
    layer = nn.BatchNorm1d(2)
    average, generator = WeightAverage(layer, 0.5), torch.Generator().manual_seed(0)
    mean, counted = torch.zeros(2), 0
    for step in range(1, 4):
        layer(torch.randn(8, 2, generator=generator) + 5)
        average.update(layer)
        mean = mean.lerp(layer.running_mean, 1 - min(0.5, (1 + step) / (10 + step)))
        counted += 1
    own = layer.running_mean.clone()
    with average.inside(layer):
        torch.testing.assert_close(layer.running_mean, mean)
        assert layer.num_batches_tracked == counted
    assert torch.equal(layer.running_mean, own) and not torch.equal(own, mean)


def test_an_average_does_not_change_the_steps() -> None:
    losses: dict[bool, list[float]] = {False: [], True: []}
    for averaged, seen in losses.items():
        tune(lambda p, seen=seen: seen.append(p.loss), ema=0.9 if averaged else None, curve=12)
    assert losses[False] == losses[True]


def test_what_is_measured_is_the_average() -> None:
    """A run that ends at its target ends with the weights that reached it: those of the average."""
    net, data = plain_network(), squares()
    expected, look = shadow(net, 0.95)
    config = FinetuneConfig(**PLAIN | {"epochs": 10, "lr": 0.002, "curve": 12}, ema=0.95, target=80.0)
    log = finetune(net, data, 8, config, progress=look)
    assert 1 < len(log) < 10
    assert largest_difference(weights(net), expected) < 1e-6
    with torch.no_grad():
        right = (net(data.val.images(torch.arange(12), 8)).argmax(1) == data.val.labels[:12]).float().mean()
    assert 100 * float(right) == pytest.approx(log[-1].curve["network"])


# -- the target --------------------------------------------------------------------------------------------


def test_training_ends_early_at_its_target_and_stays_ended(tmp_path: Path) -> None:
    options = {"epochs": 10, "lr": 0.002, "curve": 12, "target": 80.0}
    net, log = tune(folder=tmp_path, **options)
    assert 1 < len(log) < 10
    assert max(e.curve["network"] for e in log[:-1]) < 80 <= log[-1].curve["network"]
    steps: list[TrainProgress] = []
    again, found = tune(steps.append, folder=tmp_path, **options)
    assert steps == [] and found == log
    assert equal(weights(again), weights(net))


def test_a_target_without_a_curve_is_refused() -> None:
    with pytest.raises(ConfigError, match="target = 80 is looked for on the curve, and curve is 0"):
        FinetuneConfig(target=80.0, curve=0)


def test_a_target_out_of_reach_changes_nothing() -> None:
    (net, log), (free, free_log) = (tune(curve=12, lr=0.002, target=target) for target in (100.0, None))
    assert log == free_log and len(log) == 2
    assert equal(weights(net), weights(free))
