"""Tests of the layout of images in memory."""

import pytest
import torch
from torch import nn

from nas_compress.layout import channels_last, is_image
from nas_compress.supernets import load_supernet


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
