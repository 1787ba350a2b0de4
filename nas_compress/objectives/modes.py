"""Evaluation mode, memory layout and other kernels for the length of a `with` block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas_compress.layout import channels_last


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put `module` in evaluation mode, then give every submodule back the mode it had."""
    before = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.training = training


@contextmanager
def traceable_attention() -> Iterator[None]:
    """Let `nn.MultiheadAttention` and encoders compute in plain operations, which can be traced, not by a kernel."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def takes_channels_last(network: nn.Module, *inputs: Tensor) -> bool:
    """Return whether a network computes on images with the channels last: one that flattens them by `view` does not.

    It is tried out on the inputs, in evaluation mode.
    """
    with torch.no_grad(), evaluating(network):
        try:
            network(*map(channels_last, inputs))
        except RuntimeError:
            return False
    return True


@contextmanager
def laid_out(module: nn.Module) -> Iterator[Callable[[Tensor], Tensor]]:
    """Lay the weights of convolutions out with the channels last, as they run fastest on CPUs, then as before.

    Yields what lays out images in the same way. A module that does not take them so stays as it is, and they too: the
    first images tell.
    """
    last: bool | None = None

    def lay_out(images: Tensor) -> Tensor:
        nonlocal last
        if last is None:
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            last = takes_channels_last(module, images[:2])
            if not last:
                module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        return channels_last(images) if last else images

    try:
        yield lay_out
    finally:
        module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


@contextmanager
def quick_relu(module: nn.Module) -> Iterator[None]:
    """Let ReLUs of bf16 tensors work on their bits, which is faster than PyTorch's kernel; without gradients.

    A bf16 number is negative where its first bit is set, as the 16-bit integer of the same bits is.
    """
    relus = [part for part in module.modules() if type(part) is nn.ReLU]
    try:
        for relu in relus:
            relu.forward = partial(_relu, relu.inplace)  # type: ignore[method-assign]
        yield
    finally:
        for relu in relus:
            del relu.forward


def _relu(inplace: bool, x: Tensor) -> Tensor:
    if x.dtype is not torch.bfloat16:
        return functional.relu(x, inplace)
    bits = x.view(torch.int16)
    return (bits.clamp_(min=0) if inplace else bits.clamp(min=0)).view(torch.bfloat16)
