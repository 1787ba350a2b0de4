"""Rewriting quantized ONNX graphs (QDQ: `QuantizeLinear` and `DequantizeLinear` pairs) into faster or closer ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

ALPHA, BETA = 0.2, 0.5
"""ONNX's defaults for the two attributes of HardSigmoid."""


def quantize_hard_sigmoid(model: onnx.ModelProto) -> int:
    """Turn each quantized `HardSigmoid` into a quantized addition; return how many were turned.

    ONNX Runtime has no 8-bit hard sigmoid: h-swish and squeeze-and-excitation go to fp32 and back, at a cost that eats
    what 8-bit convolutions save. But `max(0, min(1, alpha x + beta))` needs none: reading the same 8-bit input
    with its scale times `alpha` multiplies, and the `QuantizeLinear` that follows saturates at both ends. Its range
    comes from calibration and lies within [0, 1], so values are those of the original up to rounding.

    Args:
        model: Changed in place.
    """
    graph = model.graph
    producers = {output: node for node in graph.node for output in node.output}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    turned = 0
    for node in graph.node:
        source = producers.get(node.input[0]) if node.op_type == "HardSigmoid" else None
        if source is None or not _is_quantized(source, constants, _readers(graph, node.output[0])):
            nodes.append(node)
            continue
        replacement, added = _as_addition(node, source, constants)
        nodes.extend(replacement)
        graph.initializer.extend(added)
        turned += 1
    del graph.node[:]
    graph.node.extend(nodes)
    return turned


def _readers(graph: onnx.GraphProto, tensor: str) -> list[onnx.NodeProto]:
    return [node for node in graph.node if tensor in node.input]


def _is_quantized(source: onnx.NodeProto, constants: dict[str, Any], readers: list[onnx.NodeProto]) -> bool:
    """Whether the input is dequantized with constants of a whole tensor, and the output is quantized alone."""
    if source.op_type != "DequantizeLinear" or [r.op_type for r in readers] != ["QuantizeLinear"]:
        return False
    parameters = [*source.input[1:], *readers[0].input[1:]]
    if len(parameters) != 4 or not all(name in constants for name in parameters):
        return False
    scale, zero = (numpy_helper.to_array(constants[name]) for name in readers[0].input[1:])
    low, high = ((bound - zero.astype(float)) * scale for bound in (np.iinfo(zero.dtype).min, np.iinfo(zero.dtype).max))
    return bool(scale.size == 1 and low >= -scale / 2 and high <= 1 + scale / 2)


def _as_addition(
    node: onnx.NodeProto, source: onnx.NodeProto, constants: dict[str, Any]
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Return `Add(Dequantize(x, scale * alpha), Dequantize(beta))` and its constants."""
    attributes = {attribute.name: attribute.f for attribute in node.attribute}
    alpha, beta = attributes.get("alpha", ALPHA), attributes.get("beta", BETA)
    scale = numpy_helper.to_array(constants[source.input[1]])
    dtype = numpy_helper.to_array(constants[source.input[2]]).dtype
    name = node.output[0]
    values = {
        f"{name}_alpha_scale": (scale * alpha).astype(np.float32),
        f"{name}_beta_quantized": np.array(1, dtype),
        f"{name}_beta_scale": np.array(beta, np.float32),
        f"{name}_beta_zero_point": np.array(0, dtype),
    }
    alpha_scale, *beta_inputs = values
    scaled = [source.input[0], alpha_scale, source.input[2]]
    nodes = [
        helper.make_node("DequantizeLinear", scaled, [f"{name}_scaled"], name=f"{name}_scaled"),
        helper.make_node("DequantizeLinear", beta_inputs, [f"{name}_beta"], name=f"{name}_beta"),
        helper.make_node("Add", [f"{name}_scaled", f"{name}_beta"], [name], name=f"{name}_addition"),
    ]
    return nodes, [numpy_helper.from_array(value, key) for key, value in values.items()]


def read_fp32(model: onnx.ModelProto, quantized: Collection[str], original: onnx.ModelProto) -> None:
    """Let nodes that stay in fp32 read fp32, where a neighbour in 8 bits had their inputs rounded.

    A quantizer rounds a tensor for all its readers as soon as one of them is quantized. What an fp32 node computed,
    the graph's input, or a constant that two nodes share, need not reach another fp32 node through 8 bits. Where the
    source is itself in 8 bits, its rounding is part of it and stays.

    Args:
        model: Changed in place, before any other rewriting.
        quantized: Names of the nodes in 8 bits.
        original: The model before quantization.
    """
    graph = model.graph
    producers = {output: node for node in graph.node for output in node.output}
    constants = {tensor.name: tensor for tensor in original.graph.initializer}
    before = {node.name: node for node in original.graph.node}
    present = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.name in quantized or node.name not in before:
            continue
        for position, (name, was) in enumerate(zip(node.input, before[node.name].input, strict=True)):
            if name != was and was in constants:
                node.input[position] = was
                if was not in present:
                    graph.initializer.append(constants[was])
                    present.add(was)
            elif (source := _source(name, producers)) and _name(producers.get(source)) not in quantized:
                node.input[position] = source
    _remove_unread(graph)


def _name(node: onnx.NodeProto | None) -> str:
    return node.name if node is not None else ""


def _source(name: str, producers: Mapping[str, onnx.NodeProto]) -> str | None:
    """Return the tensor that a pair of `QuantizeLinear` and `DequantizeLinear` rounds to the named one, if one does."""
    dequantize = producers.get(name)
    if dequantize is None or dequantize.op_type != "DequantizeLinear":
        return None
    quantize = producers.get(dequantize.input[0])
    return quantize.input[0] if quantize is not None and quantize.op_type == "QuantizeLinear" else None


def _remove_unread(graph: onnx.GraphProto) -> None:
    """Remove pairs that nothing reads any more, and their constants."""
    for op_type in ("DequantizeLinear", "QuantizeLinear"):
        read = {name for node in graph.node for name in node.input} | {each.name for each in graph.output}
        nodes = [node for node in graph.node if node.op_type != op_type or node.output[0] in read]
        del graph.node[:]
        graph.node.extend(nodes)
    read = {name for node in graph.node for name in node.input} | {each.name for each in graph.output}
    tensors = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(tensors)
