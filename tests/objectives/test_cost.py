"""Costs: analytic objectives, and the counting convention."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nas_compress.objectives.base import AnalyticObjective
from nas_compress.objectives.cost import Macs, ModelSize, Params, count_macs
from nas_compress.space import Architecture, Dimension, SearchSpace


class Counted:
    space = SearchSpace("depths", (Dimension.uniform("d", (1, 2, 3)),))

    def encoded_cost(self, cost, space, encoded):
        each = 10 if cost == "macs" else 250_000
        return np.array([each * int(architecture["d"][0]) for architecture in space.decode(encoded)], float)


@pytest.mark.parametrize(("kind", "values"), [(Macs, [10, 30]), (Params, [250e3, 750e3]), (ModelSize, [1.0, 3.0])])
def test_analytic_objectives_compute_all_at_once_and_measure_the_same(kind, values):
    objective = kind(Counted())
    architectures = [Architecture({"d": 1}), Architecture({"d": 3})]
    assert isinstance(objective, AnalyticObjective)
    assert objective.compute(architectures).tolist() == values
    part = Counted.space.restrict({"d": (1, 3)})
    assert objective.compute_encoded(part, part.encode(architectures)).tolist() == values
    measured = objective.measure(None, architectures[1])
    assert (measured.value, measured.spread) == (values[1], None)


def test_convolutions_and_linear_layers_count_and_nothing_else_does():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.Hardswish(),
        nn.Conv2d(8, 8, 5, padding=2, groups=8), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.LayerNorm(8), nn.Linear(8, 10),
    )  # fmt: skip
    wanted = 8 * 3 * 9 * 64 + 8 * 25 * 64 + 8 * 10
    assert count_macs(net, torch.randn(1, 3, 16, 16)) == wanted
    assert count_macs(net, torch.randn(5, 3, 16, 16)) == wanted


def test_counting_leaves_modes_and_statistics_alone():
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2).eval(), nn.BatchNorm2d(2)).train()
    net[1].eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    count_macs(net, torch.randn(2, 1, 4, 4))
    assert [module.training for module in net] == [True, False, True]
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_counting_prints_and_warns_nothing(capfd, recwarn, caplog):
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Hardswish(), nn.Dropout(), nn.Identity())
    count_macs(net, torch.randn(1, 1, 4, 4))
    out, err = capfd.readouterr()
    assert not out and not err and not recwarn.list and not caplog.records


class Attention(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.form = form

    def forward(self, x):
        q, k, v = self.qkv(x).view(len(x), -1, 3, 2, 4).permute(2, 0, 3, 1, 4)
        if self.form == "sdpa":
            return F.scaled_dot_product_attention(q, k, v)
        if self.form == "matmul":
            return (q @ k.transpose(-1, -2)).softmax(-1) @ v
        return torch.einsum("bhls,bhse->bhle", torch.einsum("bhle,bhse->bhls", q, k).softmax(-1), v)


@pytest.mark.parametrize("form", ["sdpa", "matmul", "einsum"])
def test_both_products_of_attention_count_in_any_form(form):
    length = 6
    assert count_macs(Attention(form), torch.randn(3, length, 8)) == length * 8 * 24 + 2 * 2 * length * length * 4


@pytest.mark.parametrize("need_weights", [True, False])
def test_torchs_own_attention_counts_in_evaluation_mode(need_weights):
    class SelfAttention(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            return self.attention(x, x, x, need_weights=need_weights)[0]

    enabled = torch.backends.mha.get_fastpath_enabled()
    length = 6
    projections, products = length * 8 * 8 * 4, 2 * 2 * length * length * 4
    assert count_macs(SelfAttention(), torch.randn(1, length, 8)) == projections + products
    assert torch.backends.mha.get_fastpath_enabled() == enabled


def test_a_failed_count_leaves_the_module_as_it_was():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(2, 2)

        def forward(self, x):
            raise RuntimeError("not today")

    module = Broken().train()
    with pytest.raises(RuntimeError, match="not today"):
        count_macs(module, torch.zeros(1, 2))
    assert module.training and not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
