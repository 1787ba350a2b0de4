"""int8 forms of a network with several inputs: static and dynamic, with padded sentences."""

from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from nas_compress.backends.onnxruntime import OnnxSession, to_onnx
from nas_compress.compression.quantize import Int8Forms, quantize_onnx
from nas_compress.errors import ConfigError, EvaluationError
from nas_compress.supernets import load_supernet


@pytest.fixture(scope="module")
def sentences():
    """Token ids, mask and types of 16 sentences of 5 to 32 tokens."""
    rng = torch.Generator().manual_seed(0)
    lengths = torch.randint(5, 33, (16, 1), generator=rng)
    mask = (torch.arange(32) < lengths).long()
    return torch.randint(1, 1000, (16, 32), generator=rng) * mask, mask, torch.zeros_like(mask)


@pytest.fixture(scope="module")
def fp32(sentences, tmp_path_factory):
    net = load_supernet("tiny_bert", trained=False, seed=0)
    path = tmp_path_factory.mktemp("bert") / "net.onnx"
    path.write_bytes(to_onnx(net.extract(net.space.smallest()).eval(), sentences))
    return path


@pytest.fixture(scope="module")
def dynamic(fp32):
    path = fp32.with_name("dynamic.onnx")
    quantize_onnx(fp32, path, [], approach="dynamic")
    return path


def error(fp32, int8, inputs):
    wanted, got = OnnxSession(fp32)(*inputs), OnnxSession(int8)(*inputs)
    return ((got - wanted).abs().mean() / wanted.abs().mean()).item()


def test_static_with_several_inputs_and_padding_stays_close(fp32, sentences, tmp_path):
    batches = [tuple(each[half] for each in sentences) for half in (slice(8), slice(8, 16))]
    quantize_onnx(fp32, tmp_path / "int8.onnx", batches)
    assert error(fp32, tmp_path / "int8.onnx", sentences) < 0.1
    graph = onnx.load(tmp_path / "int8.onnx").graph
    readers = {name: node.op_type for node in graph.node for name in node.output}
    norms = [node for node in graph.node if node.op_type == "LayerNormalization"]
    assert norms and not any(readers.get(node.input[1]) == "DequantizeLinear" for node in norms)
    softmax = [node for node in graph.node if node.op_type == "Softmax"]
    assert softmax and all(readers[node.input[0]] == "Add" for node in softmax)  # masked scores are not in 8 bits


def test_dynamic_needs_no_calibration_and_stays_close(fp32, dynamic, sentences):
    assert error(fp32, dynamic, sentences) < 0.05
    assert dynamic.stat().st_size < fp32.stat().st_size / 3
    assert "dynamic int8" in OnnxSession(dynamic).metadata["quantization"]


def test_dynamic_takes_every_linear_layer_and_table(fp32, dynamic):
    before, after = (Counter(n.op_type for n in onnx.load(path).graph.node) for path in (fp32, dynamic))
    forms = Int8Forms(fp32, [], approach="dynamic")
    operators = {node.name: node.op_type for node in forms.model.graph.node}
    taken = Counter(operators[layer.name] for layer in forms.layers)
    assert taken["Gather"] == 3 and taken["Gemm"] == before["Gemm"]  # words, positions, types
    assert after["MatMulInteger"] == taken["MatMul"] + taken["Gemm"]
    assert after["MatMul"] == before["MatMul"] + before["Gemm"] - after["MatMulInteger"]  # products of activations


@pytest.mark.parametrize("per_channel", [True, False])
def test_dynamic_weights_are_signed_with_scales_as_asked(fp32, tmp_path, per_channel):
    quantize_onnx(fp32, tmp_path / "int8.onnx", [], approach="dynamic", per_channel=per_channel)
    graph = onnx.load(tmp_path / "int8.onnx").graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    products = [node for node in graph.node if node.op_type == "MatMulInteger"]
    for node in products:
        assert constants[node.input[1]].dtype == np.int8
        assert (constants[node.input[3]].size > 1) == per_channel


def test_an_excluded_linear_layer_keeps_its_fp32_weight(fp32, tmp_path):
    forms = Int8Forms(fp32, [], approach="dynamic")
    gemm = next(node.name for node in forms.model.graph.node if node.op_type == "Gemm")
    quantize_onnx(fp32, tmp_path / "int8.onnx", [], approach="dynamic", exclude=[gemm])
    names = [node.name for node in onnx.load(tmp_path / "int8.onnx").graph.node if node.op_type == "MatMulInteger"]
    assert names and not any(name.startswith(gemm) for name in names)


def test_dynamic_leaves_convolutions_in_fp32(net, images, tmp_path):
    (tmp_path / "net.onnx").write_bytes(to_onnx(net, images[:2]))
    quantize_onnx(tmp_path / "net.onnx", tmp_path / "int8.onnx", [], approach="dynamic")
    found = Counter(node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node)
    assert found["Conv"] == 11 and found["MatMulInteger"] == 1 and not found["ConvInteger"]


def test_dynamic_refuses_a_network_of_convolutions_alone(images, tmp_path):
    (tmp_path / "net.onnx").write_bytes(to_onnx(nn.Conv2d(1, 4, 3), images[:2]))
    with pytest.raises(EvaluationError, match=r"nothing to quantize with approach 'dynamic'.*MatMul.*operators: Conv"):
        quantize_onnx(tmp_path / "net.onnx", tmp_path / "int8.onnx", [], approach="dynamic")


def test_excluding_every_layer_is_refused(fp32, tmp_path):
    nodes = Int8Forms(fp32, [], approach="dynamic").nodes
    with pytest.raises(ConfigError, match="nothing is left"):
        quantize_onnx(fp32, tmp_path / "int8.onnx", [], approach="dynamic", exclude=nodes)
