"""Static int8 quantization of ONNX files with ONNX Runtime."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
from torch import Tensor

from nas_compress.backends.hardware import has_int8_dot_product
from nas_compress.backends.onnxruntime import OnnxSession
from nas_compress.compression.qdq import quantize_hard_sigmoid
from nas_compress.errors import ConfigError, DataError, suggest
from nas_compress.files import replacing

CALIBRATION_METHODS = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}


def quantize_onnx(
    fp32_path: Path,
    int8_path: Path,
    calibration: Iterable[Tensor],
    *,
    method: str = "minmax",
    per_channel: bool = True,
    reduce_range: bool | None = None,
    exclude: Sequence[str] = (),
) -> None:
    """Write the int8 form of an fp32 ONNX file: 8-bit unsigned activations, 8-bit signed weights (U8S8), QDQ.

    U8S8 is the pair for which x86 has kernels: S8S8 is 2.5 to 3 times slower on depthwise convolutions. Whether int8 is
    faster than fp32 depends on the network; measure the file.

    Args:
        fp32_path: As `export_onnx` wrote it; its metadata is carried over.
        int8_path: Where to write; an existing file is replaced when the new one is complete.
        calibration: Batches of training images, shape (n, C, r, r), from which the ranges of activations come.
        method: `"minmax"`, or `"entropy"` or `"percentile"`, which cut outliers off but hold the activations of all
            batches in memory.
        per_channel: One weight scale per output channel; needed for depthwise convolutions to keep their accuracy.
        reduce_range: Use 7 bits for weights, without which processors that lack VNNI saturate. By default
            according to this machine's processor.
        exclude: Names of nodes to leave in fp32.

    Raises:
        CheckpointError: The fp32 file cannot be read.
        OutputError: The int8 file cannot be written.
        ConfigError: An unknown method, or a node that the model does not have.
        DataError: There are no calibration images.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    if method not in CALIBRATION_METHODS:
        known = ", ".join(CALIBRATION_METHODS)
        raise ConfigError(f"quantize: method = {method!r}{suggest(method, CALIBRATION_METHODS)}; allowed: {known}")
    reduce_range = not has_int8_dot_product() if reduce_range is None else reduce_range
    with TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):  # the quantizer prints
        prepared, quantized = Path(folder) / "prepared.onnx", Path(folder) / "quantized.onnx"
        session = OnnxSession(fp32_path)
        _prepare(fp32_path, prepared, exclude)
        reader = _Reader(session.input_name, calibration, single=method != "minmax")
        quantize_static(
            prepared,
            quantized,
            reader,
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=per_channel,
            reduce_range=reduce_range,
            nodes_to_exclude=list(exclude),
            calibrate_method=getattr(CalibrationMethod, CALIBRATION_METHODS[method]),
        )
        model = onnx.load(quantized)
    quantize_hard_sigmoid(model)
    scheme = _scheme(method, reader.images, per_channel, reduce_range)
    onnx.helper.set_model_props(model, {**session.metadata, "quantization": scheme})
    with replacing(int8_path) as temporary:
        onnx.save(model, temporary)


def _scheme(method: str, images: int, per_channel: bool, reduce_range: bool) -> str:
    """Return in words how a model was quantized."""
    weights = f"per {'channel' if per_channel else 'tensor'}{', 7-bit weights' if reduce_range else ''}"
    return f"static int8, U8S8 QDQ, {method} over {images} images, {weights}"


def _prepare(source: Path, target: Path, exclude: Sequence[str]) -> None:
    """Fold batch norm and infer shapes, which the quantizer needs, and check the names of nodes."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(source, target)
    names = [node.name for node in onnx.load(target, load_external_data=False).graph.node]
    for name in exclude:
        if name not in names:
            raise ConfigError(f"quantize: exclude: {source} has no node {name!r}{suggest(name, names)}")


class _Reader:
    """Calibration batches in the form that ONNX Runtime's quantizer asks for them.

    Args:
        input_name: Name of the model's input.
        batches: Images, shape (n, C, r, r); n may vary.
        single: Hand the images out one by one: calibrators that keep histograms want batches of one size.
    """

    def __init__(self, input_name: str, batches: Iterable[Tensor], single: bool) -> None:
        self.images = 0
        self._input_name = input_name
        self._batches = (part for batch in batches for part in (batch.tensor_split(len(batch)) if single else (batch,)))

    def get_next(self) -> dict[str, Any] | None:
        """Return the next batch by input name, None after the last."""
        batch = next(self._batches, None)
        if batch is None:
            if not self.images:
                raise DataError("quantization wants at least one batch of calibration images, got none")
            return None
        self.images += len(batch)
        return {self._input_name: batch.detach().contiguous().numpy()}
