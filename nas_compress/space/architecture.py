"""One point of a search space, in the published form `{'ks': (7, 3, ...), 'e': (...), 'd': (...)}`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping

from nas_compress.errors import ArchitectureError

Value = int | float | str
"""What a gene may hold: a number, a text, or true or false (a `bool` is an `int`)."""

_WORD = re.compile(r"""('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")|\b(null|true|false)\b""")
_PYTHON = {"null": "None", "true": "True", "false": "False"}
"""JSON's words, which count outside of quotes alone."""


class Architecture(Mapping[str, tuple[Value, ...]]):
    """A frozen, hashable mapping from elastic dimensions to their values.

    Two architectures are equal when they hold the same values, whatever the order of the dimensions. An
    architecture is not tied to a space: `SearchSpace.validate` and `SearchSpace.canonicalize` do that.

    Args:
        values: The values per dimension. Scalars stand for tuples of one; dimensions given as `None` are left
            out (published OFA tables carry `'wid': None`).
    """

    __slots__ = ("_hash", "_values")

    def __init__(self, values: Mapping[str, Iterable[Value] | Value | None]) -> None:
        self._values = {name: _row(value) for name, value in values.items() if value is not None}
        self._hash = hash(frozenset(self._values.items()))

    @classmethod
    def of_rows(cls, rows: dict[str, tuple[Value, ...]]) -> Architecture:
        """Return the architecture of tuples of plain Python values; unlike the constructor, it checks nothing."""
        architecture = cls.__new__(cls)
        architecture._values = rows
        architecture._hash = hash(frozenset(rows.items()))
        return architecture

    @classmethod
    def parse(cls, text: str) -> Architecture:
        """Read an architecture from a Python or JSON dictionary, as published CSV files carry it.

        Raises:
            ArchitectureError: The text is not a dictionary of values or lists of values.
        """
        try:
            values = ast.literal_eval(_WORD.sub(lambda match: match[1] or _PYTHON[match[2]], text))
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
            raise ArchitectureError(f"not an architecture: {text[:120]!r} (want {{'ks': [...], ...}})") from error
        named = isinstance(values, dict) and all(isinstance(name, str) for name in values)
        if not named or not all(_is_gene_row(row) for row in values.values()):
            raise ArchitectureError(f"not an architecture: {text[:120]!r} (want lists of values by dimension)")
        return cls(values)

    def __reduce__(self) -> tuple[type[Architecture], tuple[dict[str, list[Value]]]]:
        """Rebuild from the values: hashes of texts differ from process to process."""
        return Architecture, (self.to_dict(),)

    def to_dict(self) -> dict[str, list[Value]]:
        """Return plain lists, for JSON, YAML and published tables."""
        return {name: list(values) for name, values in self._values.items()}

    def __getitem__(self, name: str) -> tuple[Value, ...]:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self._values == other._values if isinstance(other, Architecture) else NotImplemented

    def __str__(self) -> str:
        return str(self.to_dict())

    def __repr__(self) -> str:
        return f"Architecture({self.to_dict()})"


def _row(values: Iterable[Value] | Value) -> tuple[Value, ...]:
    """Return one dimension's values as plain Python ones, whether they come from Python or from NumPy."""
    row = list(values) if isinstance(values, Iterable) and not isinstance(values, str) else [values]
    return tuple(value.item() if hasattr(value, "item") else value for value in row)


def _is_gene_row(row: object) -> bool:
    """Return whether a parsed value is one that a gene may hold, a list of such values, or nothing."""
    values = row if isinstance(row, (list, tuple)) else [0 if row is None else row]
    return all(isinstance(v, Value) for v in values)
