from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from nas_compress.backends.onnx import to_onnx
from nas_compress.compression import quantize, quantized
from nas_compress.compression.calibration import Activations
from nas_compress.compression.quantized import OnnxNetwork, QuantizableNetwork, modules_of_nodes
from nas_compress.data import load_data
from nas_compress.data.base import ImageData
from nas_compress.errors import ConfigError, EvaluationError
from nas_compress.objectives.calibration import calibrated_subnet
from nas_compress.space import Architecture
from nas_compress.space.precision import PRECISION
from nas_compress.supernets import supernets
from nas_compress.supernets.precision import PrecisionSupernet, QuantizedSubnets, active_slots
from nas_compress.supernets.precision_config import PrecisionConfig, in_precisions

IMAGES = 64


@pytest.fixture(scope="module")
def data() -> ImageData:
    data = load_data("digits")
    assert isinstance(data, ImageData)
    return data


def wrapped(name: str, **options: Any) -> PrecisionSupernet:
    return PrecisionSupernet(supernets.get(name)(seed=0).eval(), PrecisionConfig(**options))


@pytest.fixture(scope="module", params=["digits_resnet", "digits_mbv3"])
def net(request: pytest.FixtureRequest) -> PrecisionSupernet:
    return wrapped(request.param, by="block")


@pytest.fixture(scope="module", params=["digits_resnet", "digits_mbv3", "digits_vit"])
def any_net(request: pytest.FixtureRequest) -> PrecisionSupernet:
    return wrapped(request.param, by="block")


@pytest.fixture(scope="module")
def build(net: PrecisionSupernet, data: ImageData) -> QuantizedSubnets:
    return QuantizedSubnets(net, data, IMAGES)


@pytest.fixture(scope="module")
def images(data: ImageData) -> Tensor:
    return data.split("val").images(torch.arange(32), 16)


def mixed(net: PrecisionSupernet) -> Architecture:
    """Return a sub-network with elastic blocks in both precisions, at 16 pixels where that is elastic."""
    rng = np.random.default_rng(3)
    resolution = {"r": [16]} if "r" in net.space.largest() else {}
    for architecture in net.space.restrict(resolution).sample(rng, 1000):
        inner = {architecture[PRECISION][g] for g, group in enumerate(net.space.groups) if group.slots}
        if {"fp32", "int8"} <= inner:
            return architecture
    raise LookupError


def in_precision(net: PrecisionSupernet, architecture: Architecture, value: str) -> Architecture:
    bare = net.space.without(architecture)
    return net.space.canonicalize(Architecture({**bare, PRECISION: [value] * len(net.space.groups)}))


def graph(network: OnnxNetwork) -> onnx.GraphProto:
    return onnx.load_model_from_string(network.onnx).graph


# -- which node is whose -----------------------------------------------------------------------------------


def test_every_node_belongs_to_the_module_that_runs_it(any_net: PrecisionSupernet) -> None:
    """Cutting the row of modules anywhere cuts the graph's nodes in two rows of the same numbers."""
    architecture = mixed(any_net)
    subnet = any_net.extract(architecture)
    assert isinstance(subnet, nn.Sequential)
    example = any_net.example_input(2, architecture)
    forms = QuantizableNetwork(subnet, example, lambda: [example])
    numbers = list(forms.modules.values())
    assert numbers == sorted(numbers) and max(numbers) == len(subnet) - 1
    for cut in (1, 3, len(subnet) - 2):
        head = QuantizableNetwork(subnet[:cut], example, lambda: [example])
        assert sum(number < cut for number in numbers) == len(head.modules)


def test_nodes_without_a_path_belong_to_what_made_their_inputs() -> None:
    nodes = [("/2/conv/Conv", "x", "a"), ("Mul_1", "a", "b"), ("/3/Add", "b", "c"), ("", "c", "d"), ("free", "x", "e")]
    made = [onnx.helper.make_node("Relu", [i], [o], name=name) for name, i, o in nodes]
    model = onnx.helper.make_model(onnx.helper.make_graph(made, "g", [], []))
    assert list(modules_of_nodes(model).values()) == [2, 2, 3, 3, 0]


def test_precisions_of_modules_are_those_of_their_groups(any_net: PrecisionSupernet) -> None:
    net = any_net
    for architecture in net.space.sample(np.random.default_rng(0), 20):
        blocks = net.blocks(architecture)
        subnet = net.extract(architecture)
        assert isinstance(subnet, nn.Sequential)
        found = net.precisions(architecture, len(subnet))
        assert len(found) == len(subnet)
        used = [value for value in architecture[PRECISION] if value != 0]
        stem, middle, head = (
            found[: net._stem],
            found[net._stem :][: len(blocks) - 2],
            found[net._stem :][len(blocks) - 2 :],
        )
        assert [stem[0], *middle, head[0]] == used
        assert len(set(stem)) == len(set(head)) == 1
        assert len(middle) == len(active_slots(net.base.space, net.space.without(architecture)))


def test_the_stem_is_what_the_first_block_is_made_of() -> None:
    assert wrapped("digits_resnet")._stem == 1
    assert wrapped("digits_mbv3")._stem == 2
    assert wrapped("digits_vit")._stem == 1


# -- quantized sub-networks --------------------------------------------------------------------------------


def test_in_fp32_it_computes_what_the_subnet_computes(
    net: PrecisionSupernet, build: QuantizedSubnets, data: ImageData, images: Tensor
) -> None:
    architecture = in_precision(net, mixed(net), "fp32")
    expected = calibrated_subnet(net.base, net.space.without(architecture), data, IMAGES)
    with torch.no_grad():
        torch.testing.assert_close(build(architecture)(images), expected(images), atol=1e-4, rtol=1e-4)


def test_in_int8_it_computes_nearly_that(net: PrecisionSupernet, build: QuantizedSubnets, images: Tensor) -> None:
    some = mixed(net)
    fp32, part, whole = (
        build(a)(images) for a in (in_precision(net, some, "fp32"), some, in_precision(net, some, "int8"))
    )
    scale = float(fp32.std())
    errors = [float((each - fp32).abs().mean()) / scale for each in (part, whole)]
    assert 0 < errors[0] < 0.15 and 0 < errors[1] < 0.15


def test_blocks_in_fp32_have_fp32_weights_and_no_rounding_inside(
    net: PrecisionSupernet, build: QuantizedSubnets
) -> None:
    architecture = mixed(net)
    network = graph(build(architecture))
    modules = len(net.extract(architecture))  # type: ignore[arg-type]
    precisions = net.precisions(architecture, modules)
    numbers = modules_of_nodes(build._exported(net.space.without(architecture))[0]._forms.model)
    makers = {output: node for node in network.node for output in node.output}
    checked = dict.fromkeys(precisions, 0)
    for node in network.node:
        if node.op_type in ("Conv", "Gemm"):
            precision = precisions[numbers[node.name]]
            rounded = [name in makers and makers[name].op_type == "DequantizeLinear" for name in node.input]
            assert rounded[1] == (precision == "int8"), node.name
            checked[precision] += 1
            source = makers.get(makers[makers[node.input[0]].input[0]].input[0]) if rounded[0] else None
            if precision == "fp32" and source is not None:  # then the neighbour before it is in int8
                assert precisions[numbers[source.name]] == "int8", node.name
    assert min(checked.values()) > 0


def test_files_are_smaller_the_more_is_in_int8(net: PrecisionSupernet, build: QuantizedSubnets) -> None:
    some = mixed(net)
    sizes = [len(build(a).onnx) for a in (in_precision(net, some, "int8"), some, in_precision(net, some, "fp32"))]
    assert sizes == sorted(sizes) and sizes[0] < 0.75 * sizes[2]


def test_the_same_choice_gives_the_same_bytes(net: PrecisionSupernet, build: QuantizedSubnets, data: ImageData) -> None:
    some = mixed(net)
    assert build(some).onnx == QuantizedSubnets(net, data, IMAGES)(some).onnx


def test_it_exports_as_what_it_is(net: PrecisionSupernet, build: QuantizedSubnets, images: Tensor) -> None:
    network = build(mixed(net))
    assert to_onnx(network, images) == network.onnx
    with pytest.raises(EvaluationError, match="shape"):
        network(images[:, :, :5].repeat(1, 7, 1, 1))


def test_precisions_of_one_architecture_share_export_and_calibration(
    data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports: list[object] = []
    monkeypatch.setattr(quantized, "to_onnx", lambda *given: (exports.append(given), to_onnx(*given))[1])
    net = wrapped("digits_resnet")
    build = QuantizedSubnets(net, data, IMAGES)
    calibrations: list[int] = []
    monkeypatch.setattr(build, "_calibration", lambda r: (calibrations.append(r), [torch.rand(4, 1, r, r)])[1])
    smallest = net.space.smallest()
    for value in (["int8", "fp32", "fp32", "fp32"], ["fp32"] * 4, ["int8"] * 4):
        build(Architecture({**smallest, PRECISION: value}))
    assert len(exports) == len(calibrations) == 1


def test_what_is_kept_is_bounded(data: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas_compress.supernets.precision.KEPT_BYTES", 1)
    net = wrapped("digits_resnet")
    build = QuantizedSubnets(net, data, IMAGES)
    for architecture in net.space.sample(np.random.default_rng(0), 3):
        build(architecture)
    assert len(build._kept) == 1


def test_sessions_that_calibrated_are_not_kept(data: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    """They hold the memory of all activations of a batch: 40 MB for each sub-network of these digits."""
    made: list[weakref.ref[Activations]] = []

    def noted(*given: Any) -> Activations:
        activations = Activations(*given)
        made.append(weakref.ref(activations))
        return activations

    monkeypatch.setattr(quantize, "Activations", noted)
    net = wrapped("digits_resnet", schemes=["minmax", "percentile"])
    build = QuantizedSubnets(net, data, IMAGES)
    bare = net.base.space.smallest()
    for values in (["int8_minmax"] * 4, ["int8_minmax", "int8_percentile", "fp32", "fp32"]):
        build(Architecture({**bare, PRECISION: values}))
    gc.collect()
    assert len(build._kept) == 1 and made and all(each() is None for each in made)


def test_calibration_images_count_as_kept() -> None:
    images = torch.rand(8, 1, 16, 16)
    network = QuantizableNetwork(nn.Sequential(nn.Conv2d(1, 2, 3)).eval(), images[:2], lambda: [images[:4], images[4:]])
    before = network.size
    network.quantized(["minmax"])
    assert network.size - before == images.nbytes


def test_ranges_may_differ_from_block_to_block(data: ImageData, images: Tensor) -> None:
    net = wrapped("digits_resnet", schemes=["minmax", "percentile"])
    assert net.space.dimensions[-1].choices[0] == ("int8_minmax", "int8_percentile", "fp32")
    assert not net.space.dimensions[-1].ordered
    build = QuantizedSubnets(net, data, IMAGES)
    bare = net.base.space.largest()

    def run(*values: str) -> Tensor:
        result: Tensor = build(Architecture({**bare, PRECISION: values}))(images)
        return result

    one, other = (run(*[f"int8_{method}"] * 4) for method in ("minmax", "percentile"))
    both = run("int8_minmax", "int8_percentile", "int8_minmax", "fp32")
    assert not torch.equal(one, other) and not torch.equal(one, both) and not torch.equal(other, both)
    alone = QuantizedSubnets(wrapped("digits_resnet", schemes=["percentile"]), data, IMAGES)
    assert torch.equal(alone(Architecture({**bare, PRECISION: ["int8"] * 4}))(images), other)


# -- what cannot be quantized ------------------------------------------------------------------------------


def test_other_kinds_of_supernets_are_refused() -> None:
    with pytest.raises(ConfigError, match="'tiny_bert' is not one of images"):
        in_precisions(supernets.get("tiny_bert")(seed=0), PrecisionConfig().model_dump_json())
    with pytest.raises(ConfigError, match="elastic depth"):
        in_precisions(supernets.get("denas_cnn")(seed=0), PrecisionConfig().model_dump_json())


def test_extractions_must_be_rows_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    net = supernets.get("digits_resnet")(seed=0)
    blocks = net.blocks
    monkeypatch.setattr(net, "blocks", lambda a: blocks(a)[1:])
    with pytest.raises(ConfigError, match=r"digits_resnet.*nn\.Sequential of its blocks"):
        PrecisionSupernet(net, PrecisionConfig())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"values": ["fp32"]}, "precision: values holds .'fp32'.; wants int8"),
        ({"values": ["int8", "int8"]}, "wants each once"),
        ({"values": ["int4"]}, "values.0.: 'int4' is not allowed.*; allowed: fp32, bf16, int8"),
        ({"schemes": []}, "schemes is empty"),
        ({"schemes": ["kl"]}, "allowed: minmax, entropy, percentile"),
        ({"by": "layer"}, "precision.by: 'layer' is not allowed"),
        ({"engine": "ipex"}, "allowed: onnxruntime, inc"),
        ({"engine": "inc", "schemes": ["entropy"]}, "which engine 'inc' does not have; allowed: minmax, kl"),
        ({"engine": "inc", "values": ["fp32"]}, "wants int8 or bf16 among them"),
        ({"values": ["int8", "bf16"]}, "bf16, which goes with engine 'inc' alone; engine is 'onnxruntime'"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PrecisionConfig(**options)
