import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from nas_compress.elastic import (
    ElasticBatchNorm2d,
    ElasticConv2d,
    ElasticDepthwiseConv2d,
    ElasticEmbedding,
    ElasticInvertedResidual,
    ElasticJointBiasLinear,
    ElasticLayerNorm,
    ElasticLinear,
    ElasticSqueezeExcite,
    make_divisible,
)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 8), st.integers(1, 6), st.booleans())
@settings(max_examples=30)
def test_conv_uses_the_leading_channels_and_exports_a_plain_layer(out, inside, bias):
    layer = ElasticConv2d(6, 8, 3, bias=bias)
    layer.active_in, layer.active_out = inside, out
    x = noise(2, inside, 5, 5)
    plain = layer.extract()
    assert type(plain) is torch.nn.Conv2d
    assert plain.weight.shape == (out, inside, 3, 3)
    torch.testing.assert_close(plain(x), layer(x))
    full = torch.nn.functional.pad(x, (0, 0, 0, 0, 0, 6 - inside))
    layer.active_in, layer.active_out = 6, 8
    torch.testing.assert_close(layer(full)[:, :out], plain(x), atol=1e-5, rtol=1e-5)


def test_depthwise_kernel_starts_as_the_centre_crop():
    layer = ElasticDepthwiseConv2d(4, (3, 5, 7))
    for size, margin in ((7, 0), (5, 1), (3, 2)):
        layer.active_kernel = size
        expected = layer.weight[:, :, margin : 7 - margin, margin : 7 - margin]
        assert torch.equal(layer.active_weight(), expected)


def test_depthwise_kernel_transform_is_a_chain_of_shared_matrices():
    layer = ElasticDepthwiseConv2d(4, (3, 5, 7))
    five, three = noise(25, 25, seed=1), noise(9, 9, seed=2)
    with torch.no_grad():
        layer.transforms["to5"].copy_(five)
        layer.transforms["to3"].copy_(three)
    layer.active_channels, layer.active_kernel = 3, 3
    for channel, kernel in enumerate(layer.active_weight()):
        middle = (five @ layer.weight[channel, 0, 1:6, 1:6].reshape(25)).view(5, 5)
        expected = (three @ middle[1:4, 1:4].reshape(9)).view(3, 3)
        torch.testing.assert_close(kernel[0], expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ElasticConv2d(4, 6, 3, bias=True),
        lambda: ElasticDepthwiseConv2d(4, (3, 5)),
        lambda: ElasticLinear(4, 6),
        lambda: ElasticLinear(4, 6, bias=False),
        lambda: ElasticJointBiasLinear(4, 6),
        lambda: ElasticEmbedding(5, 4, padding_idx=1),
        lambda: ElasticBatchNorm2d(4),
        lambda: ElasticLayerNorm(4),
    ],
)
def test_extraction_copies_the_weights_and_draws_none(make):
    with torch.random.fork_rng(devices=[]):
        layer = make()
        state = torch.get_rng_state()
        plain = layer.extract()
        assert torch.equal(torch.get_rng_state(), state)
    tensors = [*plain.parameters(), *plain.buffers()]
    assert all(p.requires_grad for p in plain.parameters())
    assert all(t.device.type == "cpu" and t.is_contiguous() and t.grad_fn is None for t in tensors)
    assert plain.state_dict().keys() == layer.state_dict().keys() - {"transforms.to3"}
    with torch.no_grad():
        plain.weight.zero_()
    assert layer.weight.abs().sum() > 0
    assert "Elastic" not in type(plain).__name__


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [7, 8])
def test_depthwise_exports_a_plain_layer(stride, size):
    layer = ElasticDepthwiseConv2d(6, (3, 5), stride)
    layer.active_channels, layer.active_kernel = 4, 3
    x = noise(2, 4, size, size)
    plain = layer.extract()
    assert type(plain) is torch.nn.Conv2d and plain.groups == 4
    torch.testing.assert_close(plain(x), layer(x))
    assert layer(x).shape[-1] == -(-size // stride)


def test_batch_norm_trains_only_the_leading_statistics():
    layer = ElasticBatchNorm2d(6).train()
    layer(noise(8, 4, 3, 3) + 2)
    assert torch.all(layer.running_mean[:4] > 0) and torch.all(layer.running_mean[4:] == 0)
    layer.eval()
    layer.active_features = 4
    x = noise(2, 4, 3, 3, seed=1)
    plain = layer.extract().eval()
    assert type(plain) is torch.nn.BatchNorm2d
    torch.testing.assert_close(plain(x), layer(x))


@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
def test_batch_norm_keeps_statistics_as_torch_does(momentum):
    ours, theirs = ElasticBatchNorm2d(4).train(), torch.nn.BatchNorm2d(4, momentum=momentum).train()
    ours.momentum = momentum
    for seed in range(3):
        x = noise(8, 4, 3, 3, seed=seed) * (seed + 1) + seed
        torch.testing.assert_close(ours(x), theirs(x))
    for key, tensor in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], tensor)


def test_squeeze_excite_reads_channel_means_and_keeps_its_output_under_reordering():
    gate = ElasticSqueezeExcite(32)
    x = noise(2, 32, 4, 4)
    hidden = F.relu(F.linear(x.mean((2, 3)), gate.reduce.weight.flatten(1), gate.reduce.bias))
    scale = F.hardsigmoid(F.linear(hidden, gate.expand.weight.flatten(1), gate.expand.bias))
    torch.testing.assert_close(gate(x), x * scale[:, :, None, None])
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    before = gate(x)
    gate.permute_channels(order)
    torch.testing.assert_close(gate(x[:, order]), before[:, order])
    gate.set_channels(16)
    torch.testing.assert_close(gate.extract()(x[:, :16]), gate(x[:, :16]))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("squeeze_excite", [False, True])
def test_inverted_residual_adds_its_input_where_shapes_agree(stride, squeeze_excite):
    block = ElasticInvertedResidual(
        16, 16, kernel_sizes=(3, 5), expand_ratios=(2, 4), stride=stride, activation="relu",
        squeeze_excite=squeeze_excite,
    )  # fmt: skip
    block.set_active(3, 2)
    assert block.extract().residual is (stride == 1)


@given(st.floats(1, 4000), st.sampled_from([4, 8, 16]))
def test_make_divisible(value, divisor):
    rounded = make_divisible(value, divisor)
    assert rounded % divisor == 0 and rounded >= 0.9 * value
    assert abs(rounded - value) <= max(divisor, 0.1 * value)
