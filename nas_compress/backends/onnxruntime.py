"""ONNX Runtime as a backend, and the one way from a torch module to ONNX."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from nas_compress.backends.base import Backend, Session
from nas_compress.errors import CheckpointError, EvaluationError, first_line

if TYPE_CHECKING:
    from torch import Tensor, nn

INPUT = "input"
OUTPUT = "output"
OPSET = 17


def to_onnx(module: nn.Module, example: Tensor) -> bytes:
    """Return the ONNX form of a module in evaluation mode, with a dynamic batch.

    The tracing exporter is used on purpose: the newer one takes ten times as long, which a search would pay for
    every architecture.

    Args:
        module: Maps one tensor to one tensor; given back in the mode it had.
        example: An input with the batch first.

    Raises:
        EvaluationError: torch cannot export the module.
    """
    import torch

    from nas_compress.objectives.modes import evaluating

    try:
        with TemporaryDirectory() as folder, torch.no_grad(), evaluating(module), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = Path(folder) / "model.onnx"
            torch.onnx.export(
                module,
                (example,),
                path,
                dynamo=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
            )
            return path.read_bytes()
    except (RuntimeError, ValueError, TypeError, torch.onnx.errors.OnnxExporterError) as error:
        raise EvaluationError(f"the export to ONNX failed: {first_line(error)}") from error


class OnnxSession(Session):
    """An ONNX model with one input and one output, on the CPU.

    Args:
        model: A path, or the model's bytes.
        threads: Threads within one operation.

    Raises:
        CheckpointError: The file is missing, or ONNX Runtime cannot load it.
    """

    def __init__(self, model: Path | bytes, threads: int = 1) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Sessions that are timed in turns must not spin on one another's cores.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        source = model if isinstance(model, bytes) else str(model)
        try:
            self._session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own exceptions share no public base
            what = "the exported model" if isinstance(model, bytes) else str(model)
            raise CheckpointError(f"ONNX Runtime cannot load {what}: {first_line(error)}") from error
        self.input_name: str = self._session.get_inputs()[0].name

    @property
    def metadata(self) -> dict[str, str]:
        """The model's custom metadata."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the model's output; see `Session.__call__`."""
        import torch

        with self.bound(inputs) as run:
            return torch.from_numpy(run()[0])

    @contextmanager
    def bound(self, inputs: Tensor) -> Iterator[Callable[[], Any]]:
        """Yield a function that runs the model once on a NumPy array; see `Session.bound`.

        Raises:
            EvaluationError: The model takes inputs of another shape.
        """
        self._check_shape(tuple(inputs.shape))
        feed = {self.input_name: inputs.detach().contiguous().numpy()}
        session = self._session
        yield lambda: session.run(None, feed)

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        wanted = self._session.get_inputs()[0].shape
        fits = len(wanted) == len(shape) and all(
            w == n for w, n in zip(wanted, shape, strict=True) if isinstance(w, int)
        )
        if not fits:
            raise EvaluationError(f"the ONNX model takes inputs of shape {tuple(wanted)}, got {shape}")


class OnnxRuntimeBackend(Backend):
    """ONNX Runtime's CPU provider with all graph optimisations (about half a second to export and load)."""

    name = "onnxruntime"
    packages = ("onnxruntime", "torch")

    def compile(self, module: nn.Module, example: Tensor, threads: int = 1) -> Session:
        """Export the module and load it; see `Backend.compile`."""
        try:
            return OnnxSession(to_onnx(module, example), threads)
        except CheckpointError as error:
            logging.getLogger(__name__).debug("unloadable export", exc_info=True)
            raise EvaluationError(str(error)) from error
