"""Random numbers of super-networks, drawn without a trace in torch's global generator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Let torch's global generator of the CPU start from a seed inside the `with` block, then put it back.

    Args:
        seed: The seed; with None, the generator goes on from where it is, and is not put back.
    """
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        yield


def normal(*shape: int) -> Tensor:
    """Return standard normal numbers, the same at every call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))
