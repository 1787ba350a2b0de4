"""Packages as independent references, with stand-ins for the torchvision that they import but do not need."""

import importlib.abc
import importlib.machinery
import sys
import types
from contextlib import contextmanager

import pytest


class _StandInType(type):
    """A class of which every attribute exists, as the members of an enumeration do."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return f"{cls.__name__}.{name}"


class _StandIn(types.ModuleType):
    __path__: list[str] = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _StandInType(name, (), {})


class _StandInFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return _StandIn(spec.name)

    def exec_module(self, module):
        pass


@contextmanager
def _without_torchvision():
    finder = _StandInFinder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
            del sys.modules[name]


@pytest.fixture(scope="session")
def ofa_networks():
    """OFA's elastic networks; skipped without the package (`pip install --no-deps ofa`)."""
    with _without_torchvision():
        return pytest.importorskip("ofa.imagenet_classification.elastic_nn.networks")


@pytest.fixture(scope="session")
def timm_vision_transformer():
    """The module of timm's vision transformers; skipped without the package (`pip install --no-deps timm`)."""
    with _without_torchvision():
        return pytest.importorskip("timm.models.vision_transformer")
