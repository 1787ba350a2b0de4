"""The import of DyNAS-T, whose own imports ask for far more than its searches use."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import logging
import sys
import types
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain

from peers.run import quiet

UNUSED_IMPORTS = {
    **{package: (package,) for package in ("requests", "torchprofile", "torchvision", "transformers")},
    "fairseq": ("fairseq", "dynast.supernetwork.machine_translation.transformer_interface"),
    "numba": ("pymoo.algorithms.moo.age",),
}
"""What DyNAS-T imports and its searches here do not use (data, networks, AGE-MOEA): the packages, and the modules
that empty ones stand in for where the package is missing."""


@cache
def search_tactics() -> types.ModuleType:
    """Import `dynast.search.search_tactic`, with empty modules for what it needs for other uses alone.

    They are gone again afterwards, and so is what the import does to the root logger.
    """
    missing = [modules for package, modules in UNUSED_IMPORTS.items() if not installed(package)]
    standing_in = _StandIns(chain.from_iterable(missing))
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    sys.meta_path.insert(0, standing_in)
    try:
        with quiet(0):
            return importlib.import_module("dynast.search.search_tactic")
    finally:
        sys.meta_path.remove(standing_in)
        for name in filter(standing_in.covers, list(sys.modules)):
            del sys.modules[name]
        root.handlers[:] = handlers
        root.setLevel(level)


class _StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports empty modules, whose every attribute is an empty class, under the given names and below."""

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


def installed(package: str) -> bool:
    """Return whether a package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None
