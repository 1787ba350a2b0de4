"""Structured pruning of extracted sub-networks of all families."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from nas_compress.backends.onnxruntime import OnnxSession, to_onnx
from nas_compress.compression.prune_channels import channel_widths, prune_channels
from nas_compress.elastic import Attention
from nas_compress.errors import ConfigError
from nas_compress.objectives.cost import count_macs
from nas_compress.supernets import load_supernet
from nas_compress.supernets.bert import BertSupernet
from nas_compress.supernets.bert_config import BertConfig

FAMILIES = ["digits_mbv3", "digits_resnet", "digits_vit"]


def network(name, architecture="largest"):
    net = load_supernet(name, trained=False, seed=0)
    arch = getattr(net.space, architecture)()
    return net.extract(arch), net.example_input(2, arch)


@pytest.mark.parametrize("scope", ["local", "global"])
@pytest.mark.parametrize("name", FAMILIES)
def test_half_of_the_channels_is_gone_and_the_rest_runs(name, scope):
    module, x = network(name)
    before = {width.name: width.size for width in channel_widths(module, x)}
    macs, outputs = count_macs(module, x), module(x).shape
    after = prune_channels(module, x, 0.5, scope=scope, round_to=1)
    assert after == {width.name: width.size for width in channel_widths(module, x)}
    assert before.keys() == after.keys()
    if scope == "local":
        assert all(abs(size - before[part] / 2) <= 0.5 + 1e-9 for part, size in after.items())
    assert sum(after.values()) == pytest.approx(sum(before.values()) / 2, abs=len(after))
    assert module(x).shape == outputs
    assert count_macs(module, x) < 0.6 * macs
    assert all(torch.isfinite(p).all() for p in module.parameters())


@pytest.mark.parametrize("name", FAMILIES)
def test_onnx_runtime_agrees_with_the_pruned_network(name):
    module, x = network(name)
    prune_channels(module, x, 0.4)
    with torch.no_grad():
        assert torch.allclose(OnnxSession(to_onnx(module, x))(x), module(x), atol=1e-4)


def conv_macs(module, x):
    """Count the multiply-accumulates of convolutions and linear layers from weights and outputs alone."""
    total = 0

    def note(layer, inputs, output):
        nonlocal total
        total += layer.weight.numel() * (output[0, 0].numel() if isinstance(layer, nn.Conv2d) else 1)

    hooks = [m.register_forward_hook(note) for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        module(x[:1])
    for hook in hooks:
        hook.remove()
    return total


@pytest.mark.parametrize("name", ["digits_mbv3", "digits_resnet"])
def test_macs_are_those_of_the_shapes_that_are_left(name):
    module, x = network(name)
    prune_channels(module, x, 0.5)
    assert count_macs(module, x) == conv_macs(module, x)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            assert layer.weight.shape[:2] == (layer.out_channels, layer.in_channels // layer.groups)
            assert layer.groups in (1, layer.in_channels)


def test_channels_without_weights_are_the_first_to_go_and_nothing_changes():
    """Zero whole channels by hand: removing exactly these leaves the outputs as they were."""
    module, x = network("digits_resnet")
    torch.manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias)
    with torch.no_grad():
        for block in module[1:7]:
            for part in (block.reduce, block.spatial):
                for tensor in (part[0].weight, part[1].weight, part[1].bias):
                    tensor[1::2] = 0
            for reader in (block.spatial[0], block.restore[0]):
                reader.weight[:, 1::2] = 0
    before = module(x)
    excluded = ["0", "*.restore.0"]
    sizes = prune_channels(module, x, 0.5, round_to=1, exclude=excluded)
    assert set(sizes) == {f"{i}.{part}.0" for i in range(1, 7) for part in ("reduce", "spatial")}
    assert torch.allclose(module(x), before, atol=1e-5)


def test_squeeze_and_excitation_follows_its_channels():
    module, x = network("digits_mbv3")
    prune_channels(module, x, 0.5)
    blocks = [part for part in module if getattr(part, "gate", None) is not None]
    assert blocks
    for block in blocks:
        channels = block.depthwise_conv.out_channels
        assert block.gate.reduce.in_channels == block.gate.expand.out_channels == channels
        assert block.gate.reduce.out_channels == block.gate.expand.in_channels


def test_heads_go_as_a_whole_and_keep_their_width():
    module, x = network("digits_vit")
    width = {n: p.query.out_features // p.heads for n, p in module.named_modules() if isinstance(p, Attention)}
    prune_channels(module, x, 0.5)
    for name, part in module.named_modules():
        if isinstance(part, Attention):
            assert part.heads == 2
            assert part.query.out_features == part.value.out_features == part.out.in_features == 2 * width[name]


def test_a_head_that_reads_nothing_is_removed_without_a_change():
    module, x = network("digits_vit")
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, Attention):
                size = part.query.out_features // part.heads
                part.out.weight[:, size : 2 * size] = 0
                for layer in (part.query, part.key, part.value):
                    layer.weight[size : 2 * size] = 0
    before = module(x)
    prune_channels(module, x, 1 / 3, exclude=["*.feed_forward"])
    assert torch.allclose(module(x), before, atol=1e-5)
    assert all(part.heads == 2 for part in module.modules() if isinstance(part, Attention))


def test_bert_loses_heads_and_feed_forward_features():
    sizes = {"layers": (2,), "heads": (4,), "intermediate": (64,), "hidden": (48,), "head_size": 16, "length": 8}
    net = BertSupernet("bert", BertConfig(**sizes, vocabulary=50, positions=16), seed=0)
    module, x = net.extract(net.space.largest()), net.example_input(2)
    sizes = prune_channels(module, x, 0.5, round_to=4)
    assert sorted(sizes.values()) == [2, 2, 32, 32]
    assert all(part.heads == 2 for part in module.modules() if isinstance(part, Attention))
    assert module(*x).shape == (2, 2)


def test_excluded_layers_keep_their_outputs():
    module, x = network("digits_mbv3")
    kept = {name: module.get_submodule(name).out_channels for name in ("2.expand_conv", "5.project_conv", "0.0")}
    prune_channels(module, x, 0.5, exclude=["2.*", "5.project_conv", "0"])
    assert {name: module.get_submodule(name).out_channels for name in kept} == kept
    assert module.get_submodule("3.expand_conv").out_channels == 48
    with pytest.raises(
        ConfigError, match=r"excluded_op_names: '2\.expandconv' matches no layer \(did you mean '2\.exp"
    ):
        prune_channels(module, x, 0.5, exclude=["2.expandconv"])
    with pytest.raises(ConfigError, match="nothing to prune: .* excluded_op_names has them all"):
        prune_channels(module, x, 0.5, exclude=["*"])


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3, groups=2)], "channels of 1, which has 2 groups, cannot be pruned"),
        ([nn.Conv2d(1, 8, 3), nn.Conv2d(8, 16, 3, groups=8)], "channels of 1, which has 8 groups, cannot be pruned"),
        (
            [nn.Conv2d(1, 8, 3), nn.GroupNorm(2, 8)],
            r"channels around 1 \(GroupNorm\) cannot be pruned; use pattern 1x1",
        ),
        ([nn.Conv2d(1, 8, 3)], "nothing to prune: the network has no channels"),
        ([nn.Conv2d(3, 8, 3)], "the network does not run on its example: .*3 channels"),
    ],
)
def test_what_cannot_be_pruned_is_refused(layers, message):
    with pytest.raises(ConfigError, match=message):
        prune_channels(nn.Sequential(*layers), torch.zeros(2, 1, 8, 8), 0.5)


class ChannelAttention(nn.Module):
    """ECA: a convolution along the channels gates them (Wang et al., 2020)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1)

    def forward(self, x):
        return x * self.conv(x.mean((2, 3)).unsqueeze(1)).sigmoid().squeeze(1)[:, :, None, None]


class Padded(nn.Module):
    """A shortcut that pads channels with zeros (He et al., 2016, option A)."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)

    def forward(self, x):
        return F.pad(x, (0, 0, 0, 0, 8, 8)) + self.second(self.first(x).relu())


class Shuffled(nn.Module):
    """A shuffle of the channels before a depthwise convolution, or in front of a plain one (Zhang et al., 2018)."""

    def __init__(self, groups):
        super().__init__()
        self.conv = nn.Conv2d(16, 16 if groups > 1 else 32, 3, groups=groups)

    def forward(self, x):
        n, channels, height, width = x.shape
        return self.conv(x.view(n, 2, channels // 2, height, width).transpose(1, 2).reshape(x.shape))


class Halves(nn.Module):
    """One half of the channels gates the other."""

    def forward(self, x):
        one, other = x.chunk(2, 1)
        return one * other.sigmoid()


TANGLED = {
    "shuffled": lambda: [nn.ReLU(), Shuffled(1)],
    "shuffled before a depthwise convolution": lambda: [Shuffled(16), nn.Conv2d(16, 32, 1)],
    "halved": lambda: [Halves(), nn.Conv2d(8, 32, 1)],
    "gated along the channels": lambda: [ChannelAttention(), nn.Conv2d(16, 32, 1)],
    "pixels made of channels": lambda: [nn.PixelShuffle(2), nn.Conv2d(4, 32, 1)],
    "padded": lambda: [Padded()],
}


def tangled(name):
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(1, 16, 3), *TANGLED[name](), nn.Conv2d(32, 24, 1), nn.Conv2d(24, 8, 1))
    return nn.Sequential(layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval(), torch.rand(2, 1, 8, 8)


@pytest.mark.parametrize("name", TANGLED)
def test_channels_that_are_no_channels_elsewhere_are_named_and_can_be_excluded(name):
    module, x = tangled(name)
    message = r"channels of 0\.0 cannot be pruned, .*; put 0\.0 into excluded_op_names, or use pattern 1x1"
    with pytest.raises(ConfigError, match=message):
        prune_channels(module, x, 0.5)
    module, x = tangled(name)
    sizes = prune_channels(module, x, 0.5, exclude=["0.0"])
    assert sizes[f"0.{len(module[0]) - 2}"] == 16
    assert module(x).shape == (2, 4)


class Normalized(nn.Module):
    """Layer normalization and linear layers over the channels, scaled and added (Liu et al., 2022, ConvNeXt)."""

    def __init__(self):
        super().__init__()
        self.spatial, self.norm = nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.LayerNorm(16)
        self.up, self.down, self.scale = nn.Linear(16, 32), nn.Linear(32, 16), nn.Parameter(torch.rand(16))

    def forward(self, x):
        y = self.norm(self.spatial(x).permute(0, 2, 3, 1))
        return x + (self.scale * self.down(F.gelu(self.up(y)))).permute(0, 3, 1, 2)


class Joined(nn.Module):
    """What two convolutions give is concatenated with what they take, and normalized."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Conv2d(16, 8, 1), nn.Conv2d(16, 8, 3, padding=1)
        self.norm, self.out = nn.BatchNorm2d(32), nn.Conv2d(32, 16, 1)

    def forward(self, x):
        return self.out(self.norm(torch.cat([self.one(x), x, self.other(x)], 1)))


@pytest.mark.parametrize(
    "part",
    [
        Normalized(), Joined(), nn.PReLU(16), nn.InstanceNorm2d(16, affine=True), nn.Softmax(1), nn.Hardswish(),
        nn.Sequential(nn.Conv2d(16, 16, 2, stride=2), nn.ConvTranspose2d(16, 16, 2, stride=2, groups=16)),
    ],
)  # fmt: skip
def test_channels_whose_order_is_of_no_account_are_pruned(part):
    """Among them what spans the channels, whose outputs do change when some are removed."""
    module = nn.Sequential(
        nn.Conv2d(1, 16, 3), part, nn.Conv2d(16, 8, 1), nn.AdaptiveMaxPool2d(3), nn.Flatten(), nn.Linear(72, 4)
    )
    x = torch.rand(2, 1, 8, 8)
    sizes = prune_channels(module.eval(), x, 0.5, round_to=1)
    assert len(sizes) >= 2
    assert all(module.get_submodule(name).weight.shape[0] == size for name, size in sizes.items())
    assert module(x).shape == (2, 4)


def test_channels_of_transposed_convolutions_stay():
    module = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.ConvTranspose2d(16, 24, 3), nn.ReLU(), nn.Conv2d(24, 16, 3),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4),
    ).eval()  # fmt: skip
    x = torch.rand(2, 1, 8, 8)
    assert prune_channels(module, x, 0.5) == {"0": 8, "4": 8}
    assert module[2].weight.shape == (8, 24, 3, 3)
    assert module(x).shape == (2, 4)


@settings(max_examples=25)
@given(sparsity=st.floats(0, 0.99), round_to=st.sampled_from([1, 4, 8]), scope=st.sampled_from(["local", "global"]))
def test_any_sparsity_gives_a_network_that_runs(sparsity, round_to, scope):
    module, x = network("digits_resnet", "smallest")
    before = {width.name: width.size for width in channel_widths(module, x)}
    after = prune_channels(module, x, sparsity, round_to=round_to, scope=scope)
    assert module(x).shape == (2, 10)
    for name, size in after.items():
        assert 0 < size <= before[name]
        assert size % round_to == 0 or size == before[name]


def test_shares_count_from_the_sizes_that_are_given():
    module, x = network("digits_resnet")
    of = {width.name: width.size for width in channel_widths(module, x)}
    prune_channels(module, x, 0.25, round_to=1, of=of)
    twice = prune_channels(module, x, 0.5, round_to=1, of=of)
    assert sum(twice.values()) == pytest.approx(sum(of.values()) / 2, abs=len(of))
