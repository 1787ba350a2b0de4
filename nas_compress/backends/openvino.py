"""OpenVINO as a backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from nas_compress.backends.base import Backend, Precision, Session
from nas_compress.backends.onnx import to_onnx
from nas_compress.errors import EvaluationError, first_line

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nas_compress.supernets.base import Inputs


class OpenVinoSession(Session):
    """An ONNX model that OpenVINO compiled for the CPU; arguments as in `OpenVinoBackend.portable`."""

    def __init__(self, model: bytes, precision: Precision, threads: int) -> None:
        import openvino

        options = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        core = openvino.Core()
        try:
            self._request = core.compile_model(core.read_model(model), "CPU", options).create_infer_request()
        except RuntimeError as error:
            raise EvaluationError(f"OpenVINO cannot take this network: {first_line(error)}") from error

    def __call__(self, *inputs: Tensor) -> Any:
        """Return the model's output or outputs; see `Session.__call__`."""
        import torch

        with self.bound(*inputs) as run:
            outputs = tuple(torch.from_numpy(each.copy()) for each in run().to_tuple())
        return outputs[0] if len(outputs) == 1 else outputs

    @contextmanager
    def bound(self, *inputs: Tensor) -> Iterator[Callable[[], Any]]:
        """Yield a function that runs the model once on NumPy arrays; see `Session.bound`."""
        feed = [each.detach().contiguous().numpy() for each in inputs]
        request = self._request
        yield lambda: request.infer(feed, share_inputs=True, share_outputs=True)


class OpenVinoBackend(Backend):
    """OpenVINO's CPU plugin, from the ONNX form, in fp32 or bf16 (the latter wants AVX-512 BF16 or AMX)."""

    name = "openvino"
    packages = ("openvino", "torch")
    extra = "openvino"
    precisions = ("fp32", "bf16")

    def compile(self, module: nn.Module, example: Inputs, threads: int = 1) -> Session:
        """Export the module and compile it; see `Backend.compile`."""
        return self.portable(module, example)(threads)

    def portable(self, module: nn.Module, example: Inputs) -> Callable[[int], Session]:
        """Return a function that compiles the exported module; see `Backend.portable`."""
        return partial(OpenVinoSession, to_onnx(module, example), self.precision)
