"""Plain networks take on the widths of stored weights."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nas_compress.compression.prune_channels import prune_channels
from nas_compress.compression.resize import fit_shapes
from nas_compress.errors import CheckpointError
from nas_compress.supernets import load_supernet
from nas_compress.weights import load_into, read_state, write_state

NETS = {name: load_supernet(name, trained=False, seed=0) for name in ("digits_mbv3", "digits_resnet", "digits_vit")}


@settings(max_examples=12)
@given(st.sampled_from(sorted(NETS)), st.integers(0, 99), st.floats(0, 0.95), st.sampled_from(["local", "global"]))
def test_a_pruned_network_is_its_architecture_and_its_state(tmp_path_factory, name, seed, sparsity, scope):
    net = NETS[name]
    architecture = net.space.sample(np.random.default_rng(seed), 1)[0]
    pruned, x = net.extract(architecture), net.example_input(2, architecture)
    prune_channels(pruned, x, sparsity, scope=scope, round_to=2)
    path = tmp_path_factory.mktemp("state") / "x.safetensors"
    write_state(path, pruned.state_dict())
    again = net.extract(architecture)
    state = read_state(path)
    fit_shapes(again, state, path)
    load_into(again, state, path)
    assert torch.equal(again.eval()(x), pruned(x))
    for one, other in zip(pruned.modules(), again.modules(), strict=True):
        for count in ("groups", "in_channels", "out_channels", "num_features", "in_features", "out_features", "heads"):
            assert getattr(one, count, None) == getattr(other, count, None)


def test_an_unpruned_state_changes_nothing():
    net = NETS["digits_mbv3"]
    module = net.extract(net.space.largest())
    shapes = {key: tensor.shape for key, tensor in module.state_dict().items()}
    fit_shapes(module, module.state_dict())
    assert {key: tensor.shape for key, tensor in module.state_dict().items()} == shapes


@pytest.mark.parametrize(
    ("key", "shape", "message"),
    [
        ("0.0.weight", (8, 1, 5, 5), r"0\.0\.weight has shape \(8, 1, 5, 5\), which no pruning of this network's"),
        ("0.0.weight", (99, 1, 3, 3), r"0\.0\.weight has shape \(99, 1, 3, 3\)"),
        ("0.0.weight", (0, 1, 3, 3), r"0\.0\.weight has shape \(0, 1, 3, 3\)"),
        ("0.0.weight", (8,), r"0\.0\.weight has shape \(8,\)"),
        ("0.1.running_mean", (3,), r"0\.1\.running_mean has shape \(3,\)"),
        ("14.2.bias", (3,), r"14\.2\.bias has shape \(3,\)"),
        ("0.0.weight", None, r"it lacks 0\.0\.weight of shape"),
        ("more", (1,), "it has more, which this network lacks"),
    ],
)
def test_a_state_that_does_not_fit_is_named(key, shape, message):
    net = NETS["digits_mbv3"]
    module = net.extract(net.space.largest())
    state = dict(module.state_dict())
    if shape is None:
        del state[key]
    else:
        state[key] = torch.zeros(shape)
    with pytest.raises(CheckpointError, match=f"the state is of another network: {message}"):
        fit_shapes(module, state)


def test_half_a_head_is_no_head():
    net = NETS["digits_vit"]
    module = net.extract(net.space.largest())
    state = dict(module.state_dict())
    width = state["1.attention.query.weight"].shape
    state["1.attention.query.weight"] = torch.zeros(width[0] - 1, width[1])
    with pytest.raises(CheckpointError, match=r"1\.attention\.query\.weight has shape"):
        fit_shapes(module, state)


def test_normalisations_without_parameters_are_left_alone():
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.LayerNorm(6, elementwise_affine=False))
    fit_shapes(module, nn.Sequential(nn.Conv2d(1, 2, 3), nn.LayerNorm(6, elementwise_affine=False)).state_dict())
    assert module(torch.zeros(1, 1, 8, 8)).shape == (1, 2, 6, 6)


class Scale(nn.Module):
    """A factor for each channel, and an offset that is not stored."""

    def __init__(self, channels):
        super().__init__()
        self.factors = nn.Parameter(torch.rand(channels, 1, 1))
        self.register_buffer("offset", torch.ones(1), persistent=False)

    def forward(self, x):
        return x * self.factors + self.offset


@pytest.mark.parametrize(
    "layer",
    [
        nn.PReLU(16),
        nn.PReLU(),
        Scale(16),
        nn.BatchNorm2d(16, affine=False),
        nn.InstanceNorm2d(16, affine=True),
        nn.ConvTranspose2d(16, 16, 3, groups=16),
    ],
)
def test_layers_of_any_kind_that_follow_pruned_channels_are_read_back(layer):
    tail = (nn.Conv2d(16, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    module = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), layer, *tail).eval()
    pruned, x = copy.deepcopy(module), torch.rand(2, 1, 8, 8)
    prune_channels(pruned, x, 0.5, exclude=["2"])
    state = pruned.state_dict()
    fit_shapes(module, state)
    load_into(module, state, "x")
    assert module[0].out_channels == 8
    assert torch.equal(module(x), pruned(x))
    assert [str(part) for part in module.modules()] == [str(part) for part in pruned.modules()]
