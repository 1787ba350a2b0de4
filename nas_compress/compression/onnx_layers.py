"""Layers of an ONNX graph, as quantization sees them: what is quantized, or kept in fp32, as one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import version_converter

from nas_compress.errors import CheckpointError, EvaluationError, first_line

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators that begin a layer of a statically quantized graph: what computes."""

ROUNDED_ALONE = frozenset({"BatchNormalization", "CumSum", "InstanceNormalization", "LayerNormalization"})
"""Operators that the quantizer takes though ONNX Runtime has no 8-bit kernel on the CPU: accuracy lost for no speed."""

MASKING = frozenset({"Add", "Sub", "Mul", "Div", "Where"})
"""Operators that mask, or scale, the scores of an attention."""

DYNAMIC = frozenset({"MatMul", "Gemm", "LSTM", "Gather"})
"""Operators that dynamic quantization takes: linear layers, recurrent layers and tables of embeddings.

Convolutions are left out: ONNX Runtime's kernel for them on the CPU (`ConvInteger`) takes 6 to 16 times as long as fp32
with signed weights, and 1.7 to 10 times with unsigned ones (small residual and depthwise networks, one image).
"""


_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "Integer")
"""Endings of the names of operators of quantized graphs, besides those that begin with `QLinear`."""

OLDEST_OPSET = 13
"""The first version of ONNX's operators with a scale per channel."""


@dataclass(frozen=True)
class Layer:
    """Nodes that are quantized, or kept in fp32, together.

    Attributes:
        name: Of the node that computes: a convolution, a linear layer, a matrix product.
        nodes: Names of all nodes that a quantizer treats, in the order of the graph.
    """

    name: str
    nodes: tuple[str, ...]


def check_fp32(path: Path) -> None:
    """Raise `EvaluationError` where a file, which ONNX Runtime has loaded, is quantized already."""
    operators = (node.op_type for node in onnx.load(path, load_external_data=False).graph.node)
    found = next((name for name in operators if name.startswith("QLinear") or name.endswith(_QUANTIZED)), None)
    if found is not None:
        raise EvaluationError(f"quantize: {path} is quantized already: it has {found} nodes; give the fp32 file")


def prepare(path: Path, folder: Path) -> onnx.ModelProto:
    """Return a model with batch norm folded, shapes inferred, a name for every node, and `OLDEST_OPSET` at least.

    Args:
        path: An ONNX file that ONNX Runtime has loaded.
        folder: For a temporary file.

    Raises:
        CheckpointError: The file cannot be read.
        EvaluationError: Its graph cannot be prepared, for an operator that has no rule for shapes, say.
    """
    from onnxruntime.quantization import quant_pre_process

    target = folder / "prepared.onnx"
    try:
        source = onnx.load(path)
        if min(each.version for each in source.opset_import if each.domain in {"", "ai.onnx"}) < OLDEST_OPSET:
            source = version_converter.convert_version(source, OLDEST_OPSET)
        quant_pre_process(source, target)
        model = onnx.load(target)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {first_line(error)}") from error
    except Exception as error:  # the quantizer raises plain `Exception`, and what its parts raise
        operators = ", ".join(sorted({node.op_type for node in onnx.load(path).graph.node}))
        raise EvaluationError(
            f"quantize: {path} cannot be prepared: {first_line(error)} (its operators: {operators})"
        ) from error
    _name_nodes(model.graph)
    return model


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Give nodes without a name, or with one that an earlier node has, one of their own."""
    taken: set[str] = set()
    for number, node in enumerate(graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{number}"
        taken.add(node.name)


def float_tensors(graph: onnx.GraphProto) -> set[str]:
    """Return the names of the fp32 activations whose type is known: inputs, outputs, and what lies between."""
    there = {name for node in graph.node for name in node.output} | {each.name for each in graph.input}
    constants = {tensor.name for tensor in graph.initializer}
    infos = (*graph.value_info, *graph.input, *graph.output)
    return {i.name for i in infos if i.type.tensor_type.elem_type == onnx.TensorProto.FLOAT} & there - constants


def static_operators() -> list[str]:
    """Return the operators that static quantization takes, sorted."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return sorted({*QDQRegistry, *QLinearOpsRegistry} - ROUNDED_ALONE)


def static_layers(graph: onnx.GraphProto) -> tuple[Layer, ...]:
    """Return the layers of a graph that is to be quantized statically.

    A layer is a convolution, linear layer or matrix product with the additions, activations, poolings that follow it
    and come before the next; what joins two branches belongs to the later one. What comes before the first layer is
    one of its own. Softmax, and what masks its input, are in no layer: masked scores lie so far below the others that
    8 bits over both leave none to tell the others apart.
    """
    operators, floats, masked = set(static_operators()), float_tensors(graph), _softmax_nodes(graph)
    names: list[str] = []
    nodes: list[list[str]] = []
    of_tensor: dict[str, int] = {}
    for node in graph.node:
        treated = node.op_type in operators and any(name in floats for name in node.output) and node.name not in masked
        layer = max((of_tensor[name] for name in node.input if name in of_tensor), default=None)
        if treated and (layer is None or node.op_type in WEIGHTED):
            layer = len(names)
            names.append(node.name)
            nodes.append([])
        if treated and layer is not None:
            nodes[layer].append(node.name)
        if layer is not None:
            of_tensor.update(dict.fromkeys(node.output, layer))
    return tuple(Layer(name, tuple(members)) for name, members in zip(names, nodes, strict=True))


def _softmax_nodes(graph: onnx.GraphProto) -> set[str]:
    """Return the names of the nodes that compute softmax, and of those right before that may mask its input."""
    softmax = [node for node in graph.node if node.op_type == "Softmax"]
    scores = {node.input[0] for node in softmax}
    masks = [node for node in graph.node if node.op_type in MASKING and scores.intersection(node.output)]
    return {node.name for node in (*softmax, *masks)}


def dynamic_layers(graph: onnx.GraphProto) -> tuple[Layer, ...]:
    """Return the layers of a graph that is to be quantized dynamically: single nodes with constant weights."""
    ranks = {t.name: len(t.dims) for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    return tuple(Layer(node.name, (node.name,)) for node in graph.node if _is_dynamic(node, ranks))


def _is_dynamic(node: onnx.NodeProto, ranks: dict[str, int]) -> bool:
    if node.op_type not in DYNAMIC:
        return False
    if node.op_type == "Gather":
        return ranks.get(node.input[0]) == 2
    if node.op_type == "LSTM":
        return all(name in ranks for name in node.input[1:3])
    plain = all(a.name == "transB" or (a.name in {"alpha", "beta"} and a.f == 1) or not a.i for a in node.attribute)
    return ranks.get(node.input[1]) == 2 and plain


def is_computed(layers: Iterable[Layer], graph: onnx.GraphProto) -> bool:
    """Return whether any of the layers has weights or a matrix product, without which int8 has nothing to speed up."""
    operators = {node.name: node.op_type for node in graph.node}
    return any(operators[layer.name] in WEIGHTED | DYNAMIC for layer in layers)
