"""int8 quantization of ONNX files with ONNX Runtime."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx

from nas_compress.backends.hardware import has_int8_dot_product
from nas_compress.backends.onnxruntime import OnnxSession
from nas_compress.compression import onnx_layers
from nas_compress.compression.calibration import (
    Activations,
    Feed,
    as_tensors,
    calibration_batches,
    calibration_feeds,
    samples,
)
from nas_compress.compression.qdq import quantize_hard_sigmoid, read_fp32
from nas_compress.errors import CheckpointError, ConfigError, EvaluationError, first_line, suggest
from nas_compress.files import replacing
from nas_compress.supernets.base import Inputs

CALIBRATION_METHODS = ("minmax", "entropy", "percentile")
APPROACHES = ("static", "dynamic")


def quantize_onnx(
    fp32_path: str | Path,
    int8_path: str | Path,
    calibration: Iterable[Inputs],
    *,
    approach: str = "static",
    method: str = "minmax",
    per_channel: bool = True,
    reduce_range: bool | None = None,
    exclude: Collection[str] = (),
) -> None:
    """Write the int8 form of an fp32 ONNX file: 8-bit unsigned activations, 8-bit signed weights (U8S8).

    `static` quantizes convolutions, linear layers, and what lies between, in ranges that calibration fixes (QDQ).
    `dynamic` quantizes linear layers (`MatMul` and `Gemm` with constant weights), recurrent layers and tables of
    embeddings; ranges of activations come from each input, so that no calibration is needed. Convolutions stay in fp32
    there: ONNX Runtime has no kernel on the CPU that pays (see `onnx_layers.DYNAMIC`). Operators that an approach does
    not know stay in fp32.

    U8S8 is the pair for which x86 has kernels: S8S8 is 2.5 to 3 times slower on depthwise convolutions. Whether int8 is
    faster than fp32 depends on the network; measure the file.

    Args:
        fp32_path: As `export_onnx` wrote it; its metadata is carried over, `quantization` says in words what was done.
        int8_path: Where to write; an existing file is replaced when the new one is complete.
        calibration: Batches of training data: a tensor each, or all inputs by position; batch first. Not used by
            `dynamic`.
        approach: `"static"` or `"dynamic"`.
        method: How `static` finds ranges of activations: `"minmax"`, or `"entropy"` or `"percentile"`, which cut
            outliers off; see `calibration.Activations`, also for the memory that it takes.
        per_channel: One weight scale per output channel; needed for depthwise convolutions to keep their accuracy.
        reduce_range: Use 7 bits for weights, without which processors that lack VNNI saturate. By default
            according to this machine's processor.
        exclude: Names of nodes to leave in fp32.

    Raises:
        CheckpointError: The fp32 file cannot be read.
        OutputError: The int8 file cannot be written.
        ConfigError: An unknown approach or method, a node that the model does not have, or nothing left to quantize.
        DataError: The calibration data is empty, or does not fit the model; see `calibration_feeds`.
        EvaluationError: The model has nothing to quantize, is quantized already, cannot be quantized, or does not run
            afterwards.
    """
    fp32_path, int8_path = Path(fp32_path), Path(int8_path)
    check_names(approach, method)
    forms = Int8Forms(fp32_path, calibration, approach=approach, reduce_range=reduce_range)
    model = forms.form(method, per_channel, exclude)
    with replacing(int8_path) as temporary:
        temporary.write_bytes(model)


class Int8Forms:
    """The int8 forms of one fp32 ONNX file, prepared once and calibrated once for each method.

    Args:
        fp32_path: See `quantize_onnx`.
        calibration: See `quantize_onnx`; for `dynamic` it may be empty.
        approach: `"static"` or `"dynamic"`.
        reduce_range: See `quantize_onnx`.

    Attributes:
        path: The fp32 file.
        model: It, with batch norm folded and shapes inferred.
        layers: What is quantized as one; their nodes' names can be excluded.
        feeds: The calibration data.

    Raises:
        CheckpointError, DataError, EvaluationError: See `quantize_onnx`.
    """

    def __init__(
        self,
        fp32_path: Path,
        calibration: Iterable[Inputs],
        *,
        approach: str = "static",
        reduce_range: bool | None = None,
    ) -> None:
        self.path, self.approach = fp32_path, approach
        self.reduce_range = not has_int8_dot_product() if reduce_range is None else reduce_range
        self.metadata = OnnxSession(fp32_path).metadata
        onnx_layers.check_fp32(fp32_path)
        with TemporaryDirectory() as folder:
            self.model = onnx_layers.prepare(fp32_path, Path(folder))
        graph = self.model.graph
        self.layers = onnx_layers.static_layers(graph) if approach == "static" else onnx_layers.dynamic_layers(graph)
        self._check_layers()
        data = calibration_batches(calibration)
        self.feeds: list[Feed] = calibration_feeds(self.model, data) if data or approach == "static" else []
        self._activations: Activations | None = None
        self._ranges: dict[str, dict[str, tuple[float, float]]] = {}

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of all nodes that are quantized unless excluded."""
        return tuple(node for layer in self.layers for node in layer.nodes)

    def ranges(self, method: str) -> dict[str, tuple[float, float]]:
        """Return the ranges of the activations; the calibration data is run at the first call for a method."""
        if method not in self._ranges:
            self._activations = self._activations or Activations(self.model, self.feeds)
            self._ranges[method] = self._activations.ranges(method)
        return self._ranges[method]

    def form(self, method: str = "minmax", per_channel: bool = True, exclude: Collection[str] = ()) -> bytes:
        """Return an int8 form as an ONNX file; it runs.

        Args:
            method: See `quantize_onnx`.
            per_channel: See `quantize_onnx`.
            exclude: Names of nodes to leave in fp32, not all.

        Raises:
            ConfigError, EvaluationError: See `quantize_onnx`.
        """
        self.check_exclude(exclude)
        serialized = self.build(method, per_channel, exclude)
        self._try(serialized)
        return serialized

    def build(self, method: str, per_channel: bool, exclude: Collection[str]) -> bytes:
        """Return an int8 form that was not tried; see `form`."""
        ranges = self.ranges(method) if self.approach == "static" else {}
        try:
            with redirect_stdout(io.StringIO()):  # the quantizer prints
                if self.approach == "static":
                    model = self._static(ranges, per_channel, exclude)
                else:
                    model = self._dynamic(per_channel, exclude)
        except Exception as error:  # the quantizer raises many kinds
            raise EvaluationError(f"quantize: {self.path} cannot be quantized: {first_line(error)}") from error
        scheme = self.scheme(method, per_channel, exclude)
        onnx.helper.set_model_props(model, {**self.metadata, "quantization": scheme})
        serialized: bytes = model.SerializeToString()
        return serialized

    def scheme(self, method: str, per_channel: bool, exclude: Collection[str] = ()) -> str:
        """Return in words how a form is quantized."""
        bits = ", 7-bit weights" if self.reduce_range else ""
        weights = f"weights per {'channel' if per_channel else 'tensor'}{bits}"
        kept = len([node for node in self.nodes if node in exclude])
        fp32 = f", {kept} of {len(self.nodes)} nodes in fp32" if kept else ""
        if self.approach == "dynamic":
            return f"dynamic int8, U8S8, linear layers and tables alone, {weights}{fp32}"
        return f"static int8, U8S8 QDQ, {method} over {samples(self.feeds)} samples, {weights}{fp32}"

    def _static(
        self, ranges: Mapping[str, tuple[float, float]], per_channel: bool, exclude: Collection[str]
    ) -> onnx.ModelProto:
        from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, TensorsData

        bounds = {name: tuple(np.array(each, np.float32) for each in pair) for name, pair in ranges.items()}
        quantized = [node for node in self.nodes if node not in exclude]
        source = onnx.ModelProto()
        source.CopyFrom(self.model)
        quantizer = QDQQuantizer(
            source,
            per_channel,
            self.reduce_range,
            QuantType.QInt8,
            QuantType.QUInt8,
            TensorsData(CalibrationMethod.MinMax, bounds),  # bounds, however they were found
            quantized,
            [],
            onnx_layers.static_operators(),
            {"TensorQuantOverrides": _per_tensor(self.model.graph)},
        )
        quantizer.quantize_model()
        model: onnx.ModelProto = quantizer.model.model
        read_fp32(model, quantized, self.model)
        quantize_hard_sigmoid(model)
        return model

    def _dynamic(self, per_channel: bool, exclude: Collection[str]) -> onnx.ModelProto:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        wanted = [node for node in self.nodes if node not in exclude]
        source = onnx.ModelProto()
        source.CopyFrom(self.model)
        with TemporaryDirectory() as folder:
            target = Path(folder) / "quantized.onnx"
            quantize_dynamic(
                source,
                target,
                op_types_to_quantize=sorted(onnx_layers.DYNAMIC),
                per_channel=per_channel,
                reduce_range=self.reduce_range,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=[*wanted, *(f"{node}_MatMul" for node in wanted)],  # what it turns a Gemm into
            )
            return onnx.load(target)

    def _try(self, serialized: bytes) -> None:
        """Run a form once: some combinations of operators are found to have no kernel only then."""
        try:
            session = OnnxSession(serialized)
            if self.feeds:
                session(*as_tensors(self.feeds[0]))
        except (CheckpointError, EvaluationError) as error:
            raise EvaluationError(f"quantize: the int8 form of {self.path} does not run: {error}") from error

    def _check_layers(self) -> None:
        if self.leaves_any(()):
            return
        has = ", ".join(sorted({node.op_type for node in self.model.graph.node}))
        wants = "Conv, ConvTranspose, Gemm, MatMul" if self.approach == "static" else "MatMul, Gemm, LSTM, Gather"
        constant = "" if self.approach == "static" else " with constant weights"
        raise EvaluationError(
            f"quantize: {self.path} has nothing to quantize with approach {self.approach!r}, which wants one of "
            f"{wants}{constant}; its operators: {has}"
        )

    def check_exclude(self, exclude: Collection[str]) -> None:
        """Check that nodes to exclude exist, and leave something to quantize.

        Raises:
            ConfigError: They do not.
        """
        names = [node.name for node in self.model.graph.node]
        known = set(names)
        for name in exclude:
            if name not in known:
                raise ConfigError(f"quantize: exclude: {self.path} has no node {name!r}{suggest(name, names)}")
        if not self.leaves_any(exclude):
            raise ConfigError(f"quantize: exclude: names every layer of {self.path}; nothing is left to quantize")

    def leaves_any(self, exclude: Collection[str]) -> bool:
        """Return whether a layer that computes is left when nodes are excluded."""
        return onnx_layers.is_computed((each for each in self.layers if each.name not in exclude), self.model.graph)

    def need_data(self) -> list[Feed]:
        """Return the calibration data.

        Raises:
            DataError: There is none.
        """
        return self.feeds or calibration_feeds(self.model, [])


def _per_tensor(graph: onnx.GraphProto) -> dict[str, list[dict[str, Any]]]:
    """Return what keeps constants of matrix products that have no kernel for a scale per channel to one scale.

    ONNX Runtime multiplies by a scale per channel only where the right matrix is constant and has no batch.
    """
    from onnxruntime.quantization import QuantType

    ranks = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    products = [node for node in graph.node if node.op_type == "MatMul"]
    names = {node.input[0] for node in products} | {n.input[1] for n in products if ranks.get(n.input[1]) != 2}
    return {name: [{"quant_type": QuantType.QInt8, "symmetric": True}] for name in names if name in ranks}


def check_names(approach: str, method: str) -> None:
    """Check the names of an approach and of a calibration method.

    Raises:
        ConfigError: One is not known.
    """
    for what, name, known in (("approach", approach, APPROACHES), ("method", method, CALIBRATION_METHODS)):
        if name not in known:
            raise ConfigError(f"quantize: {what} = {name!r}{suggest(name, known)}; allowed: {', '.join(known)}")
