"""Masks of single weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nas_compress.compression.prune_weights import Layer, magnitude_masks, masked, n_of_m_masks, weight_layers
from nas_compress.errors import ConfigError


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, bias=False), nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.Conv2d(8, 12, 3),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4),
    )  # fmt: skip


@settings(max_examples=30)
@given(st.floats(0, 1))
def test_local_masks_remove_the_share_of_each_layer(sparsity):
    layers = weight_layers(network())
    for name, mask in magnitude_masks(layers, sparsity).items():
        weight = layers[name].weight.detach().abs()
        assert int((~mask).sum()) == round(weight.numel() * sparsity)
        if mask.any() and not mask.all():
            assert weight[~mask].max() <= weight[mask].min()


def test_global_masks_remove_the_least_weights_of_all():
    layers = weight_layers(network())
    masks = magnitude_masks(layers, 0.6, "global")
    weights = torch.cat([layer.weight.detach().abs().flatten() for layer in layers.values()])
    kept = torch.cat([mask.flatten() for mask in masks.values()])
    assert int((~kept).sum()) == round(0.6 * len(weights))
    assert weights[~kept].max() <= weights[kept].min()
    shares = {name: float((~mask).float().mean()) for name, mask in masks.items()}
    assert max(shares.values()) - min(shares.values()) > 0.1


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 8), (0, 2), (1, 2)])
def test_n_of_m_neighbours_along_the_inputs_stay(n, m):
    layers = {"conv": Layer(nn.Conv2d(16, 6, 3)), "linear": Layer(nn.Linear(24, 5))}
    for name, mask in n_of_m_masks(layers, n, m).items():
        weight = layers[name].weight.detach().abs()
        rows = weight.permute(0, 2, 3, 1).reshape(-1, m) if name == "conv" else weight.reshape(-1, m)
        kept = mask.permute(0, 2, 3, 1).reshape(-1, m) if name == "conv" else mask.reshape(-1, m)
        assert (kept.sum(1) == n).all()
        expected = rows.topk(n, 1).values.sum(1)
        assert torch.allclose((rows * kept).sum(1), expected)


def test_n_of_m_agrees_with_a_reference_on_one_row():
    layer = nn.Linear(8, 1)
    layer.weight = nn.Parameter(torch.tensor([[4.0, -1, 3, 2, 0, 0, -5, 1]]))
    assert n_of_m_masks({"x": Layer(layer)}, 2, 4)["x"].int().tolist() == [[1, 0, 1, 0, 0, 0, 1, 1]]


def test_layers_that_do_not_divide_stay_dense():
    assert list(weight_layers(network(), m=4)) == ["3", "6"]
    assert list(weight_layers(network())) == ["0", "1", "3", "6"]
    assert list(weight_layers(network(), ["3"], m=4)) == ["6"]
    with pytest.raises(ConfigError, match="no convolution or linear layer is left whose number of inputs is a mult"):
        weight_layers(network(), m=32)
    with pytest.raises(ConfigError, match="no convolution or linear layer is left$"):
        weight_layers(network(), ["*"])
    with pytest.raises(ConfigError, match="'5x' matches no layer"):
        weight_layers(network(), ["5x"])


@pytest.mark.parametrize("normalised", [nn.utils.parametrizations.weight_norm, nn.utils.weight_norm])
def test_computed_weights_are_refused(normalised):
    net = nn.Sequential(nn.Linear(4, 4), normalised(nn.Linear(4, 4)))
    with pytest.raises(ConfigError, match=r"the weights of 1 are computed .* put 1 into excluded_op_names"):
        weight_layers(net)
    assert list(weight_layers(net, ["1"])) == ["0"]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_zeros_stay_zeros_whatever_trains_them(optimizer):
    net = network()
    layers = weight_layers(net)
    masks = magnitude_masks(layers, 0.5)
    names = list(net.state_dict())
    before = {name: layer.weight.detach().clone() for name, layer in layers.items()}
    with masked(layers, masks):
        kind = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[optimizer]
        opt = kind(net.parameters(), lr=0.1, weight_decay=0.1, **({"momentum": 0.9} if optimizer == "sgd" else {}))
        for _ in range(5):
            opt.zero_grad()
            net(torch.randn(4, 1, 12, 12)).square().sum().backward()
            opt.step()
    assert sorted(net.state_dict()) == sorted(names)
    for name, layer in layers.items():
        assert isinstance(layer.weight, nn.Parameter)
        assert (layer.weight[~masks[name]] == 0).all()
        assert not torch.equal(layer.weight[masks[name]], before[name][masks[name]])


def test_attention_of_keys_of_another_width_has_three_weights():
    attention = nn.MultiheadAttention(8, 2, kdim=4, vdim=4)
    assert list(weight_layers(attention)) == ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj"]
    assert list(weight_layers(nn.ModuleDict({"a": attention}), ["a.out_proj"], m=8)) == ["a.q_proj_weight"]


def test_attention_keeps_its_zeros_while_it_is_trained():
    torch.manual_seed(0)
    net = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    layers = weight_layers(net)
    masks = magnitude_masks(layers, 0.5)
    names = sorted(net.state_dict())
    opt = torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=0.1)
    with masked(layers, masks):
        for _ in range(3):
            opt.zero_grad()
            net(torch.randn(2, 5, 8)).square().sum().backward()
            opt.step()
    assert list(layers) == ["self_attn.in_proj_weight", "self_attn.out_proj", "linear1", "linear2"]
    assert sorted(net.state_dict()) == names and all((layers[n].weight[~masks[n]] == 0).all() for n in layers)
    assert torch.isfinite(net.eval()(torch.randn(2, 5, 8))).all()


def test_masks_of_rising_sparsity_nest():
    layers = weight_layers(network())
    first = magnitude_masks(layers, 0.3)
    with masked(layers, first):
        pass
    second = magnitude_masks(layers, 0.6)
    assert all((first[name] | ~second[name]).all() for name in layers)
