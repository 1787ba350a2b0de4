"""How much each layer of a network suffers from 8 bits, measured."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_compress.backends.onnxruntime import OnnxSession
from nas_compress.compression.calibration import Feed, as_tensors, samples
from nas_compress.compression.onnx_layers import Layer
from nas_compress.compression.quantize import Int8Forms
from nas_compress.errors import CheckpointError, EvaluationError

SAMPLES = 64
"""Calibration samples on which outputs are compared."""


@dataclass(frozen=True)
class LayerSensitivity:
    """What quantizing one layer does to the outputs.

    Attributes:
        layer: What was quantized, and nothing else.
        error: Squared error of the outputs as a share of their squared values in fp32; infinite where the network does
            not run so.
    """

    layer: Layer
    error: float

    @property
    def sqnr_db(self) -> float:
        """Ratio of signal to quantization noise in dB; infinite without noise."""
        return math.inf if self.error == 0 else -10 * math.log10(self.error)


def layer_sensitivities(
    forms: Int8Forms,
    method: str = "minmax",
    per_channel: bool = True,
    exclude: Collection[str] = (),
    deadline: float | None = None,
) -> list[LayerSensitivity]:
    """Return the layers of a network, the most sensitive first.

    Each layer is quantized alone, all others stay in fp32, and outputs are compared with those of the fp32 network.
    Ranges of activations are those of `forms`, calibrated once, so that a layer costs some tens of milliseconds on a
    small network: making the form, loading it, running `SAMPLES` samples.

    Args:
        forms: With calibration data.
        method: See `quantize_onnx`.
        per_channel: See `quantize_onnx`.
        exclude: Nodes that stay in fp32 in any case; layers without others are left out.
        deadline: Time of `time.monotonic` at which to stop; layers not measured by then are left out.

    Raises:
        DataError: `forms` has no calibration data.
        EvaluationError: The fp32 network does not run.
    """
    feeds = forms.need_data()
    some = _first(feeds, SAMPLES)
    wanted = _outputs(OnnxSession(forms.model.SerializeToString()), some)
    found = []
    for layer in forms.layers:
        if not set(layer.nodes) - set(exclude):
            continue
        if deadline is not None and time.monotonic() >= deadline:
            break
        others = [node for each in forms.layers if each != layer for node in each.nodes]
        try:
            session = OnnxSession(forms.build(method, per_channel, {*others, *exclude}))
            error = _error(_outputs(session, some), wanted)
        except (CheckpointError, EvaluationError):
            error = math.inf
        found.append(LayerSensitivity(layer, error if not math.isnan(error) else math.inf))
    return sorted(found, key=lambda each: -each.error)


def _first(feeds: Sequence[Feed], count: int) -> list[Feed]:
    """Return as many batches as hold `count` samples."""
    taken: list[Feed] = []
    for feed in feeds:
        if samples(taken) >= count:
            break
        taken.append(feed)
    return taken


def _outputs(session: OnnxSession, feeds: Sequence[Feed]) -> list[list[NDArray[Any]]]:
    """Return the floating-point outputs for each batch."""
    runs = []
    for feed in feeds:
        outputs = session(*as_tensors(feed))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        runs.append([each.numpy() for each in outputs if each.is_floating_point()])
    return runs


def _error(got: list[list[NDArray[Any]]], wanted: list[list[NDArray[Any]]]) -> float:
    """Return the squared error as a share of the squared wanted values, averaged over the outputs."""
    shares = []
    for one, other in zip(zip(*got, strict=True), zip(*wanted, strict=True), strict=True):
        noise = sum(float(np.square(a - b, dtype=np.float64).sum()) for a, b in zip(one, other, strict=True))
        power = sum(float(np.square(b, dtype=np.float64).sum()) for b in other)
        shares.append(noise / power if power else (math.inf if noise else 0.0))
    return float(np.mean(shares)) if shares else 0.0
