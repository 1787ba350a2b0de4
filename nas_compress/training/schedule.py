"""Learning-rate schedules as functions of the step, so that they have no state to store."""

from __future__ import annotations

import math

from nas_compress.training.config import Schedule


def learning_rate(step: int, total: int, warmup: int, peak: float, schedule: Schedule = "cosine") -> float:
    """Return the learning rate of a step: linear warm-up, then what the schedule says.

    Sources: half cosine down to 0: Loshchilov & Hutter, 2017, "SGDR", equation 5, without restarts; linear down to 0:
    Devlin et al., 2019, "BERT"; multistep, a tenth after half and three quarters of all steps: He et al., 2016, "Deep
    Residual Learning", section 4.2; inverse square root of the step: Vaswani et al., 2017, "Attention Is All You Need",
    equation 3; warm-up: Goyal et al., 2017.

    Args:
        step: Step, from 0.
        total: Number of steps in all.
        warmup: Steps of the warm-up, cut to half of `total` so that the rate falls in every run; the rate of step `s`
            there is `peak * (s + 1) / warmup`.
        peak: Highest learning rate.
        schedule: What follows the warm-up.
    """
    warmup = min(warmup, total // 2)
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / (total - warmup)
    if schedule == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * done))
    if schedule == "linear":
        return peak * (1 - done)
    if schedule == "multistep":
        return peak * 0.1 ** ((2 * step >= total) + (4 * step >= 3 * total))
    if schedule == "inverse_sqrt":
        return peak * math.sqrt(max(warmup, 1) / max(step + 1, warmup, 1))
    return peak
