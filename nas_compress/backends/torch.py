"""PyTorch as a backend: eager, or compiled by Inductor."""

from __future__ import annotations

import copy
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from nas_compress.backends.base import Backend, Precision, Session, as_tuple
from nas_compress.errors import ConfigError, EvaluationError, first_line
from nas_compress.layout import channels_last, is_image

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nas_compress.supernets.base import Inputs

COMPILER = "clang++" if sys.platform == "darwin" else "g++"
"""What Inductor compiles with where the environment has no CXX."""


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let torch use so many threads within one operation; the number is global, so it is put back."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def inference(threads: int, precision: Precision = "fp32") -> Iterator[None]:
    """Let torch run without autograd on so many threads; in bf16, with autocast."""
    import torch

    with ExitStack() as stack:
        stack.enter_context(torch_threads(threads))
        stack.enter_context(torch.no_grad())
        if precision == "bf16":
            stack.enter_context(torch.autocast("cpu", dtype=torch.bfloat16))
        yield


class TorchSession(Session):
    """A torch module run without autograd.

    Args:
        module: Takes tensors by position, in evaluation mode.
        threads: Threads within one operation.
        channels_last: Whether image inputs, shape (N, C, H, W), are laid out with the channels last.
        precision: What it computes in; anything but fp32 means autocast.
    """

    def __init__(
        self,
        module: Callable[..., Any],
        threads: int,
        *,
        channels_last: bool = False,
        precision: Precision = "fp32",
    ) -> None:
        self._module = module
        self._threads = threads
        self._channels_last = channels_last
        self._precision = precision

    def __call__(self, *inputs: Tensor) -> Any:
        """Return the module's output or outputs; see `Session.__call__`."""
        with self.bound(*inputs) as run:
            outputs = run()
        return tuple(map(_fp32, outputs)) if isinstance(outputs, (tuple, list)) else _fp32(outputs)

    @contextmanager
    def bound(self, *inputs: Tensor) -> Iterator[Callable[[], Any]]:
        """Yield a function that runs the module once; see `Session.bound`."""
        laid_out = [channels_last(each) if self._channels_last else each for each in inputs]
        with inference(self._threads, self._precision):
            yield lambda: self._module(*laid_out)


def _fp32(output: Tensor) -> Tensor:
    return output.float() if output.is_floating_point() else output


def _laid_out(module: nn.Module, example: Inputs) -> tuple[nn.Module, bool]:
    """Return a copy in evaluation mode, and whether it is with the channels last: of images, where it takes them so."""
    import torch

    from nas_compress.objectives.modes import takes_channels_last

    inputs = as_tuple(example)
    module = copy.deepcopy(module).eval()
    last = any(map(is_image, inputs)) and takes_channels_last(module, *inputs)
    if last:
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module, last


class TorchBackend(Backend):
    """Eager PyTorch on the CPU, with channels last where a network takes images so; bf16 is autocast."""

    name = "torch"
    packages = ("torch",)
    precisions = ("fp32", "bf16")

    def compile(self, module: nn.Module, example: Inputs, threads: int = 1) -> Session:
        """Return a session on a copy of the module; see `Backend.compile`."""
        module, last = _laid_out(module, example)
        return TorchSession(module, threads, channels_last=last, precision=self.precision)


class FixedShapeSession(TorchSession):
    """A torch module that was compiled for inputs of these shapes alone; see `TorchSession`.

    Args:
        module: Takes tensors by position, in evaluation mode.
        threads: Threads within one operation.
        shapes: The shapes of its inputs.
        channels_last: See `TorchSession`.
    """

    def __init__(
        self,
        module: Callable[..., Any],
        threads: int,
        shapes: Sequence[tuple[int, ...]],
        *,
        channels_last: bool = False,
    ) -> None:
        super().__init__(module, threads, channels_last=channels_last)
        self._shapes = list(shapes)

    @contextmanager
    def bound(self, *inputs: Tensor) -> Iterator[Callable[[], Any]]:
        """Yield a function that runs the module once; inputs of other shapes raise `EvaluationError`."""
        if (given := shapes_of(inputs)) != self._shapes:
            raise EvaluationError(f"the network was compiled for inputs of shapes {self._shapes}, got {given}")
        with super().bound(*inputs) as run:
            yield run


def shapes_of(inputs: Sequence[Tensor]) -> list[tuple[int, ...]]:
    """Return the shapes of inputs."""
    return [tuple(each.shape) for each in inputs]


class TorchCompileBackend(Backend):
    """PyTorch compiled by Inductor with frozen weights, for the example's shapes and number of threads alone.

    One network takes 10 to 110 seconds to build and a C++ compiler: for a few networks rather than for a search. The
    module is exported first, since `torch.compile` keys what it has compiled by the code of `forward`: after eight
    networks of the same class it would run the next ones eagerly.

    A module that INC quantized (`GraphModule`) is exported already, and compiled as `quantize_inc` does.
    """

    name = "torch_compile"
    packages = ("torch",)
    slow_build = "10 to 110 s"

    @classmethod
    def check(cls) -> None:
        """Look for a C++ compiler; see `Backend.check`."""
        super().check()
        named = os.environ.get("CXX")
        if shutil.which(named or COMPILER) is None:
            absent = f"{COMPILER} is not installed, and CXX names no other"
            missing = f"CXX = {named!r} is not there" if named else absent
            raise ConfigError(f"backend 'torch_compile' wants a C++ compiler: {missing}")

    def compile(self, module: nn.Module, example: Inputs, threads: int = 1) -> Session:
        """Export and compile the module, and run it twice; see `Backend.compile`."""
        self.check()
        import torch

        from nas_compress.compression.inc_module import GraphModule

        if isinstance(module, GraphModule):
            with torch_threads(threads):
                quantized = module.compiled(example)
            return FixedShapeSession(quantized, threads, shapes_of(as_tuple(example)))
        module, last = _laid_out(module, example)
        inputs = tuple(map(channels_last, as_tuple(example))) if last else as_tuple(example)
        try:
            with inference(threads), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                graph = torch.export.export(module, inputs).module()
                compiled = torch.compile(graph, fullgraph=True, dynamic=False, options={"freezing": True})
                for _ in range(2):
                    compiled(*inputs)
        except Exception as error:  # the tracer's, Inductor's and the compiler's errors share no base
            raise EvaluationError(f"torch.compile cannot take this network: {first_line(error)}") from error
        return FixedShapeSession(compiled, threads, shapes_of(inputs), channels_last=last)
