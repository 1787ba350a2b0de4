"""ONNX Runtime as a backend."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_compress.backends.base import Backend, Session
from nas_compress.backends.onnx import INPUT, OPSET, OUTPUT, to_onnx
from nas_compress.errors import CheckpointError, EvaluationError, first_line

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nas_compress.supernets.base import Inputs

__all__ = ["INPUT", "OPSET", "OUTPUT", "OnnxRuntimeBackend", "OnnxSession", "to_onnx"]


class OnnxSession(Session):
    """An ONNX model on the CPU.

    Args:
        model: A path, or the model's bytes.
        threads: Threads within one operation.

    Attributes:
        input_names: Names of the inputs in order.

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
        self._wanted = [(each.name, each.shape) for each in self._session.get_inputs()]

    @property
    def input_names(self) -> list[str]:
        """Names of the inputs, in order."""
        return [name for name, _ in self._wanted]

    @property
    def input_name(self) -> str:
        """Name of the first input."""
        return self.input_names[0]

    @property
    def metadata(self) -> dict[str, str]:
        """The model's custom metadata."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def __call__(self, *inputs: Tensor) -> Any:
        """Return the model's output or outputs; see `Session.__call__`.

        Raises:
            EvaluationError: The model takes inputs of another number, shape or type.
        """
        import torch

        with self.bound(*inputs) as run:
            try:
                outputs = tuple(map(torch.from_numpy, run()))
            except Exception as error:  # see above
                raise EvaluationError(f"ONNX Runtime cannot run the model: {first_line(error)}") from error
        return outputs[0] if len(outputs) == 1 else outputs

    @contextmanager
    def bound(self, *inputs: Tensor) -> Iterator[Callable[[], Any]]:
        """Yield a function that runs the model once on NumPy arrays; see `Session.bound`.

        Raises:
            EvaluationError: The model takes inputs of another number or shape.
        """
        self._check_shapes([tuple(each.shape) for each in inputs])
        feed = {name: each.detach().contiguous().numpy() for name, each in zip(self.input_names, inputs, strict=True)}
        session = self._session
        yield lambda: session.run(None, feed)

    def _check_shapes(self, shapes: list[tuple[int, ...]]) -> None:
        if len(shapes) != len(self._wanted):
            names = ", ".join(self.input_names)
            raise EvaluationError(f"the ONNX model takes {len(self._wanted)} inputs ({names}), got {len(shapes)}")
        for (name, wanted), shape in zip(self._wanted, shapes, strict=True):
            fits = len(wanted) == len(shape) and all(
                w == n for w, n in zip(wanted, shape, strict=True) if isinstance(w, int)
            )
            if not fits:
                which = "inputs" if len(shapes) == 1 else repr(name)
                raise EvaluationError(f"the ONNX model takes {which} of shape {tuple(wanted)}, got {shape}")


class OnnxRuntimeBackend(Backend):
    """ONNX Runtime's CPU provider with all graph optimisations (about half a second to export and load)."""

    name = "onnxruntime"
    packages = ("onnxruntime", "torch")

    def compile(self, module: nn.Module, example: Inputs, threads: int = 1) -> Session:
        """Export the module and load it; see `Backend.compile`."""
        return self.portable(module, example)(threads)

    def portable(self, module: nn.Module, example: Inputs) -> Callable[[int], Session]:
        """Return a function that loads the exported module; see `Backend.portable`."""
        return partial(_load, to_onnx(module, example))


def _load(model: bytes, threads: int) -> OnnxSession:
    try:
        return OnnxSession(model, threads)
    except CheckpointError as error:
        logging.getLogger(__name__).debug("unloadable export", exc_info=True)
        raise EvaluationError(str(error)) from error
