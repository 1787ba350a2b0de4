"""int8 ONNX files: types, size, closeness to fp32, and the rewriting of hard sigmoids."""

import logging
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import nn

from nas_compress.backends.onnxruntime import OnnxSession, to_onnx
from nas_compress.compression import quantize
from nas_compress.compression.export import export_onnx
from nas_compress.compression.qdq import quantize_hard_sigmoid
from nas_compress.compression.quantize import Int8Forms, quantize_onnx
from nas_compress.errors import CheckpointError, ConfigError, DataError, EvaluationError


@pytest.fixture(scope="module")
def fp32(net, images, tmp_path_factory):
    path = tmp_path_factory.mktemp("fp32") / "net.onnx"
    export_onnx(net, images[:2], path, {"classes": "5"})
    return path


@pytest.fixture(scope="module")
def int8(fp32, images):
    path = fp32.with_name("int8.onnx")
    quantize_onnx(fp32, path, images.split(16))
    return path


def relative_error(net, path, images):
    with torch.no_grad():
        wanted = net(images)
    return ((OnnxSession(path)(images) - wanted).abs().mean() / wanted.abs().mean()).item()


def test_outputs_stay_close_to_fp32_at_any_batch(net, int8, images):
    for batch in (1, 5, 64):
        assert relative_error(net, int8, images[:batch]) < 0.1


def test_activations_are_unsigned_and_weights_signed_per_channel(int8):
    graph = onnx.load(int8).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    activations = [constants[node.input[2]].data_type for node in graph.node if node.op_type == "QuantizeLinear"]
    assert set(activations) == {TensorProto.UINT8}
    weights = [t for t in graph.initializer if t.data_type == TensorProto.INT8 and len(t.dims) == 4]
    assert len(weights) == 11  # every convolution: the stem, and 5 in each block
    assert not any(t.data_type == TensorProto.FLOAT and len(t.dims) == 4 for t in graph.initializer)
    scales = [
        numpy_helper.to_array(constants[n.input[1]]) for n in graph.node if n.input[0] in {w.name for w in weights}
    ]
    assert all(scale.size > 1 for scale in scales) and len(scales) == len(weights)


def test_weights_per_tensor_on_request(fp32, images, tmp_path):
    quantize_onnx(fp32, tmp_path / "int8.onnx", [images], per_channel=False)
    graph = onnx.load(tmp_path / "int8.onnx").graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    weights = {t.name for t in graph.initializer if t.data_type == TensorProto.INT8 and len(t.dims) == 4}
    assert all(not constants[n.input[1]].dims for n in graph.node if n.input[0] in weights)


def test_metadata_is_carried_over_and_tells_how_it_was_quantized(int8):
    metadata = OnnxSession(int8).metadata
    assert metadata["classes"] == "5"
    assert "64 samples" in metadata["quantization"] and "minmax" in metadata["quantization"]


@pytest.mark.parametrize("method", ["entropy", "percentile"])
def test_other_calibration_methods(net, fp32, images, tmp_path, method, capfd):
    quantize_onnx(fp32, tmp_path / "int8.onnx", images.split(32), method=method)
    out, err = capfd.readouterr()
    assert not out and not err
    assert relative_error(net, tmp_path / "int8.onnx", images) < 0.2


def test_seven_bit_weights_where_the_processor_would_saturate(fp32, images, tmp_path, monkeypatch):
    monkeypatch.setattr(quantize, "has_int8_dot_product", lambda: False)
    quantize_onnx(fp32, tmp_path / "int8.onnx", [images])
    graph = onnx.load(tmp_path / "int8.onnx").graph
    weights = [numpy_helper.to_array(t) for t in graph.initializer if t.data_type == TensorProto.INT8 and t.dims]
    assert max(int(np.abs(w).max()) for w in weights) <= 64
    assert "7-bit" in OnnxSession(tmp_path / "int8.onnx").metadata["quantization"]


def test_excluded_nodes_stay_in_fp32(fp32, images, tmp_path):
    first = next(node.name for node in onnx.load(fp32).graph.node if node.op_type == "Conv")
    quantize_onnx(fp32, tmp_path / "int8.onnx", [images], exclude=[first])
    graph = onnx.load(tmp_path / "int8.onnx").graph
    assert sum(t.data_type == TensorProto.FLOAT and len(t.dims) == 4 for t in graph.initializer) == 1


def test_the_quantizers_remarks_are_kept_from_the_user(fp32, images, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        quantize_onnx(fp32, tmp_path / "int8.onnx", [images])
    assert not caplog.records


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "minmaxx"}, ConfigError, "did you mean 'minmax'"),
        ({"approach": "statik"}, ConfigError, "did you mean 'static'"),
        ({"exclude": ["/0/Cnv"]}, ConfigError, "has no node '/0/Cnv' .did you mean '/0/Conv'"),
        ({"calibration": []}, DataError, "calibration data"),
        ({"fp32_path": "absent.onnx"}, CheckpointError, "absent.onnx"),
    ],
)
def test_mistakes_are_named_and_no_file_is_left(fp32, images, tmp_path, options, error, message):
    target = tmp_path / "int8.onnx"
    if "fp32_path" in options:
        options = options | {"fp32_path": tmp_path / options["fp32_path"]}
    with pytest.raises(error, match=message):
        quantize_onnx(**({"fp32_path": fp32, "int8_path": target, "calibration": [images]} | options))
    assert not list(tmp_path.iterdir())


def convolutions(path):
    """Return each convolution's name, and whether its weight and its input come from 8 bits."""
    graph = onnx.load(path).graph
    producers = {output: node.op_type for node in graph.node for output in node.output}
    return {
        node.name: tuple(producers.get(name) == "DequantizeLinear" for name in node.input[:2])
        for node in graph.node
        if node.op_type == "Conv"
    }


def test_min_and_max_give_the_scales_of_onnx_runtimes_own_quantizer(fp32, images, tmp_path):
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quant_pre_process, quantize_static

    quant_pre_process(fp32, tmp_path / "prepared.onnx")
    name = OnnxSession(fp32).input_name
    feeds = iter([{name: images.numpy()}, None])
    quantize_static(
        tmp_path / "prepared.onnx",
        tmp_path / "wanted.onnx",
        SimpleNamespace(get_next=lambda: next(feeds)),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        calibrate_method=CalibrationMethod.MinMax,
    )
    quantize_onnx(fp32, tmp_path / "got.onnx", [images], reduce_range=False)
    wanted, got = ({t.name: t for t in onnx.load(tmp_path / f"{n}.onnx").graph.initializer} for n in ("wanted", "got"))
    scales = [name for name in wanted if name.endswith(("_scale", "_zero_point", "_quantized"))]
    assert len(scales) > 50
    for name in scales:
        np.testing.assert_allclose(
            numpy_helper.to_array(got[name]), numpy_helper.to_array(wanted[name]), rtol=1e-5, err_msg=name
        )


def test_a_node_in_fp32_reads_what_another_computed_in_fp32(fp32, images, tmp_path):
    forms = Int8Forms(fp32, images.split(32))
    kept = [node for layer in forms.layers[:3] for node in layer.nodes]
    quantize_onnx(fp32, tmp_path / "int8.onnx", images.split(32), exclude=kept)
    found = convolutions(tmp_path / "int8.onnx")
    for layer in forms.layers[:3]:
        assert found[layer.name] == (False, False)  # the first three follow one another
    assert found[forms.layers[3].name] == (True, True)
    scheme = OnnxSession(tmp_path / "int8.onnx").metadata["quantization"]
    assert f"{len(kept)} of {len(forms.nodes)} nodes in fp32" in scheme


def test_every_node_is_of_one_layer_at_most(fp32, images):
    forms = Int8Forms(fp32, [images])
    assert len(set(forms.nodes)) == len(forms.nodes)
    assert len(forms.layers) == 12  # eleven convolutions and a linear layer
    operators = {node.name: node.op_type for node in forms.model.graph.node}
    assert [operators[layer.name] for layer in forms.layers] == ["Conv"] * 11 + ["Gemm"]


def test_a_fresh_process_with_onnx_runtime_alone_gives_the_same_logits(int8, images, tmp_path):
    np.save(tmp_path / "images.npy", images.numpy())
    script = (
        "import sys, numpy, onnxruntime\n"
        "options = onnxruntime.SessionOptions(); options.intra_op_num_threads = 1\n"
        "session = onnxruntime.InferenceSession(sys.argv[1], options, providers=['CPUExecutionProvider'])\n"
        "numpy.save(sys.argv[3], session.run(None, {session.get_inputs()[0].name: numpy.load(sys.argv[2])})[0])\n"
        "assert 'torch' not in sys.modules and 'nas_compress' not in sys.modules\n"
    )
    files = [str(int8), str(tmp_path / "images.npy"), str(tmp_path / "logits.npy")]
    subprocess.run([sys.executable, "-c", script, *files], check=True, cwd=tmp_path)
    np.testing.assert_array_equal(np.load(files[2]), OnnxSession(int8)(images).numpy())


def test_matrix_products_with_a_batched_constant_run(images, tmp_path):
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(16, 16)
            self.table = nn.Parameter(torch.randn(4, 16, 5, generator=torch.Generator().manual_seed(0)))

        def forward(self, x):
            return torch.matmul(self.linear(x).reshape(-1, 4, 4, 16), self.table)

    inputs = images[:, 0]
    net = Positions().eval()
    (tmp_path / "net.onnx").write_bytes(to_onnx(net, inputs))
    quantize_onnx(tmp_path / "net.onnx", tmp_path / "int8.onnx", [inputs])
    assert relative_error(net, tmp_path / "int8.onnx", inputs) < 0.05


def test_models_of_older_operators_are_raised_to_newer_ones(images, tmp_path):
    helper, inputs = onnx.helper, images[:, 0, 0]
    weight = numpy_helper.from_array(np.eye(16, dtype=np.float32), "weight")
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 16]) for n in ("input", "output")]
    graph = helper.make_graph([helper.make_node("Gemm", ["input", "weight"], ["output"])], "g", values[:1], values[1:])
    graph.initializer.append(weight)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    onnx.save(model, tmp_path / "net.onnx")
    quantize_onnx(tmp_path / "net.onnx", tmp_path / "int8.onnx", [inputs])
    assert (OnnxSession(tmp_path / "int8.onnx")(inputs) - inputs).abs().max() < 0.05


def test_a_model_with_nothing_to_quantize_is_refused_by_its_operators(images, tmp_path):
    (tmp_path / "net.onnx").write_bytes(to_onnx(nn.Sequential(nn.Flatten(), nn.Tanh()), images))
    with pytest.raises(EvaluationError, match=r"nothing to quantize.*Conv.*its operators: Flatten, Tanh"):
        quantize_onnx(tmp_path / "net.onnx", tmp_path / "int8.onnx", [images])


@pytest.mark.parametrize("approach", ["static", "dynamic"])
def test_a_model_that_is_quantized_already_is_refused(int8, images, tmp_path, approach):
    with pytest.raises(EvaluationError, match=r"int8\.onnx is quantized already: it has \w+ nodes; give the fp32 file"):
        quantize_onnx(int8, tmp_path / "again.onnx", [images], approach=approach)


def test_an_operator_that_cannot_be_prepared_is_named(images, tmp_path):
    helper = onnx.helper
    nodes = [helper.make_node("Unheard", ["input"], ["output"], name="n", domain="of.nobody")]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 1, 16, 16]) for n in ("input", "output")]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("of.nobody", 1)]
    model = helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:]), opset_imports=opsets, ir_version=8)
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(CheckpointError, match="Unheard"):
        quantize_onnx(tmp_path / "net.onnx", tmp_path / "int8.onnx", [images])
    assert not (tmp_path / "int8.onnx").exists()


def quantized_without_rewriting(fp32, images, folder, monkeypatch):
    monkeypatch.setattr(quantize, "quantize_hard_sigmoid", lambda model: 0)
    quantize_onnx(fp32, folder / "plain.onnx", images.split(16))
    return folder / "plain.onnx"


def test_hard_sigmoids_become_additions_that_give_the_same_numbers(fp32, int8, images, tmp_path, monkeypatch):
    plain = quantized_without_rewriting(fp32, images, tmp_path, monkeypatch)
    before, after = (Counter(n.op_type for n in onnx.load(p).graph.node) for p in (plain, int8))
    assert before["HardSigmoid"] == 7 and after["HardSigmoid"] == 0
    assert after["Add"] == before["Add"] + 7
    wanted, got = OnnxSession(plain)(images), OnnxSession(int8)(images)
    assert (got - wanted).abs().max() < 0.05 * wanted.abs().max()


def test_hard_sigmoids_in_fp32_are_left_alone(fp32):
    model = onnx.load(fp32)
    before = model.SerializeToString()
    assert quantize_hard_sigmoid(model) == 0
    assert model.SerializeToString() == before


def _single_hard_sigmoid(output_scale):
    """Return x -> quantize -> hard sigmoid -> quantize -> dequantize, over x in [-4, 4]."""
    scalars = {"s": np.float32(8 / 255), "z": np.uint8(128), "t": np.float32(output_scale), "y": np.uint8(0)}
    helper = onnx.helper
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("HardSigmoid", ["xd"], ["h"], alpha=1 / 6, beta=0.5),
        helper.make_node("QuantizeLinear", ["h", "t", "y"], ["hq"]),
        helper.make_node("DequantizeLinear", ["hq", "t", "y"], ["out"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, ["n"])], [value("out", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(np.array(v), k) for k, v in scalars.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_the_addition_saturates_where_the_hard_sigmoid_does():
    model = _single_hard_sigmoid(1 / 255)
    x = torch.linspace(-5, 5, 1001)
    wanted = OnnxSession(model.SerializeToString())(x)
    assert quantize_hard_sigmoid(model) == 1
    got = OnnxSession(model.SerializeToString())(x)
    assert wanted.min() == 0 and wanted.max() == pytest.approx(1)
    assert (got - wanted).abs().max() <= 1.01 / 255


def test_a_range_beyond_one_is_left_alone():
    assert quantize_hard_sigmoid(_single_hard_sigmoid(2 / 255)) == 0


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
def test_calibration_batches_may_differ_in_size(tmp_path, method):
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    )
    images = torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    export_onnx(net.eval(), images[:2], tmp_path / "fp32.onnx")
    quantize_onnx(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", [images[:16], images[16:]], method=method)
    with torch.no_grad():
        wanted = net(images)
    difference = (OnnxSession(tmp_path / "int8.onnx")(images) - wanted).abs().max()
    assert difference < 0.2 * wanted.abs().max()
