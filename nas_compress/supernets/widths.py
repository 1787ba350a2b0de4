"""Arithmetic of channel numbers that layers, configurations and costs share, without torch."""

from __future__ import annotations


def make_divisible(width: float, divisor: int = 8) -> int:
    """Return a width rounded to a multiple of `divisor`, to no less than 90 % of it.

    The rule of MobileNetV2 (Sandler et al., 2018) and of all nets derived from it.
    """
    rounded = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * width else rounded
