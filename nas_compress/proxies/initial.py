"""Networks at initialisation: where the published values of all scores are measured."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from nas_compress.errors import ConfigError
from nas_compress.supernets.randomness import seeded

Scheme = Literal["default", "kaiming", "xavier"]

_SCHEMES: dict[str, Callable[[Tensor], object]] = {
    "kaiming": lambda weight: nn.init.kaiming_normal_(weight, mode="fan_in", nonlinearity="relu"),
    "xavier": nn.init.xavier_uniform_,
}
"""What fills the weights of convolutions and linear layers."""


def initialised(module: nn.Module, seed: int, scheme: Scheme = "default") -> nn.Module:
    """Return a copy of a network with new weights, as if it had been built from `seed`.

    Every layer that knows how to reset itself does so (torch's own initialisation, Kaiming-uniform with a = sqrt(5):
    what Abdelfattah et al., 2021, publish their values for). Parameters of other modules (class tokens, positions, ...)
    are drawn from a normal distribution of standard deviation 0.02 where they have two dimensions or more, and kept
    where they have fewer.

    Args:
        module: Any network; it stays as it is.
        seed: Seed of the weights.
        scheme: What the weights of convolutions and linear layers are filled with after that: `"kaiming"` (normal, by
            the inputs, for ReLU; He et al., 2015) or `"xavier"` (uniform; Glorot and Bengio, 2010), their biases with
            0; `"default"` keeps torch's own.

    Raises:
        ConfigError: The scheme is unknown.
    """
    if scheme != "default" and scheme not in _SCHEMES:
        raise ConfigError(f"unknown scheme {scheme!r} of initialisation; known: default, {', '.join(_SCHEMES)}")
    fresh = copy.deepcopy(module)
    with seeded(seed), torch.no_grad():
        for part in fresh.modules():
            _reset(part)
            if scheme != "default" and isinstance(part, nn.Linear | nn.modules.conv._ConvNd):
                _SCHEMES[scheme](part.weight)
                if part.bias is not None:
                    part.bias.zero_()
    return fresh


def _reset(part: nn.Module) -> None:
    """Draw the parameters that a module holds itself."""
    for name in ("reset_parameters", "_reset_parameters"):
        if callable(reset := getattr(part, name, None)):
            reset()
            return
    for parameter in part.parameters(recurse=False):
        if parameter.ndim > 1:
            parameter.normal_(std=0.02)
