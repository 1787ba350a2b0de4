"""Learning-rate schedule as a function of the step, so that it has no state to store."""

from __future__ import annotations

import math


def learning_rate(step: int, total: int, warmup: int, peak: float) -> float:
    """Return the learning rate of a step: linear warm-up, then a half cosine down to 0.

    Source: Loshchilov & Hutter, 2017, "SGDR", equation 5, without restarts; warm-up of Goyal et al., 2017.

    Args:
        step: Step, from 0.
        total: Number of steps in all.
        warmup: Steps of the warm-up, cut to half of `total` so that the rate falls in every run; the rate of step `s`
            there is `peak * (s + 1) / warmup`.
        peak: Highest learning rate.
    """
    warmup = min(warmup, total // 2)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
