"""Conditions on what a step came to: `accuracy drop > 1 %`, `latency > 2 ms`, `not faster`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from nas_compress.tasks import QUALITIES, Quality

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le,
}  # fmt: skip
_SIZES = {"B": 1.0, "kB": 1e3, "MB": 1e6}


def _units_of_quality() -> Iterator[tuple[str, Mapping[str, float]]]:
    for quality in QUALITIES.values():
        own: dict[str, float] = {quality.unit: 1, "": 1}
        yield quality.name, own
        yield quality.loss, {**own, "points": 1}


_UNITS: Mapping[str, Mapping[str, float]] = {
    **dict(_units_of_quality()),
    "latency": {"ms": 1},
    "size": _SIZES,
    "speed-up": {"x": 1, "": 1},
    "size ratio": {"x": 1, "": 1},
}
"""What a condition may be about, and the units that it is written in, as factors to %, points, ms, bytes or times."""

_WORDS = {"not faster": "speed-up <= 1", "not smaller": "size ratio >= 1"}
_HIGH = ("wer", "drop", "rise", "size", "size ratio")
"""Endings of figures that are bad where they are high, but for latency."""

_COMPARISON = re.compile(r"([a-z][a-z0-9-]*(?: [a-z]+)?)\s*(<=|>=|<|>)\s*(\d+\.?\d*|\.\d+)\s*(\S*)")


@dataclass(frozen=True)
class Figures:
    """What a network measured, on the search-validation part.

    Attributes:
        quality: Its accuracy in %, or what stands in for it with other tasks.
        latency: Of one run in ms.
        size: Of the file in bytes.
    """

    quality: float
    latency: float
    size: float


@dataclass(frozen=True)
class Condition:
    """A comparison of one figure with a number.

    Attributes:
        text: As the user wrote it.
        figure: What it is about: `accuracy` (in %), `accuracy drop` (in points), and those of other tasks (`f1`, `f1
            drop`, `bleu`, `bleu drop`, `wer`, `wer rise`); `latency` (in ms), `size` (in bytes), `speed-up` and `size
            ratio` (against the network before the step).
        op: `>`, `<`, `>=` or `<=`.
        bound: The number, in the unit above.
    """

    text: str
    figure: str
    op: str
    bound: float

    @property
    def quality(self) -> Quality | None:
        """The figure of quality that it is about; None if it is about something else."""
        return next((q for q in QUALITIES.values() if self.figure in (q.name, q.loss)), None)

    def value(self, before: Figures, after: Figures) -> float:
        """Return the figure that the condition is about, from those before and after the step."""
        if (quality := self.quality) is not None:
            return after.quality if self.figure == quality.name else quality.lost(before.quality, after.quality)
        return {
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
        known = ", ".join([*_WORDS, *(f"{name} {'>' if name.endswith(_HIGH) else '<'} ..." for name in _UNITS)])
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
