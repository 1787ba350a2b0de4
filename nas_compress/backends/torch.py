"""PyTorch as a backend."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nas_compress.backends.base import Backend, Session

if TYPE_CHECKING:
    from torch import Tensor, nn


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


class TorchSession(Session):
    """A torch module run without autograd.

    Args:
        module: Callable on one tensor, in evaluation mode.
        threads: Threads within one operation.
        channels_last: Whether image inputs, shape (N, C, H, W), are laid out with the channels last.
    """

    def __init__(self, module: Callable[[Tensor], Tensor], threads: int, *, channels_last: bool = False) -> None:
        self._module = module
        self._threads = threads
        self._channels_last = channels_last

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the module's output; see `Session.__call__`."""
        with self.bound(inputs) as run:
            output: Tensor = run()
        return output

    @contextmanager
    def bound(self, inputs: Tensor) -> Iterator[Callable[[], Any]]:
        """Yield a function that runs the module once; see `Session.bound`."""
        import torch

        if self._channels_last and inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with torch_threads(self._threads), torch.no_grad():
            yield lambda: self._module(inputs)


class TorchBackend(Backend):
    """Eager PyTorch on the CPU, with channels last where the input is an image."""

    name = "torch"
    packages = ("torch",)

    def compile(self, module: nn.Module, example: Tensor, threads: int = 1) -> Session:
        """Return a session on a copy of the module; see `Backend.compile`."""
        import torch

        channels_last = example.ndim == 4
        module = copy.deepcopy(module).eval()
        if channels_last:
            module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return TorchSession(module, threads, channels_last=channels_last)
