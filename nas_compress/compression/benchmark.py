"""Measuring exported files: what the user gets, not what the search believed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas_compress.backends import Backend, Session
from nas_compress.backends.hardware import describe_hardware
from nas_compress.backends.onnxruntime import OnnxRuntimeBackend, OnnxSession
from nas_compress.backends.torch import TorchBackend, TorchSession
from nas_compress.compression.inc import load_int8
from nas_compress.data.base import ImageSplit
from nas_compress.errors import CheckpointError
from nas_compress.objectives.base import Measurement
from nas_compress.objectives.quality import accuracy
from nas_compress.objectives.timing import DEFAULT_SETTINGS, LatencyStats, TimingSettings, measure_latencies


@dataclass(frozen=True)
class Artefact:
    """An exported model to measure.

    Attributes:
        path: An ONNX file, or a `.pt2` file of `Int8Module.save`.
        resolution: Height and width of its input in pixels.
    """

    path: Path
    resolution: int


@dataclass(frozen=True)
class ArtefactFigures:
    """What an exported model measured.

    Attributes:
        accuracy: Top-1 accuracy in % and its standard error.
        latency: Of one run on `context["batch_size"]` images.
        size_bytes: Of the file.
        context: Backend, versions, hardware, threads and batch size of the latency.
    """

    accuracy: Measurement
    latency: LatencyStats
    size_bytes: int
    context: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for JSON."""
        score = self.accuracy
        return {
            "accuracy": {"value": score.value, "spread": score.spread, **score.provenance},
            "latency": self.latency.to_dict(),
            "size_bytes": self.size_bytes,
            "context": dict(self.context),
        }


def measure_artefacts(
    artefacts: Mapping[str, Artefact],
    split: ImageSplit,
    *,
    batch_size: int = 1,
    threads: int = 1,
    eval_batch_size: int = 64,
    settings: TimingSettings = DEFAULT_SETTINGS,
) -> dict[str, ArtefactFigures]:
    """Measure exported files: accuracy, and latency in turns so that the figures compare.

    Args:
        artefacts: The files by name.
        split: Labelled images; for final figures, the test part.
        batch_size: Images per run for latency.
        threads: Threads within one operation.
        eval_batch_size: Images per run for accuracy.
        settings: How long to measure each latency.

    Raises:
        CheckpointError: A file is missing or cannot be loaded.
        EvaluationError: A network gives logits that are not finite.
    """
    examples = {name: _example(split, artefact.resolution, batch_size) for name, artefact in artefacts.items()}
    loaded = {name: _load(artefact.path, examples[name], threads) for name, artefact in artefacts.items()}
    scores = {
        name: accuracy(loaded[name][0], split, artefact.resolution, eval_batch_size)
        for name, artefact in artefacts.items()
    }
    with ExitStack() as stack:
        runs = {name: stack.enter_context(session.bound(examples[name])) for name, (session, _) in loaded.items()}
        latencies = measure_latencies(runs, settings, threads=threads)
    where = {"hardware": describe_hardware(), "threads": threads, "batch_size": batch_size}
    return {
        name: ArtefactFigures(scores[name], latencies[name], artefact.path.stat().st_size, loaded[name][1] | where)
        for name, artefact in artefacts.items()
    }


def _load(path: Path, example: Tensor, threads: int) -> tuple[Session, dict[str, Any]]:
    """Return a session for a file, and the backend and versions that run it."""
    if not path.is_file():
        raise CheckpointError(f"no exported network at {path}")
    backend: type[Backend]
    session: Session
    if path.suffix == ".onnx":
        backend, session = OnnxRuntimeBackend, OnnxSession(path, threads)
    elif path.suffix == ".pt2":
        backend, session = TorchBackend, TorchSession(load_int8(path, example, threads=threads), threads)
    else:
        raise CheckpointError(f"{path} cannot be measured; allowed: .onnx files and .pt2 files of `quantize`")
    return session, {"backend": backend.name, "versions": dict(backend.version())}


def _example(split: ImageSplit, resolution: int, batch_size: int) -> Tensor:
    """Return the first images of the split, over again where it has fewer than `batch_size`."""
    return split.images(torch.arange(batch_size) % len(split), resolution)
