"""BN recalibration against statistics computed by hand."""

import pytest
import torch
from torch import nn

from nas_compress.data import load_data
from nas_compress.data.augment import Augmentation
from nas_compress.data.base import resize
from nas_compress.errors import CheckpointError, DataError
from nas_compress.objectives.calibration import (
    calibrated_subnet,
    calibration_conditions,
    recalibrate_bn,
    training_images,
)
from nas_compress.objectives.modes import quick_relu
from nas_compress.supernets import load_supernet
from nas_compress.supernets.checkpoint import load_checkpoint, save_checkpoint
from nas_compress.supernets.trained import cards
from nas_compress.training.config import SupernetTrainConfig
from nas_compress.training.trainer import train_supernet
from nas_compress.weights import write_state


@pytest.fixture
def images():
    return torch.randn(50, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 + 5


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def test_statistics_are_the_average_over_batches_weighted_by_size(net, images):
    net[0].running_mean.fill_(1e6)
    batches = images.split(20)
    assert recalibrate_bn(net, batches) == 50
    shares = torch.tensor([0.4, 0.4, 0.2])
    means = torch.stack([b.mean((0, 2, 3)) for b in batches])
    variances = torch.stack([b.transpose(0, 1).flatten(1).var(1) for b in batches])
    assert torch.allclose(net[0].running_mean, shares @ means, atol=1e-5)
    assert torch.allclose(net[0].running_mean, images.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(net[0].running_var, shares @ variances, atol=1e-4)


def test_a_second_recalibration_forgets_the_first(net, images):
    recalibrate_bn(net, [images * 100])
    recalibrate_bn(net, [images])
    once = {key: value.clone() for key, value in net.state_dict().items()}
    recalibrate_bn(net, [images])
    assert all(torch.equal(once[key], value) for key, value in net.state_dict().items())


def test_the_module_ends_in_evaluation_mode_with_its_momentum_and_weights(net, images):
    weights = {key: value.clone() for key, value in net.named_parameters()}
    net[3].momentum = None
    recalibrate_bn(net.train(), [images])
    assert not any(module.training for module in net.modules())
    assert (net[0].momentum, net[3].momentum) == (0.1, None)
    assert all(torch.equal(weights[key], value) for key, value in net.named_parameters())


def test_dropout_is_off_meanwhile(net, images):
    recalibrate_bn(net, [images])
    with torch.no_grad():
        features = net[2](net[0].train()(images))
    assert torch.allclose(net[3].running_mean, features.mean((0, 2, 3)), atol=1e-5)


def test_batches_of_one_image_are_left_out(images):
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3))
    assert recalibrate_bn(net, [images[:10], images[10:11]]) == 10


@pytest.mark.parametrize("batches", [[], [torch.zeros(1, 3, 4, 4)]])
def test_no_usable_batch_is_an_error(net, batches):
    with pytest.raises(DataError, match="two images"):
        recalibrate_bn(net, batches)


def test_an_error_midway_leaves_evaluation_mode_and_momentum(net, images):
    with pytest.raises(RuntimeError):
        recalibrate_bn(net, [images, torch.zeros(2, 7, 4, 4)])
    assert not any(module.training for module in net.modules())
    assert net[0].momentum == 0.1


def test_a_network_without_batch_norm_is_left_alone(images):
    assert recalibrate_bn(nn.Conv2d(3, 4, 1), iter([])) == 0


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_quick_relu_is_a_relu(inplace, dtype):
    relu = nn.ReLU(inplace)
    values = torch.tensor([-torch.inf, -3.0, -1e-38, -0.0, 0.0, 1e-38, 2.5, torch.inf]).to(dtype)
    expected = torch.relu(values)
    with quick_relu(nn.Sequential(relu)), torch.no_grad():
        given = values.clone()
        found = relu(given)
    assert torch.equal(found, expected) and found.dtype is dtype
    assert torch.equal(given, expected if inplace else values)
    assert "forward" not in relu.__dict__


@pytest.fixture(scope="module")
def digits():
    return load_data("digits")


def test_images_are_changed_as_those_that_the_weights_were_trained_on(digits):
    net = load_supernet("digits_mbv3", trained=False, seed=0)
    net.augmentation = Augmentation(shift=0.2, rotate=0.0, scale=0.0, flip=True)
    architecture = net.space.smallest()
    assert digits.native_resolution == 8 and net.resolution(architecture) == 8
    subnet, by_hand = calibrated_subnet(net, architecture, digits, 300), net.extract(architecture)
    generator = torch.Generator().manual_seed(0)
    parts = [digits.train.images(part, 8) for part in torch.arange(300).split(200)]
    recalibrate_bn(by_hand, [net.augmentation(part, digits.black, generator) for part in parts])
    for found, expected in zip(subnet.buffers(), by_hand.buffers(), strict=True):
        assert torch.equal(found, expected)
    assert calibration_conditions(net, 300)["calibration_augmentation"]["shift"] == 0.2

    net.augmentation = None
    plain = calibrated_subnet(net, architecture, digits, 300)
    assert not all(torch.equal(a, b) for a, b in zip(subnet.buffers(), plain.buffers(), strict=True))
    assert "calibration_augmentation" not in calibration_conditions(net, 300)


def test_changed_images_are_changed_at_their_own_size_then_resized(digits):
    augmentation = Augmentation(shift=0.25, rotate=10.0, scale=0.1, flip=False)
    (images,) = training_images(digits, 12, 10, augmentation)
    stored = digits.train.images(torch.arange(10), 8)
    changed = augmentation(stored, digits.black, torch.Generator().manual_seed(0))
    assert torch.equal(images, resize(changed, 12)) and images.shape == (10, 1, 12, 12)
    (again,) = training_images(digits, 12, 10, augmentation)
    assert torch.equal(images, again)


def test_never_more_images_than_there_are(digits):
    assert sum(len(part) for part in training_images(digits, 8, 10**6)) == len(digits.train)


def test_training_says_what_it_changed_images_by_and_the_file_keeps_it(digits, tmp_path):
    net = load_supernet("digits_mbv3", trained=False, seed=0)
    options = {"epochs": 1, "batch_size": 512, "subnets_per_step": 2, "curve": 0}
    train_supernet(net, digits, SupernetTrainConfig(**options, augment={"shift": 0.3, "flip": True}))
    assert net.augmentation == Augmentation(shift=0.3, rotate=0.0, scale=0.0, flip=True)
    save_checkpoint(net, tmp_path / "net.safetensors")
    assert load_supernet("digits_mbv3", tmp_path / "net.safetensors").augmentation == net.augmentation

    train_supernet(net, digits, SupernetTrainConfig(**options, augment=None))
    assert net.augmentation is None
    save_checkpoint(net, tmp_path / "plain.safetensors")
    load_checkpoint(net, tmp_path / "net.safetensors")
    assert net.augmentation is not None
    load_checkpoint(net, tmp_path / "plain.safetensors")
    assert net.augmentation is None


@pytest.mark.parametrize("card", [c for c in cards() if c.metric == "acc"], ids=lambda c: c.supernet)
def test_weights_that_come_with_the_package_say_what_their_images_were_changed_by(card):
    (step,) = (step["train_supernet"] for step in card.recipe["steps"])
    assert load_supernet(card.supernet).augmentation == Augmentation(**step["augment"])


def test_a_damaged_header_is_refused(tmp_path):
    net = load_supernet("digits_mbv3", trained=False, seed=0)
    write_state(tmp_path / "net.safetensors", net.state_dict(), {"augmentation": {"shift": 0.1, "blur": 3}})
    with pytest.raises(CheckpointError, match=r"net\.safetensors is damaged: augmentation is .*blur"):
        load_checkpoint(net, tmp_path / "net.safetensors")
