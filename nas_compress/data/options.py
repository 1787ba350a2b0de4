"""Kinds of values that options of data sources take; checked before anything is loaded, without torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Kind:
    """What an option takes.

    Attributes:
        wants: That in words.
        fits: Whether a value is such.
    """

    wants: str
    fits: Callable[[Any], bool]


def whole(least: int) -> Kind:
    """Return the kind of whole numbers from `least` on."""
    return Kind(f"a whole number >= {least}", lambda value: type(value) is int and value >= least)


def or_null(kind: Kind) -> Kind:
    """Return a kind that takes null (None) as well."""
    return Kind(f"{kind.wants}, or null", lambda value: value is None or kind.fits(value))


def _is_path(value: object) -> bool:
    return isinstance(value, str | os.PathLike) and value != ""


def _is_list(value: object, count: int | None = None) -> bool:
    return isinstance(value, list | tuple) and (count is None or len(value) == count)


_PLAIN = (str, bytes, int, float, list, tuple, dict, type(None))

PATH = Kind("a path", _is_path)
PATH_OR_OBJECT = Kind("a path", lambda value: _is_path(value) or not isinstance(value, _PLAIN))
"""A path or, from Python, what would be read from there."""
TEXTS = Kind(
    "a list of at least one text",
    lambda value: _is_list(value) and bool(value) and all(isinstance(item, str) for item in value),
)
TWO_TEXTS = Kind("a list of two texts", lambda value: _is_list(value, 2) and TEXTS.fits(value))
TWO_PATHS = Kind("a list of two paths", lambda value: _is_list(value, 2) and all(map(_is_path, value)))
