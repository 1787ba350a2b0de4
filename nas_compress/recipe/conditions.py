"""Conditions on what a step came to: `accuracy drop > 1 %`, `latency > 2 ms`, `not faster`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le,
}  # fmt: skip
_SIZES = {"B": 1.0, "kB": 1e3, "MB": 1e6}
_UNITS: Mapping[str, Mapping[str, float]] = {
    "accuracy": {"%": 1, "": 1},
    "accuracy drop": {"%": 1, "points": 1, "": 1},
    "latency": {"ms": 1},
    "size": _SIZES,
    "speed-up": {"x": 1, "": 1},
    "size ratio": {"x": 1, "": 1},
}
"""What a condition may be about, and the units that it is written in, as factors to %, points, ms, bytes or times."""

_WORDS = {"not faster": "speed-up <= 1", "not smaller": "size ratio >= 1"}
_COMPARISON = re.compile(r"([a-z-]+(?: [a-z]+)?)\s*(<=|>=|<|>)\s*(\d+\.?\d*|\.\d+)\s*(\S*)")


@dataclass(frozen=True)
class Figures:
    """What a network measured, on search-validation images.

    Attributes:
        accuracy: Top-1 accuracy in %.
        latency: Of one run in ms.
        size: Of the file in bytes.
    """

    accuracy: float
    latency: float
    size: float


@dataclass(frozen=True)
class Condition:
    """A comparison of one figure with a number.

    Attributes:
        text: As the user wrote it.
        figure: What it is about: `accuracy` (in %), `accuracy drop` (in points), `latency` (in ms), `size` (in bytes),
            `speed-up` and `size ratio` (against the network before the step).
        op: `>`, `<`, `>=` or `<=`.
        bound: The number, in the unit above.
    """

    text: str
    figure: str
    op: str
    bound: float

    def value(self, before: Figures, after: Figures) -> float:
        """Return the figure that the condition is about, from those before and after the step."""
        return {
            "accuracy": after.accuracy,
            "accuracy drop": before.accuracy - after.accuracy,
            "latency": after.latency,
            "size": after.size,
            "speed-up": before.latency / after.latency,
            "size ratio": after.size / before.size,
        }[self.figure]

    def holds(self, before: Figures, after: Figures) -> bool:
        """Return whether the condition is true of a step, from the figures before and after it."""
        return _OPERATORS[self.op](self.value(before, after), self.bound)


def parse_condition(text: str) -> Condition:
    """Read a condition.

    Args:
        text: A figure, a comparison, a number and a unit (`accuracy drop > 1 %`, `accuracy < 90 %`, `latency > 2 ms`,
            `size > 500 kB`, `speed-up < 1.5`, `size ratio > 0.5`), or `not faster`, or `not smaller`.

    Raises:
        ValueError: It is none of these.
    """
    written = " ".join(text.split())
    match = _COMPARISON.fullmatch(_WORDS.get(written, written))
    if match is None or match[1] not in _UNITS:
        known = ", ".join(
            [*_WORDS, *(f"{name} {'>' if 'size' in name or 'drop' in name else '<'} ..." for name in _UNITS)]
        )
        raise ValueError(f"{text!r} is no condition; allowed: {known}, such as 'accuracy drop > 1 %'")
    figure, op, number, unit = match.groups()
    units = _UNITS[figure]
    if unit not in units:
        raise ValueError(
            f"{text!r}: the unit of {figure} is {' or '.join(u for u in units if u)}, not {unit or 'none'}"
        )
    return Condition(text, figure, op, float(number) * units[unit])


def _checked(text: str) -> str:
    parse_condition(text)
    return text


ConditionText = Annotated[str, AfterValidator(_checked)]
"""A condition as text, checked."""
