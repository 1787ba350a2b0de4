"""A row of modules in several precisions with INC: each really is in its own, before and after it is compiled."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from nas_compress.backends.hardware import has_bf16_dot_product
from nas_compress.backends.torch import TorchCompileBackend
from nas_compress.compression.inc_module import GraphModule, load_int8
from nas_compress.compression.quantized_inc import IncQuantizableNetwork
from nas_compress.data import load_data
from nas_compress.data.base import ImageData
from nas_compress.errors import DataError, EvaluationError
from nas_compress.objectives.calibration import calibrated_subnet
from nas_compress.objectives.quality import accuracy
from nas_compress.supernets import supernets

pytest.importorskip("neural_compressor.torch")

needs_bf16 = pytest.mark.skipif(not has_bf16_dot_product(), reason="this processor has no bf16")
MIXED = ["minmax", None, "minmax", None, None, None, None]
SIZE = 8


@pytest.fixture(scope="module")
def data() -> ImageData:
    data = load_data("digits")
    assert isinstance(data, ImageData)
    return data


@pytest.fixture(scope="module")
def images(data: ImageData) -> Tensor:
    return data.train.images(torch.arange(64), SIZE)


@pytest.fixture(scope="module")
def subnet(data: ImageData) -> nn.Module:
    """The stem, two bottlenecks and a head of four modules, with batch norm that has seen images."""
    net = supernets.get("digits_resnet")(seed=0).eval()
    return calibrated_subnet(net, net.space.smallest(), data, 64).eval()


@pytest.fixture(scope="module")
def calibrations() -> list[int]:
    return []


@pytest.fixture(scope="module")
def network(subnet: nn.Module, images: Tensor, calibrations: list[int]) -> IncQuantizableNetwork:
    return IncQuantizableNetwork(subnet, images[:2], lambda: (calibrations.append(0), images.split(32))[1])


def nodes(module: GraphModule) -> list[Any]:
    graph: Any = module._graphs[0]
    return list(graph.graph.nodes)


def name(node: Any) -> str:
    return getattr(node.target, "_opname", "") if node.op == "call_function" else ""


def row(node: Any) -> int:
    """Return the number of the module in the row that a node comes from."""
    return int(list(node.meta["nn_module_stack"].values())[1][0].split(".")[0])


def rounded_weights(module: GraphModule) -> dict[int, set[bool]]:
    """Return, for every module with layers, whether their weights are rounded to int8."""
    found: dict[int, set[bool]] = {}
    for node in nodes(module):
        if name(node) in ("conv2d", "linear"):
            found.setdefault(row(node), set()).add(name(node.args[1]).startswith("dequantize"))
    return found


def outputs(module: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    with torch.no_grad():
        return module(images)


def test_in_fp32_it_computes_what_the_subnet_computes(
    network: IncQuantizableNetwork, subnet: nn.Module, images: Tensor
) -> None:
    plain = network.network([None] * 7)
    torch.testing.assert_close(outputs(plain, images), outputs(subnet, images), atol=1e-5, rtol=1e-5)
    assert not any("quantize" in name(node) for node in nodes(plain))


def test_modules_in_fp32_really_are(network: IncQuantizableNetwork) -> None:
    mixed = network.network(MIXED)
    assert rounded_weights(mixed) == {0: {True}, 1: {False}, 2: {True}, 6: {False}}
    for node in nodes(mixed):
        if name(node) == "quantize_per_tensor" and node.args[0].op != "placeholder":
            readers = {row(user) for dequantize in node.users for user in dequantize.users}
            assert {row(node.args[0]), *readers} != {1}, "an activation inside the module in fp32 is rounded"


def test_nothing_before_the_first_int8_module_is_rounded(
    network: IncQuantizableNetwork, subnet: nn.Module, images: Tensor
) -> None:
    """With the classifier alone in int8, its output is that of rounded features times rounded weights."""
    last = network.network([None] * 6 + ["minmax"])
    assert rounded_weights(last) == {0: {False}, 1: {False}, 2: {False}, 6: {True}}
    (linear,) = (node for node in nodes(last) if name(node) == "linear")
    scale, zero = linear.args[0].args[1:3]
    assert isinstance(subnet, nn.Sequential)
    with torch.no_grad():
        features = torch.fake_quantize_per_tensor_affine(subnet[:6](images), scale, zero, 0, 255)
        weight = subnet[6].weight
        scales = weight.abs().amax(1) / 127.5
        weight = torch.fake_quantize_per_channel_affine(
            weight, scales, torch.zeros(10, dtype=torch.int32), 0, -128, 127
        )
        expected = nn.functional.linear(features, weight, subnet[6].bias)
    torch.testing.assert_close(outputs(last, images), expected, atol=2e-3, rtol=0)
    assert (expected - outputs(subnet, images)).abs().max() > 2e-3


def test_ranges_may_differ_from_module_to_module(network: IncQuantizableNetwork) -> None:
    def scales(methods: Sequence[str | None]) -> list[float]:
        found = (node for node in nodes(network.network(methods)) if name(node) == "quantize_per_tensor")
        return [float(node.args[1]) for node in found]

    one, other, both = (scales([a, *[b] * 6]) for a, b in (("minmax", "minmax"), ("kl", "kl"), ("kl", "minmax")))
    assert all(own != kl for own, kl in zip(one[:2], other[:2], strict=True))
    assert both[0] == other[0] and both[-1] == one[-1]


def test_precisions_share_export_and_calibration(
    network: IncQuantizableNetwork, calibrations: list[int], images: Tensor
) -> None:
    first = network.network(MIXED)
    exports = network._quantizer.cache_info().misses
    network.network(["minmax"] * 7)
    assert torch.equal(outputs(network.network(MIXED), images), outputs(first, images))
    assert network._quantizer.cache_info().misses == exports and len(calibrations) == 1


@needs_bf16
def test_modules_in_bf16_compute_in_it(network: IncQuantizableNetwork, subnet: nn.Module, images: Tensor) -> None:
    expected, before = outputs(subnet, images), copy.deepcopy(subnet.state_dict())
    mixed = network.network(["minmax", "bf16", None, None, None, None, "minmax"])
    assert rounded_weights(mixed) == {0: {True}, 1: {False}, 2: {False}, 6: {True}}
    kinds: dict[int, set[torch.dtype]] = {}
    for node in nodes(mixed):
        if name(node) == "conv2d":
            kinds.setdefault(row(node), set()).add(node.meta["val"].dtype)
    assert kinds == {0: {torch.float32}, 1: {torch.bfloat16}, 2: {torch.float32}}
    found = outputs(network.network([None, "bf16", *[None] * 5]), images)
    assert found.dtype == torch.float32 and 0 < (found - expected).abs().max() < 0.03 * expected.abs().max()
    after = subnet.state_dict()
    assert all(torch.equal(before[key], after[key]) and before[key].dtype == after[key].dtype for key in before)


def test_layers_that_inductor_would_corrupt_stay_in_fp32(images: Tensor) -> None:
    class Added(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own, self.position = nn.Linear(SIZE, SIZE), nn.Parameter(torch.rand(1, 1, SIZE, SIZE))

        def forward(self, x: Tensor) -> Tensor:
            return self.own(x) + self.position

    layers = nn.Sequential(Added(), nn.Flatten(), nn.Linear(SIZE * SIZE, 3)).eval()
    mixed = IncQuantizableNetwork(layers, images[:2], lambda: [images[:8]]).network(["minmax"] * 3)
    assert rounded_weights(mixed) == {0: {False}, 2: {True}}


def test_what_cannot_be_quantized_is_refused(subnet: nn.Module, images: Tensor) -> None:
    with pytest.raises(EvaluationError, match="none of the layers"):
        IncQuantizableNetwork(nn.Sequential(nn.ReLU()), images[:2], lambda: [images])
    with pytest.raises(DataError, match="at least one batch"):
        IncQuantizableNetwork(subnet, images[:2], list).network(MIXED)


@pytest.mark.slow
@pytest.mark.parametrize(
    "methods", [MIXED, pytest.param(["minmax", "bf16", None, None, None, None, "kl"], marks=needs_bf16), [None] * 7]
)
def test_compiled_it_is_as_accurate(
    methods: list[str | None], network: IncQuantizableNetwork, data: ImageData, images: Tensor, tmp_path: Path
) -> None:
    graph = network.network(methods)
    counters.clear()
    session = TorchCompileBackend().compile(graph, images[:1], 1)
    assert bool(counters["inductor"]["qconv_unary_lower_count"]) == ("minmax" in methods)
    compiled = network.compiled(methods, images[:32])
    tolerance = 0.02 if "bf16" in methods else 1e-4
    torch.testing.assert_close(compiled(images), outputs(graph, images), atol=tolerance, rtol=0)
    torch.testing.assert_close(session(images[:1]), compiled(images)[:1], atol=tolerance, rtol=0)
    with pytest.raises(EvaluationError, match="compiled for inputs of shapes"):
        session(images[:2])
    scores = [accuracy(each, data.val, SIZE) for each in (graph, compiled)]
    assert abs(scores[0].value - scores[1].value) <= (1 if "bf16" in methods else 0)
    compiled.save(tmp_path / "net.pt2")
    assert torch.equal(load_int8(tmp_path / "net.pt2", images[:32])(images), compiled(images))
