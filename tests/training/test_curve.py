"""The training curve: which sub-networks it measures, on what, and that it disturbs nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from squares import equal, plain_network, weights

from nas_compress.data.base import ImageData
from nas_compress.objectives.calibration import calibrated_subnet
from nas_compress.supernets.mobilenet import MobileNetSupernet
from nas_compress.training.config import FinetuneConfig, SupernetTrainConfig, TrainOptions
from nas_compress.training.curve import CALIBRATION_IMAGES, score, supernet_curve
from nas_compress.training.domains import examples_of
from nas_compress.training.examples import Examples
from nas_compress.training.trainer import finetune, train_supernet

Make = Callable[[], MobileNetSupernet]
CPU = torch.device("cpu")


@pytest.fixture
def examples(data: ImageData) -> Examples:
    return examples_of(data, TrainOptions(), CPU, 12)


def right(net: torch.nn.Module, data: ImageData, resolution: int, count: int) -> float:
    """Return the share of the first search-validation images that a net tells right, in %."""
    with torch.no_grad():
        logits = net.eval()(data.val.images(torch.arange(count), resolution))
    return 100 * float((logits.argmax(1) == data.val.labels[:count]).double().mean())


@pytest.mark.parametrize("count", [1, 7, 12, 1000])
def test_the_score_is_the_share_of_right_images(data: ImageData, examples: Examples, count: int) -> None:
    net = plain_network()
    assert score(net, examples, count, 8) == pytest.approx(right(net, data, 8, min(count, len(data.val))))


def test_the_score_leaves_the_mode_as_it_was(examples: Examples) -> None:
    net = plain_network().train()
    score(net, examples, 4, 8)
    assert net.training


def test_largest_random_and_smallest_are_measured(data: ImageData, make_supernet: Make, examples: Examples) -> None:
    net = make_supernet()
    train_supernet(net, data, SupernetTrainConfig(epochs=3, batch_size=36, lr=0.05, augment=None, curve=0))
    before, space = weights(net), net.space
    figures = supernet_curve(net, data, examples, 12, seed=5)()
    chosen = (space.largest(), space.sample(np.random.default_rng(5), 1)[0], space.smallest())
    assert list(figures) == ["largest", "random", "smallest"]
    for architecture, figure in zip(chosen, figures.values(), strict=True):
        subnet = calibrated_subnet(net, architecture, data, CALIBRATION_IMAGES)
        assert figure == pytest.approx(right(subnet, data, net.resolution(architecture), 12))
    assert equal(weights(net), before)
    assert supernet_curve(net, data, examples, 12, seed=5)() == figures
    assert supernet_curve(net, data, examples, 0, seed=5)() == {}


@pytest.mark.parametrize("algorithm", ["sandwich", "single_path", "progressive_shrinking"])
def test_every_epoch_has_its_figures_and_training_is_not_changed_by_them(
    data: ImageData, make_supernet: Make, tmp_path: Path, algorithm: str
) -> None:
    nets = [make_supernet() for _ in range(3)]
    logs = []
    for net, curve in zip(nets, (12, 12, 0), strict=True):
        config = SupernetTrainConfig(algorithm=algorithm, epochs=4, batch_size=36, lr=0.05, curve=curve)
        logs.append(train_supernet(net, data, config))
    assert logs[0] == logs[1]
    assert [list(entry.curve) for entry in logs[0]] == [["largest", "random", "smallest"]] * 4
    assert all(0 <= figure <= 100 for entry in logs[0] for figure in entry.curve.values())
    assert len({tuple(entry.curve.values()) for entry in logs[0]}) > 1
    assert [entry.loss for entry in logs[2]] == [entry.loss for entry in logs[0]]
    assert all(entry.curve == {} for entry in logs[2])
    assert equal(weights(nets[0]), weights(nets[2]))


def test_finetuning_measures_its_network(data: ImageData) -> None:
    net = plain_network()
    log = finetune(net, data, 8, FinetuneConfig(epochs=2, batch_size=27, augment=None, curve=12))
    assert [list(entry.curve) for entry in log] == [["network"]] * 2
    assert log[-1].curve["network"] == pytest.approx(right(net, data, 8, 12))
