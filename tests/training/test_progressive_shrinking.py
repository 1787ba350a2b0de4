"""Progressive shrinking as it runs: what is trained when, by whom it is taught, and when channels are sorted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from squares import equal, squares, weights

from nas_compress.data.base import ImageData
from nas_compress.errors import ConfigError
from nas_compress.space import Architecture
from nas_compress.supernets.mobilenet import MobileNetSupernet
from nas_compress.training import progressive_shrinking as module
from nas_compress.training.config import SupernetTrainConfig
from nas_compress.training.distillation import distillation_loss
from nas_compress.training.domains import examples_of
from nas_compress.training.progressive_shrinking import progressive_shrinking
from nas_compress.training.samplers import UniformSampler
from nas_compress.training.stages import stages_of
from nas_compress.training.trainer import TrainProgress, train_supernet

Make = Callable[[], MobileNetSupernet]
OPTIONS = {"algorithm": "progressive_shrinking", "batch_size": 36, "lr": 0.02, "augment": None}
CONFIG = SupernetTrainConfig(**OPTIONS, epochs=5, curve=0)


def spied(net: MobileNetSupernet) -> list[Architecture]:
    """Return the list to which the net adds the architecture of every forward pass in training."""
    seen: list[Architecture] = []
    net.register_forward_pre_hook(lambda *_: seen.append(net._active) if net.training else None)
    return seen


def test_a_stage_trains_its_part_of_the_space_alone(data: ImageData, make_supernet: Make) -> None:
    net = make_supernet()
    seen, by_stage = spied(net), {}

    def look(progress: TrainProgress) -> None:
        by_stage.setdefault(progress.stage, []).append(list(seen))
        seen.clear()

    log = train_supernet(net, data, CONFIG, progress=look)
    stages = stages_of(CONFIG, net.space)
    assert list(by_stage) == [stage.name for stage in stages] == ["largest", "kernel", "depth, all", "width, all"]
    assert [entry.stage for entry in log] == [stage.name for stage in stages for _ in range(stage.epochs)]
    for stage in stages:
        for trained in by_stage[stage.name]:
            assert 1 <= len(trained) <= stage.subnets_per_step
            for architecture in trained:
                stage.space.validate(architecture)
    for name, wanted in (("kernel", "ks"), ("depth, all", "d"), ("width, all", "e")):
        trained = [a for step in by_stage[name] for a in step]
        assert len({a[wanted] for a in trained}) > 1, f"{wanted} never varied in {name}"
    assert len({a["r"] for step in by_stage["largest"] for a in step}) == 2


def test_progress_counts_the_work_of_each_stage(data: ImageData, make_supernet: Make) -> None:
    net, seen = make_supernet(), list[TrainProgress]()
    all_of_it = {"elastic": dict.fromkeys(("r", "ks", "d", "e")), "epochs": 1, "sandwich": True, "subnets_per_step": 2}
    stages = [{"elastic": {"ks": [5]}, "epochs": 2}, all_of_it]
    options = {**OPTIONS, "epochs": 3, "stages": stages, "curve": 0}
    config = SupernetTrainConfig(**options)
    (largest,) = set(stages_of(config, net.space)[0].space.sample(np.random.default_rng(0), 9))
    train_supernet(net, data, config, progress=seen.append)
    steps = np.diff([0.0, *(p.share for p in seen)])
    large, small = net.macs(largest), net.macs(net.space.smallest())
    assert steps[: -seen[0].steps] == pytest.approx(steps[0])
    assert steps[-1] / steps[0] == pytest.approx((3 * (large + small) + large) / (3 * large))
    assert seen[-1].share == pytest.approx(1)


def test_a_target_is_one_of_the_last_stage(data: ImageData, make_supernet: Make, tmp_path: Path) -> None:
    stages = [{"epochs": 2, "elastic": {"r": None}}, {"epochs": 3, "elastic": dict.fromkeys(("r", "ks", "d", "e"))}]
    config = SupernetTrainConfig(**OPTIONS, stages=stages, curve=12, target=1.0)
    log = train_supernet(make_supernet(), data, config, checkpoint_dir=tmp_path)
    assert [entry.epoch for entry in log] == [1, 2, 3]
    assert max(log[0].curve.values()) > 1
    assert train_supernet(make_supernet(), data, config, checkpoint_dir=tmp_path) == log


def test_a_stage_may_be_a_sandwich(data: ImageData, make_supernet: Make) -> None:
    net = make_supernet()
    seen = spied(net)
    stages = [
        {"elastic": {"r": None, "ks": None}, "epochs": 1, "sandwich": True, "subnets_per_step": 3},
        {"elastic": dict.fromkeys(("r", "ks", "d", "e")), "epochs": 1},
    ]
    config = SupernetTrainConfig(algorithm="progressive_shrinking", stages=stages, batch_size=36, curve=0, augment=None)
    first = stages_of(config, net.space)[0].space
    train_supernet(net, data, config)
    assert seen[:2] == [first.largest(), first.smallest()]
    assert len(seen) == 3 * 3 + 3


def test_the_teacher_is_the_largest_as_the_first_stage_left_it(
    data: ImageData, make_supernet: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, ends, taught = make_supernet(), [], []
    largest = net.space.largest()

    def loss(
        logits: torch.Tensor, labels: torch.Tensor, teacher: torch.Tensor | None, **options: float
    ) -> torch.Tensor:
        taught.append((teacher, options["weight"], net.training))
        return distillation_loss(logits, labels, teacher, **options)

    def look(progress: TrainProgress) -> None:
        if (progress.epoch, progress.step) == (first, progress.steps):
            ends.append(net.extract(largest).eval())
            for norm in (m for m in ends[0].modules() if isinstance(m, torch.nn.BatchNorm2d)):
                norm.train()

    monkeypatch.setattr("nas_compress.training.examples.distillation_loss", loss)
    first = stages_of(CONFIG, net.space)[0].epochs
    batches = []
    monkeypatch.setattr(
        module._Teacher,
        "logits",
        lambda self, batch, asked=module._Teacher.logits: batches.append((batch, asked(self, batch))) or batches[-1][1],
    )
    train_supernet(net, data, CONFIG, progress=look)
    assert [teacher for teacher, _, _ in taught[: 3 * first]] == [None] * (3 * first)
    assert all(teacher is not None and weight == 0.5 for teacher, weight, _ in taught[3 * first :])
    assert all(training for _, _, training in taught)
    for batch, logits in (batches[0], batches[-1]):
        with torch.no_grad():
            assert torch.equal(logits, ends[0](batch.at(12)))
    assert not equal(weights(net.extract(largest)), weights(ends[0]))


def test_a_taught_step_adds_both_losses_and_leaves_the_teacher_as_it_was(data: ImageData, make_supernet: Make) -> None:
    net, cross_entropy = make_supernet().train(), torch.nn.functional.cross_entropy
    stage = stages_of(CONFIG, net.space)[1]
    teacher = module._Teacher(net)
    teacher.take()
    before = {name: tensor.clone() for name, tensor in teacher.state().items()}
    batch = examples_of(data, CONFIG, torch.device("cpu"), 12).validation(torch.arange(12), torch.device("cpu"))
    torch.manual_seed(0)  # of dropout
    module._phase(net, CONFIG, stage, teacher).step(batch, np.random.default_rng(0), 1.0)
    found = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    assert equal(dict(teacher.state()), before)

    net.zero_grad()
    soft = teacher.logits(batch).softmax(1)
    torch.manual_seed(0)
    for architecture in UniformSampler(stage.subnets_per_step)(stage.space, np.random.default_rng(0)):
        with net.activate(architecture):
            logits = net(batch.at(net.resolution(architecture)))
        smoothing = CONFIG.label_smoothing
        loss = cross_entropy(logits, batch.labels, label_smoothing=smoothing) + cross_entropy(logits, soft)
        loss.backward()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, net.get_parameter(name).grad)


def test_channels_are_sorted_once_and_the_largest_stays_what_it_was(
    data: ImageData, make_supernet: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, moments = make_supernet(), []
    images, steps = net.example_input(4), [0]

    def answer() -> torch.Tensor:
        with torch.no_grad():
            return net.extract(net.space.largest()).eval()(images)

    def smallest() -> torch.Tensor:
        with torch.no_grad():
            return net.extract(net.space.smallest()).eval()(net.example_input(4, net.space.smallest()))

    sort = net.sort_by_importance

    def spy() -> None:
        before, small = answer(), smallest()
        sort()
        assert torch.allclose(answer(), before, atol=1e-5)
        assert not torch.allclose(smallest(), small, atol=1e-5)
        moments.append(steps[0])

    def count(progress: TrainProgress) -> None:
        steps[0] += 1

    monkeypatch.setattr(net, "sort_by_importance", spy)
    train_supernet(net, data, CONFIG, progress=count)
    stages = stages_of(CONFIG, net.space)
    before = sum(stage.epochs for stage in stages if not stage.name.startswith("width"))
    assert moments == [3 * before]


def test_every_stage_starts_its_schedule_and_its_optimizer_anew(data: ImageData, make_supernet: Make) -> None:
    rates: dict[str, list[float]] = {}
    config = CONFIG.model_copy(update={"epochs": 40, "warmup_epochs": 1.0})
    net = make_supernet()
    stages = stages_of(config, net.space)

    class StopError(Exception):
        pass

    def look(progress: TrainProgress) -> None:
        rates.setdefault(progress.stage, []).append(progress.lr)
        if progress.stage == "kernel" and len(rates["kernel"]) == 4:
            raise StopError

    with pytest.raises(StopError):
        train_supernet(net, data, config, progress=look)
    for stage in stages[:2]:
        assert rates[stage.name][:3] == pytest.approx([stage.lr / 3, stage.lr * 2 / 3, stage.lr])
    assert rates["largest"][-1] < 0.01 * stages[0].lr


def test_the_whole_space_learns(make_supernet: Make) -> None:
    net = make_supernet()
    config = CONFIG.model_copy(update={"epochs": 24, "lr": 0.05, "warmup_epochs": 0.0, "curve": 12})
    log = train_supernet(net, squares(), config)
    assert log[-1].loss < log[0].loss
    assert min(log[-1].curve.values()) > 75


def test_too_few_epochs_are_refused_before_any_step(data: ImageData, make_supernet: Make) -> None:
    with pytest.raises(ConfigError, match="2 epochs are too few: 'tiny' shrinks in 4 stages"):
        train_supernet(make_supernet(), data, CONFIG.model_copy(update={"epochs": 2}))


def test_a_teacher_that_was_not_taken_is_no_teacher(make_supernet: Make) -> None:
    plan = progressive_shrinking(make_supernet(), CONFIG)
    assert dict(plan.extra.state()) == {}
    plan.phases[1].begin()
    state = dict(plan.extra.state())
    assert state and all(torch.isfinite(t.float()).all() for t in state.values())
    other = progressive_shrinking(make_supernet(), CONFIG)
    other.extra.restore(state)
    assert equal(dict(other.extra.state()), state)
    with pytest.raises(RuntimeError, match="before it was taken"):
        progressive_shrinking(make_supernet(), CONFIG).phases[1].step(None, np.random.default_rng(0), 1.0)  # type: ignore[arg-type]
