"""The import of DyNAS-T, whose own imports ask for far more than its searches use."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import types
from functools import cache
from itertools import chain

from stand_ins import standing_in

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
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        with quiet(0), standing_in(chain.from_iterable(missing)):
            return importlib.import_module("dynast.search.search_tactic")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def installed(package: str) -> bool:
    """Return whether a package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None
