"""Evaluation mode and memory layout for the length of a `with` block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


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
def channels_last(module: nn.Module) -> Iterator[Callable[[Tensor], Tensor]]:
    """Lay the weights of convolutions out with the channels last, as they run fastest on CPUs, then as before.

    Yields what lays out images, shape (N, C, H, W), in the same way; other tensors are left as they are.
    """
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        yield lambda x: x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
    finally:
        module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
