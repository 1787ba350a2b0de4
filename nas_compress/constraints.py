"""Limits on objectives, as users write them: `"<= 2 ms"`, `">= 97 %"`, `"<= 0.4 x largest"`."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product

from nas_compress.errors import ConfigError

_OPERATORS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
MULTIPLES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}
"""What a letter after a number stands for."""

_CONSTRAINT = re.compile(r"(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(.*)", re.DOTALL)
_RELATIVE = re.compile(r"[x*×]\s*largest")


@dataclass(frozen=True)
class Constraint:
    """A limit on one objective.

    Attributes:
        name: The objective.
        op: `"<="`, `">="`, `"<"` or `">"`.
        bound: The limit in the objective's unit, or a factor if it is relative.
        relative: Whether the limit is `bound` times the value of the largest architecture.
        unit: The objective's unit.
    """

    name: str
    op: str
    bound: float
    relative: bool = False
    unit: str = ""

    def limit(self, largest: Mapping[str, float]) -> float:
        """Return the limit in the objective's unit.

        Args:
            largest: The values of the largest architecture by objective.

        Raises:
            ConfigError: The limit is relative to a value that is not among them.
        """
        if not self.relative:
            return self.bound
        if self.name not in largest:
            raise ConfigError(f"constraint {self}: the largest architecture was not measured for {self.name}")
        return self.bound * largest[self.name]

    def met(self, value: float, largest: Mapping[str, float]) -> bool:
        """Return whether a value, in the objective's unit, keeps to the limit; raises as `limit` does."""
        return bool(_OPERATORS[self.op](value, self.limit(largest)))

    def __str__(self) -> str:
        tail = "x largest" if self.relative else self.unit
        return f"{self.name} {self.op} {self.bound:.10g} {tail}".rstrip()


def keeps(constraints: Iterable[Constraint], values: Mapping[str, float], largest: Mapping[str, float]) -> bool:
    """Return whether values by metric keep all limits; a limit relative to an unknown value counts as met.

    Args:
        constraints: The limits.
        values: Values by metric, those of all limits among them.
        largest: The values of the largest architecture, as far as they are known.
    """
    return all(c.met(values[c.name], largest) for c in constraints if not c.relative or c.name in largest)


def exclusive(constraints: Iterable[Constraint]) -> list[tuple[Constraint, Constraint]]:
    """Return the pairs of limits on one metric that no value keeps; relative limits are not looked at."""
    known = [c for c in constraints if not c.relative]
    pairs = product([c for c in known if c.op[0] == ">"], [c for c in known if c.op[0] == "<"])
    return [
        (low, high)
        for low, high in pairs
        if low.name == high.name and not (low.met(high.bound, {}) and high.met(low.bound, {}))
    ]


def parse_constraint(text: str, *, name: str, unit: str) -> Constraint:
    """Read a constraint on an objective.

    Args:
        text: A comparison, a number, and nothing, the objective's unit, or `x largest`. Numbers of objectives without
            a unit may end in k, M or G (`"<= 300M"`).
        name: The objective.
        unit: The objective's unit; a constraint in another unit is refused, never converted.

    Raises:
        ConfigError: The text is something else.
    """
    match = _CONSTRAINT.fullmatch(text.strip()) if isinstance(text, str) else None
    unit_text = f" {unit}" if unit else ""
    if match is None:
        raise ConfigError(
            f"constraint on {name}: {text!r} is not a limit; want <=, >=, < or > and a number, "
            f"such as '<= 2{unit_text}' or '<= 0.4 x largest'"
        )
    op, number, tail = match.group(1), float(match.group(2)), match.group(3).strip()
    if _RELATIVE.fullmatch(tail):
        return Constraint(name, op, number, relative=True, unit=unit)
    if not unit and tail in MULTIPLES:
        return Constraint(name, op, number * MULTIPLES[tail])
    if tail not in ("", unit):
        allowed = f"{unit!r}" if unit else "no unit, or k, M, G"
        raise ConfigError(f"constraint on {name}: unit {tail!r} in {text!r} is not that of {name}; want {allowed}")
    return Constraint(name, op, number, unit=unit)


Limit = str | list[str] | tuple[str, ...]
"""One limit on a metric, or several that must all be met."""


def limit_texts(constraints: Mapping[str, Limit]) -> list[tuple[str, str]]:
    """Return every single limit as a metric and a text."""
    return [
        (name, text)
        for name, given in constraints.items()
        for text in (given if isinstance(given, (list, tuple)) else [given])
    ]
