"""Tests of the layout of images in memory."""

import pytest
import torch
from torch import nn

from nas_compress.backends.torch import TorchBackend, TorchCompileBackend
from nas_compress.data import load_data
from nas_compress.errors import ConfigError
from nas_compress.layout import channels_last, is_image
from nas_compress.objectives.calibration import recalibrate_bn, training_images
from nas_compress.objectives.quality import accuracy
from nas_compress.supernets import load_supernet
from nas_compress.training.config import FinetuneConfig
from nas_compress.training.trainer import finetune


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("size", [(4, 6), (1, 5), (3, 1)])
def test_the_same_numbers_with_the_channels_last(channels, size):
    images = torch.randn(5, channels, *size)[1:4]
    laid_out = channels_last(images)
    assert torch.equal(laid_out, images)
    assert laid_out.stride() == (channels * size[0] * size[1], 1, channels * size[1], channels)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_convolution_keeps_the_layout(channels):
    output = nn.Conv2d(channels, 8, 3)(channels_last(torch.randn(2, channels, 6, 6)))
    assert output.is_contiguous(memory_format=torch.channels_last) and not output.is_contiguous()


@pytest.mark.parametrize("name", ["fashion_mnist_mbv3", "fashion_mnist_resnet", "digits_mbv3"])
def test_a_network_for_grey_images_has_the_channels_last_in_all_its_convolutions(name):
    net = load_supernet(name, trained=False, seed=0)
    kept = {}

    def keep(module, inputs, output, part):
        if output.shape[1] > 1 and output.shape[-1] > 1:
            kept[part] = output.is_contiguous(memory_format=torch.channels_last)

    largest = net.space.largest()
    network = net.extract(largest).eval()
    for part, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *args, part=part: keep(*args, part))
    network(channels_last(net.example_input(2, largest)))
    assert len(kept) > 10 and all(kept.values())


def test_what_is_no_image_is_left_alone():
    rows, tokens = torch.randn(2, 3), torch.zeros(1, 1, 2, 2, dtype=torch.long)
    assert channels_last(rows) is rows and channels_last(tokens) is tokens
    assert not is_image(tokens) and is_image(torch.zeros(1, 1, 2, 2))


class Flattened(nn.Module):
    """Flattens maps by `view`, which takes them in one layout alone."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.pool, self.classes = nn.MaxPool2d(2), nn.Linear(128, 10)

    def forward(self, x):
        x = self.pool(torch.relu(self.norm(self.convolution(x))))
        return self.classes(x.view(x.size(0), -1))


@pytest.mark.parametrize("backend", [TorchBackend, pytest.param(TorchCompileBackend, marks=pytest.mark.slow)])
def test_a_network_that_flattens_by_view_runs_in_torch(backend):
    try:
        backend.check()
    except ConfigError as error:
        pytest.skip(str(error))
    net, images = Flattened().eval(), torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(backend().compile(net, images)(images), net(images).detach(), rtol=1e-4, atol=1e-5)


def test_a_network_that_flattens_by_view_is_trained_and_measured():
    data, net = load_data("digits"), Flattened()
    finetune(net, data, 8, FinetuneConfig(epochs=2, lr=0.05))
    assert recalibrate_bn(net, training_images(data, 8, 400)) == 400
    net.eval()
    with torch.no_grad():
        right = (net(data.val.images(torch.arange(len(data.val)), 8)).argmax(1) == data.val.labels).float().mean()
    found = accuracy(net, data.val, 8).value
    assert found == pytest.approx(100 * float(right)) and found > 80
    assert net.convolution.weight.is_contiguous()
