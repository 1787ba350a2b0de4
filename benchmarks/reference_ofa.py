"""The `ofa` package (`pip install --no-deps ofa`), with stand-ins for the torchvision it imports but does not need."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from stand_ins import standing_in


def networks() -> Any:
    """Return the module of OFA's elastic networks."""
    with standing_in(["torchvision"]):
        return importlib.import_module("ofa.imagenet_classification.elastic_nn.networks")


def initialize(net: Any) -> None:
    """Give a network the initial weights of OFA's training runs."""
    with standing_in(["torchvision"]):
        importlib.import_module("ofa.utils").init_models(net, "he_fout")


def running_statistics() -> Callable[..., None]:
    """Return OFA's function for BN recalibration."""
    with standing_in(["torchvision"]):
        function: Callable[..., None] = importlib.import_module(
            "ofa.imagenet_classification.elastic_nn.utils"
        ).set_running_statistics
    return function
