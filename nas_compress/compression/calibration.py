"""Calibration data: its checks, and the ranges of activations that come from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas_compress.backends.onnxruntime import OnnxSession
from nas_compress.compression.onnx_layers import float_tensors
from nas_compress.errors import DataError, EvaluationError
from nas_compress.supernets.base import Inputs

Feed = dict[str, NDArray[Any]]
"""One batch of inputs, by the name of the input."""

BINS = 2048
"""Bins of the histogram of an activation's absolute values."""

PERCENTILE = 99.999
"""Share of values in % that the method `percentile` keeps, as ONNX Runtime does."""

LEVELS, STRIDE = 128, 32
"""Levels of 8 bits on one side of zero, and bins between two thresholds that the method `entropy` compares."""

ACTIVATION_BYTES = 2**28
"""Memory for the activations of one run; a batch is split so that they fit, down to single samples."""


def calibration_batches(calibration: object) -> list[tuple[Tensor, ...]]:
    """Return calibration batches, each as a tuple of its inputs.

    Raises:
        DataError: They are no batches, or one is neither a tensor nor a tuple of tensors with the batch first.
    """
    if not isinstance(calibration, Iterable):
        raise DataError(f"calibration is a {type(calibration).__name__}; wants batches: tensors, or tuples of tensors")
    batches = []
    for number, batch in enumerate(calibration):
        tensors = tuple(batch) if isinstance(batch, tuple | list) else (batch,)
        if not tensors or not all(isinstance(each, Tensor) for each in tensors):
            kind = type(batch).__name__
            raise DataError(f"calibration batch {number} is a {kind}; wants a tensor, or a tuple of tensors")
        if not all(each.dim() for each in tensors):
            raise DataError(f"calibration batch {number} has a single number for a tensor; wants the batch first")
        batches.append(tensors)
    return batches


def calibration_feeds(model: onnx.ModelProto, calibration: Iterable[Inputs]) -> list[Feed]:
    """Return calibration batches by input name, after checking all of them against a model's inputs.

    Args:
        model: What will be calibrated.
        calibration: A tensor for each batch, or the inputs by position; the batch comes first in each.

    Raises:
        DataError: There is no batch or an empty one, or one of another number of inputs, shape or type than the model
            takes, or with values that are not finite.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    wanted = [each for each in model.graph.input if each.name not in constants]
    feeds = []
    for number, tensors in enumerate(calibration_batches(calibration)):
        if len(tensors) != len(wanted):
            names = ", ".join(each.name for each in wanted)
            raise DataError(
                f"calibration batch {number} has {len(tensors)} inputs, the model takes {len(wanted)}: {names}"
            )
        for info, each in zip(wanted, tensors, strict=True):
            _check(info, each, f"calibration batch {number}, input {info.name!r}")
        sizes = [len(each) for each in tensors]
        if len(set(sizes)) > 1:
            raise DataError(f"calibration batch {number} has inputs of different batch sizes: {sizes}")
        arrays = [each.detach().cpu().contiguous().numpy() for each in tensors]
        feeds.append({info.name: array for info, array in zip(wanted, arrays, strict=True)})
    if not feeds:
        raise DataError("quantization wants at least one batch of calibration data, got none")
    return feeds


def _check(info: onnx.ValueInfoProto, tensor: Tensor, what: str) -> None:
    kind = onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type).name
    got = str(tensor.dtype).removeprefix("torch.")
    if got != kind:
        raise DataError(f"{what}: {got} values, the model takes {kind}")
    wanted = [dim.dim_value or dim.dim_param or "any" for dim in info.type.tensor_type.shape.dim]
    shape = tuple(tensor.shape)
    fits = len(wanted) == len(shape) and all(w == n for w, n in zip(wanted, shape, strict=True) if isinstance(w, int))
    if not fits:
        raise DataError(f"{what}: shape {shape}, the model takes ({', '.join(map(str, wanted))})")
    if not tensor.numel():
        raise DataError(f"{what}: empty, of shape {shape}")
    if tensor.is_floating_point() and (bad := int((~torch.isfinite(tensor)).sum())):
        raise DataError(f"{what}: {bad} of {tensor.numel()} values are NaN or infinite")


def samples(feeds: Sequence[Feed]) -> int:
    """Return how many samples there are in batches."""
    return sum(len(next(iter(feed.values()))) for feed in feeds)


def as_tensors(feed: Feed) -> list[Tensor]:
    """Return the inputs of a batch by position."""
    return [torch.from_numpy(array) for array in feed.values()]


class Activations:
    """The fp32 activations of a model on calibration data, and the ranges to quantize them in.

    Memory is bounded: activations of one run at a time (see `ACTIVATION_BYTES`), and a histogram of `BINS` counts for
    each. The data is run once for extremes, and once more for histograms if a method wants them.

    Args:
        model: With shapes inferred.
        feeds: Checked batches.

    Raises:
        EvaluationError: The model cannot run, or gives activations that are not finite.
    """

    def __init__(self, model: onnx.ModelProto, feeds: Sequence[Feed]) -> None:
        self._feeds = feeds
        self.tensors = sorted(float_tensors(model.graph))
        first = model.graph.input[0].type.tensor_type.shape.dim
        self._any_batch = bool(first) and not first[0].dim_value
        given = {each.name for each in (*model.graph.input, *model.graph.output)}
        infos = {each.name: each for each in model.graph.value_info}
        exposed = onnx.ModelProto()
        exposed.CopyFrom(model)
        exposed.graph.output.extend(infos[name] for name in self.tensors if name not in given)
        self._outputs = [each.name for each in exposed.graph.output]
        self._session = OnnxSession(exposed.SerializeToString())

    def ranges(self, method: str) -> dict[str, tuple[float, float]]:
        """Return the lowest and highest value to tell apart, by the name of the activation.

        Args:
            method: `minmax` (the extremes), `percentile` (what `PERCENTILE` of the absolute values stay under), or
                `entropy` (the threshold at which the quantized distribution diverges least from the original:
                Migacz, "8-bit inference with TensorRT", GTC 2017).
        """
        if method == "minmax":
            return self.extremes
        threshold: Callable[[NDArray[Any]], float] = {"percentile": _percentile, "entropy": _entropy}[method]
        ranges = {}
        for name, (low, high) in self.extremes.items():
            limit = threshold(self.histograms[name]) * max(-low, high)
            ranges[name] = (max(low, -limit), min(high, limit))
        return ranges

    @cached_property
    def extremes(self) -> dict[str, tuple[float, float]]:
        """The lowest and highest value of each activation."""
        found: dict[str, tuple[float, float]] = {}
        for values in self._runs():
            for name, array in values.items():
                low, high = float(array.min()), float(array.max())
                if not np.isfinite([low, high]).all():
                    raise EvaluationError(f"quantize: activation {name!r} is not finite on the calibration data")
                before = found.get(name, (low, high))
                found[name] = (min(low, before[0]), max(high, before[1]))
        return found

    @cached_property
    def histograms(self) -> dict[str, NDArray[Any]]:
        """Counts of absolute values in `BINS` equal bins from 0 to the largest, by activation."""
        counts = {name: np.zeros(BINS, np.int64) for name in self.tensors}
        for values in self._runs():
            for name, array in values.items():
                low, high = self.extremes[name]
                top = max(-low, high) or 1.0
                bins = (np.abs(array.ravel()).astype(np.float64) / top * (BINS - 1e-6)).astype(np.intp)
                counts[name] += np.bincount(bins, minlength=BINS)
        return counts

    def _runs(self) -> Iterator[Mapping[str, NDArray[Any]]]:
        """Yield the activations of one run after the other."""
        size = self._run_size()
        for feed in self._feeds:
            count = samples([feed])
            step = size or count
            for start in range(0, count, step):
                yield self._run({name: array[start : start + step] for name, array in feed.items()})

    def _run_size(self) -> int:
        """Return how many samples to run at once; 0 where the model fixes the batch size."""
        if not self._any_batch:
            return 0
        one = self._run({name: array[:1] for name, array in self._feeds[0].items()})
        return max(1, ACTIVATION_BYTES // max(1, sum(array.nbytes for array in one.values())))

    def _run(self, feed: Feed) -> dict[str, NDArray[Any]]:
        outputs = self._session(*as_tensors(feed))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        arrays = {name: output.numpy() for name, output in zip(self._outputs, outputs, strict=True)}
        return {name: array for name in self.tensors if (array := arrays.get(name, feed.get(name))) is not None}


def _percentile(counts: NDArray[Any]) -> float:
    """Return the share of the largest value under which `PERCENTILE` of the values lie."""
    cumulated = np.cumsum(counts)
    return float(np.searchsorted(cumulated, cumulated[-1] * PERCENTILE / 100) + 1) / len(counts)


def _entropy(counts: NDArray[Any]) -> float:
    """Return the share of the largest value at which cutting off diverges least from the original."""
    kept = np.arange(LEVELS, len(counts) + 1, STRIDE)
    best = min(reversed(kept), key=lambda bins: _divergence(counts, int(bins)))
    return float(best) / len(counts)


def _divergence(counts: NDArray[Any], bins: int) -> float:
    """Return the Kullback-Leibler divergence of counts in `LEVELS` levels over the first bins from all counts."""
    inside = counts[:bins].astype(float)
    level = np.arange(bins) * LEVELS // bins
    occupied = inside > 0
    means = np.bincount(level, inside, LEVELS) / np.maximum(np.bincount(level, occupied, LEVELS), 1)
    quantized = np.where(occupied, means[level], 0)
    original = inside.copy()
    original[-1] += counts[bins:].sum()
    there = original > 0
    p = original[there] / original.sum()
    q = np.maximum(quantized[there] / max(quantized.sum(), 1.0), 1e-12)
    return float((p * np.log(p / q)).sum())
