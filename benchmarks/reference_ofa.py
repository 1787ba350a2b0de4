"""The `ofa` package (`pip install --no-deps ofa`), with stand-ins for the torchvision it imports but does not need."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class _StandIn(types.ModuleType):
    """A module that has any class one asks for."""

    __path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _StandInFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Return a stand-in for torchvision and its parts."""
        if name.partition(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """Return an empty module."""
        return _StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Do nothing."""


@contextmanager
def _without_torchvision() -> Iterator[None]:
    finder = _StandInFinder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
            del sys.modules[name]


def networks() -> Any:
    """Return the module of OFA's elastic networks."""
    with _without_torchvision():
        return importlib.import_module("ofa.imagenet_classification.elastic_nn.networks")


def running_statistics() -> Callable[..., None]:
    """Return OFA's function for BN recalibration."""
    with _without_torchvision():
        function: Callable[..., None] = importlib.import_module(
            "ofa.imagenet_classification.elastic_nn.utils"
        ).set_running_statistics
    return function
