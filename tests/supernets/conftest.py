"""The `ofa` package as an independent reference, with stand-ins for the torchvision it imports but does not need."""

import importlib.abc
import importlib.machinery
import sys
import types

import pytest


class _StandIn(types.ModuleType):
    __path__: list[str] = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _StandInFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return _StandIn(spec.name)

    def exec_module(self, module):
        pass


@pytest.fixture(scope="session")
def ofa_networks():
    """OFA's elastic networks; skipped without the package (`pip install --no-deps ofa`)."""
    finder = _StandInFinder()
    sys.meta_path.insert(0, finder)
    try:
        return pytest.importorskip("ofa.imagenet_classification.elastic_nn.networks")
    finally:
        sys.meta_path.remove(finder)
        for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
