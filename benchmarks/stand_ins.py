"""Empty modules that stand in for what a package imports but does not use here."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def standing_in(names: Iterable[str]) -> Iterator[None]:
    """Import empty modules, whose every attribute is an empty class, under the given names and below.

    They are gone again afterwards.
    """
    finder = _StandIns(names)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in filter(finder.covers, list(sys.modules)):
            del sys.modules[name]


class _StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(names)

    def covers(self, module: str) -> bool:
        """Return whether a module is one of the names, or below one."""
        return any(module == name or module.startswith(f"{name}.") for name in self._names)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return how to import a module that stands in for another, None for any other name."""
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if self.covers(name) else None

    def exec_module(self, module: types.ModuleType) -> None:
        """Give a new module its attributes."""

        def attribute(name: str) -> type:
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

        module.__dict__["__getattr__"] = attribute
