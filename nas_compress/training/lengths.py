"""The order of examples of different lengths: those of a step are of like lengths, so that little of it is padding."""

from __future__ import annotations

import torch
from torch import Tensor

WINDOW = 32
"""Batches whose examples are sorted together: few enough that other examples meet in each epoch."""


def like_lengths(lengths: Tensor, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """Return the steps of an epoch, each the numbers of examples of like lengths; an incomplete last one is left out.

    Examples are shuffled, sorted within windows of `WINDOW` batches, and the batches are shuffled.

    Args:
        lengths: The length of each example, shape (examples,).
        batch_size: Examples of each step.
        generator: Draws both orders.
    """
    order = torch.randperm(len(lengths), generator=generator)
    whole, size = len(lengths) // batch_size * batch_size, WINDOW * batch_size
    windows = [order[start : min(start + size, whole)] for start in range(0, whole, size)]
    ordered = [window[lengths[window].argsort(stable=True)] for window in windows]
    steps = [step for window in ordered for step in torch.split(window, batch_size)]
    return [steps[i] for i in torch.randperm(len(steps), generator=generator).tolist()]
