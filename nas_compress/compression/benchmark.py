"""Measuring exported files: what the user gets, not what the search believed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nas_compress.backends import Backend, Session
from nas_compress.backends.base import as_tuple
from nas_compress.backends.hardware import describe_hardware
from nas_compress.backends.onnxruntime import OnnxRuntimeBackend, OnnxSession
from nas_compress.backends.torch import TorchBackend, TorchSession
from nas_compress.compression.domains import Network, first_images
from nas_compress.compression.inc import load_int8
from nas_compress.data.base import ImageSplit
from nas_compress.errors import CheckpointError
from nas_compress.objectives.base import Measurement
from nas_compress.objectives.quality import accuracy
from nas_compress.objectives.timing import DEFAULT_SETTINGS, LatencyStats, TimingSettings, measure_latencies
from nas_compress.supernets.base import Inputs
from nas_compress.tasks import QUALITIES, Quality


@dataclass(frozen=True)
class Deployed:
    """An exported file, and what it is measured on.

    Attributes:
        path: An ONNX file, a `.pt2` file of `Int8Module.save`, or weights (`.safetensors`).
        quality: Returns the figure of quality of a network.
        example: What its latency is measured on.
        module: The network that weights are of; it runs in PyTorch.
    """

    path: Path
    quality: Callable[[Network], Measurement]
    example: Inputs
    module: nn.Module | None = None


@dataclass(frozen=True)
class Artefact:
    """An exported network that takes images, to measure.

    Attributes:
        path: An ONNX file, or a `.pt2` file of `Int8Module.save`.
        resolution: Height and width of its input in pixels.
    """

    path: Path
    resolution: int


@dataclass(frozen=True)
class Timed:
    """The latency of an exported network.

    Attributes:
        latency: Of one run on `context["batch_size"]` examples.
        context: Backend, versions, hardware, threads and batch size.
    """

    latency: LatencyStats
    context: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for JSON."""
        return {"latency": self.latency.to_dict(), "context": dict(self.context)}


@dataclass(frozen=True)
class ArtefactFigures:
    """What an exported network measured.

    Attributes:
        metric: What its figure of quality is.
        quality: That figure and its standard error.
        latency: Of one run on `context["batch_size"]` examples.
        size_bytes: Of the file.
        context: Backend, versions, hardware, threads and batch size of the latency.
    """

    metric: Quality
    quality: Measurement
    latency: LatencyStats
    size_bytes: int
    context: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for JSON; `metric` says under which name the figure of quality is."""
        figure = self.quality
        return {
            "metric": self.metric.name,
            self.metric.name: {"value": figure.value, "spread": figure.spread, **figure.provenance},
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
    """Measure exported networks that take images: accuracy, and latency in turns so that the figures compare.

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

    def deployed(artefact: Artefact) -> Deployed:
        size = artefact.resolution
        score = partial(accuracy, split=split, resolution=size, batch_size=eval_batch_size)
        return Deployed(artefact.path, score, first_images(split, size, batch_size))

    files = {name: deployed(artefact) for name, artefact in artefacts.items()}
    return measure_files(files, QUALITIES["accuracy"], threads=threads, settings=settings)


def measure_files(
    files: Mapping[str, Deployed], metric: Quality, *, threads: int = 1, settings: TimingSettings = DEFAULT_SETTINGS
) -> dict[str, ArtefactFigures]:
    """Measure exported files of any task: quality, and latency in turns so that the figures compare.

    ONNX files run in ONNX Runtime, all others in PyTorch; the figures' context says which.

    Args:
        files: The files by name.
        metric: What their quality is.
        threads: Threads within one operation.
        settings: How long to measure each latency.

    Raises:
        CheckpointError: A file is missing or cannot be loaded.
        EvaluationError: A network gives outputs that are not finite.
    """
    loaded = {name: _load(file, threads) for name, file in files.items()}
    scores = {name: file.quality(file.module or loaded[name][0]) for name, file in files.items()}
    timed = _timed(files, loaded, threads, settings)
    return {
        name: ArtefactFigures(metric, scores[name], timed[name].latency, file.path.stat().st_size, timed[name].context)
        for name, file in files.items()
    }


def time_files(
    files: Mapping[str, Deployed], *, threads: int = 1, settings: TimingSettings = DEFAULT_SETTINGS
) -> dict[str, Timed]:
    """Measure the latency alone of exported files; see `measure_files`."""
    return _timed(files, {name: _load(file, threads) for name, file in files.items()}, threads, settings)


def _timed(
    files: Mapping[str, Deployed],
    loaded: Mapping[str, tuple[Session, dict[str, Any]]],
    threads: int,
    settings: TimingSettings,
) -> dict[str, Timed]:
    with ExitStack() as stack:
        bound = {name: loaded[name][0].bound(*as_tuple(file.example)) for name, file in files.items()}
        runs = {name: stack.enter_context(run) for name, run in bound.items()}
        latencies = measure_latencies(runs, settings, threads=threads)
    return {name: Timed(latencies[name], loaded[name][1] | _conditions(file, threads)) for name, file in files.items()}


def _conditions(file: Deployed, threads: int) -> dict[str, Any]:
    """Return what latency was measured on, besides the backend; images are as large as the architecture says."""
    inputs = as_tuple(file.example)
    conditions = {"hardware": describe_hardware(), "threads": threads, "batch_size": len(inputs[0])}
    return conditions if isinstance(file.example, Tensor) else conditions | {"inputs": [list(x.shape) for x in inputs]}


def _load(file: Deployed, threads: int) -> tuple[Session, dict[str, Any]]:
    """Return a session for a file, and the backend and versions that run it."""
    path = file.path
    if not path.is_file():
        raise CheckpointError(f"no exported network at {path}")
    backend: type[Backend]
    session: Session
    if path.suffix == ".onnx":
        backend, session = OnnxRuntimeBackend, OnnxSession(path, threads)
    elif path.suffix == ".pt2" and isinstance(file.example, Tensor):
        backend, session = TorchBackend, TorchSession(load_int8(path, file.example, threads=threads), threads)
    elif file.module is not None:
        backend, session = TorchBackend, TorchBackend().compile(file.module, file.example, threads)
    else:
        raise CheckpointError(f"{path} cannot be measured; allowed: .onnx files and .pt2 files of `quantize`")
    return session, {"backend": backend.name, "versions": dict(backend.version())}
