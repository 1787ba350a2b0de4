"""Learning from a teacher: its outputs, whatever runs it, and its features."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from nas_compress.backends.onnxruntime import OnnxSession, to_onnx
from nas_compress.data.base import ImageData, batches
from nas_compress.errors import CheckpointError, ConfigError
from nas_compress.objectives.calibration import recalibrate_bn
from nas_compress.supernets import load_supernet
from nas_compress.training.config import DistillConfig, FinetuneConfig
from nas_compress.training.features import (
    attention_transfer,
    compared_features,
    similarity_preservation,
    stage_ends,
)
from nas_compress.training.trainer import finetune

SHORT = {"epochs": 2, "batch_size": 32, "augment": None}


def weights(module):
    return {key: tensor.clone() for key, tensor in module.state_dict().items()}


def equal(one, other):
    return all(torch.equal(one[key], other[key]) for key in one)


def trained(make_supernet, data, **options):
    subnet = make_supernet().extract(make_supernet().space.smallest())
    finetune(subnet, data, 8, **options)
    return weights(subnet)


def test_the_teacher_decides(data: ImageData, make_supernet) -> None:
    """Labels alone, two teachers, and two temperatures: five different networks."""
    nets = [make_supernet() for _ in range(2)]
    nets[1].classifier[2].bias.data.add_(torch.tensor([5.0, 0, -5]))
    first, second = (net.extract(net.space.largest()) for net in nets)
    outcomes = [trained(make_supernet, data, config=FinetuneConfig(**SHORT))]
    for teacher, options in (
        (first, {}),
        (second, {}),
        (first, {"temperature": 4}),
        (first, {"distillation": 1}),
        (first, {"features": 1}),
    ):
        outcomes.append(trained(make_supernet, data, config=DistillConfig(**SHORT, **options), teacher=teacher))
    for i, one in enumerate(outcomes):
        assert not any(equal(one, other) for other in outcomes[:i])


def test_distillation_alone_copies_the_teacher_and_not_the_labels(data: ImageData, make_supernet) -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logits = nn.Parameter(torch.tensor([0.0, 6.0, 0.0]))

        def forward(self, x):
            return self.logits.expand(len(x), 3)

    subnet = make_supernet().extract(make_supernet().space.smallest())
    config = DistillConfig(epochs=8, batch_size=32, augment=None, distillation=1, lr=0.05)
    finetune(subnet, data, 8, config, teacher=Constant())
    images, _ = next(batches(data.val, 12, 8))
    assert (subnet(images).argmax(1) == 1).all()


def test_an_onnx_session_teaches_as_its_module_does(data: ImageData, make_supernet, tmp_path) -> None:
    net = make_supernet()
    module = net.extract(net.space.largest())
    session = OnnxSession(to_onnx(module, torch.zeros(2, 1, 12, 12)))
    subnets = [net.extract(net.space.smallest()) for _ in range(3)]
    config = DistillConfig(**SHORT)
    for subnet, teacher in zip(subnets, (module, session), strict=False):
        finetune(
            subnet, data, 8, config, teacher=teacher, teacher_resolution=12, checkpoint_dir=tmp_path / str(id(subnet))
        )
    one, other = (weights(subnet) for subnet in subnets[:2])
    assert all(torch.allclose(one[key].float(), other[key].float(), atol=1e-3) for key in one)
    with torch.no_grad():
        module[-1][-1].bias.add_(1)
    other_session = OnnxSession(to_onnx(module, torch.zeros(2, 1, 12, 12)))
    folder = tmp_path / str(id(subnets[1]))
    with pytest.raises(CheckpointError, match="teacher was"):
        finetune(subnets[2], data, 8, config, teacher=other_session, teacher_resolution=12, checkpoint_dir=folder)


def test_teacher_and_config_must_agree(data: ImageData, make_supernet) -> None:
    net = make_supernet()
    subnet, teacher = net.extract(net.space.smallest()), net.extract(net.space.largest())
    with pytest.raises(ConfigError, match="FinetuneConfig and a teacher do not go together"):
        finetune(subnet, data, 8, FinetuneConfig(), teacher=teacher)
    with pytest.raises(ConfigError, match="DistillConfig and no teacher do not go together"):
        finetune(subnet, data, 8, DistillConfig())
    with pytest.raises(ConfigError, match="features = 2 wants a module as its teacher, got function"):
        finetune(subnet, data, 8, DistillConfig(features=2), teacher=lambda x: torch.zeros(len(x), 3))


# -- features ----------------------------------------------------------------------------------------------


def test_attention_maps_are_compared_whatever_the_number_of_channels() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, 5, 5, generator=generator)
    assert attention_transfer(x, 7 * x) == pytest.approx(0, abs=1e-6)
    assert attention_transfer(x, x.repeat(1, 3, 1, 1)) == pytest.approx(0, abs=1e-6)
    left, right = torch.zeros(2, 1, 2, 2), torch.zeros(2, 6, 2, 2)
    left[..., 0], right[..., 1] = 1, 1
    assert attention_transfer(left, right) == pytest.approx(2)
    assert attention_transfer(x, torch.nn.functional.interpolate(x, scale_factor=2)) < 0.1


def test_similarity_of_images_is_compared_whatever_the_features() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 4, 5, generator=generator)
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=generator))[0]
    assert similarity_preservation(x, 3 * x @ rotation) == pytest.approx(0, abs=1e-6)
    assert similarity_preservation(x, torch.randn(6, 9, generator=generator)) > 0.1


@pytest.mark.parametrize(("name", "stages"), [("digits_mbv3", 3), ("digits_resnet", 2), ("digits_vit", 4)])
def test_stages_of_the_largest_and_the_smallest_match(name: str, stages: int) -> None:
    net = load_supernet(name, trained=False, seed=0)
    modules = [net.extract(a) for a in (net.space.largest(), net.space.smallest())]
    images = [net.example_input(4, a) for a in (net.space.largest(), net.space.smallest())]
    found = [stage_ends(module, x) for module, x in zip(modules, images, strict=True)]
    assert [len(ends) for ends, _ in found] == [stages, stages]
    assert {spatial for _, spatial in found} == {name != "digits_vit"}
    with compared_features(modules[1], modules[0], images[1], images[0]) as loss:
        modules[1](images[1]), modules[0](images[0])
        value = loss()
        value.backward()
        assert value > 0
        modules[0](images[0])
    assert all(p.grad is None for p in modules[0].parameters())
    assert any(p.grad is not None for p in modules[1].parameters())
    assert not any(m._forward_hooks for module in modules for m in module.modules())


class Mixed(nn.Module):
    """A first part, a second one that gives a tuple, and a third one that is called by keyword."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second, self.third = first, second, nn.Linear(8, 8)

    def forward(self, x):
        x = self.first(input=x).flatten(2).mT if isinstance(self.first, nn.Conv2d) else self.first(x[:, 0])
        x = self.second(x, x, x) if isinstance(self.second, nn.MultiheadAttention) else self.second(x)
        return self.third(input=x[0]).mean(1)[:, :3]


@pytest.mark.parametrize("second", [nn.GRU(8, 8, batch_first=True), nn.MultiheadAttention(8, 2, batch_first=True)])
def test_parts_may_give_tuples_and_be_called_by_keyword(data: ImageData, second: nn.Module) -> None:
    images, _ = next(batches(data.train, 4, 8))
    for first, spatial in ((nn.Conv2d(1, 8, 3), True), (nn.Linear(8, 8), False)):
        student = Mixed(first, second)
        ends = [student.first] * (1 if spatial else 4)
        assert stage_ends(student, images) == (ends, spatial)
        finetune(student, data, 8, DistillConfig(features=1, **SHORT), teacher=copy.deepcopy(student))


def test_the_same_network_has_the_same_features(data: ImageData, make_supernet) -> None:
    module = make_supernet().extract(make_supernet().space.largest())
    images, _ = next(batches(data.train, 8, 12))
    with compared_features(module, module, images, images) as loss:
        module(images)
        assert loss().item() == pytest.approx(0, abs=1e-6)


def feature_loss(student, teacher, data, sizes):
    """Measure it as in training; the student's statistics are its own."""
    images, theirs = (next(batches(data.train, 100, size))[0] for size in sizes)
    recalibrate_bn(student, [images])
    with torch.no_grad(), compared_features(student, teacher, images, theirs) as loss:
        student(images), teacher(theirs)
        return float(loss())


@pytest.mark.parametrize("sizes", [(8, 8), (8, 12)])
def test_the_features_come_nearer_to_the_teachers(data: ImageData, make_supernet, sizes) -> None:
    net = make_supernet()
    teacher = net.extract(net.space.largest())
    finetune(teacher, data, sizes[1], FinetuneConfig(epochs=5, batch_size=32, augment=None, lr=0.05))
    losses = {}
    for weight in (0.0, 10.0):
        student = net.extract(net.space.smallest())
        before = feature_loss(student, teacher, data, sizes)
        config = DistillConfig(epochs=6, batch_size=32, augment=None, lr=0.02, features=weight)
        finetune(student, data, sizes[0], config, teacher=teacher, teacher_resolution=sizes[1])
        losses[weight] = feature_loss(student, teacher, data, sizes)
    assert losses[10.0] < 0.5 * min(before, losses[0.0])


def test_features_that_do_not_match_are_refused(data: ImageData, make_supernet) -> None:
    student = make_supernet().extract(make_supernet().space.smallest())
    config = DistillConfig(features=1, **SHORT)
    one_stage = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(
        ConfigError, match=r"features: .*sub-network \(2 stages of maps\).*teacher \(1 stages of maps\)"
    ):
        finetune(student, data, 8, config, teacher=one_stage)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with pytest.raises(ConfigError, match="features: no stages found in Sequential"):
        finetune(student, data, 8, config, teacher=linear)
