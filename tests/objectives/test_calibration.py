"""BN recalibration against statistics computed by hand."""

import pytest
import torch
from torch import nn

from nas_compress.errors import DataError
from nas_compress.objectives.calibration import recalibrate_bn
from nas_compress.objectives.modes import quick_relu


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
