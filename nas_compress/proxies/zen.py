"""Expressivity of a network with Gaussian weights: Zen-Score, and the Gaussian complexity that it is made of.

Source: Lin et al., 2021, "Zen-NAS: A Zero-Shot NAS for High-Performance Image Recognition", section 3 and algorithm 1;
the complexity without batch normalisation's part is DE-NAS's expressivity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nas_compress.proxies.base import (
    NORMS,
    Example,
    Probe,
    Watch,
    continuous_inputs,
    example_of,
    finite,
    leaves,
    modes,
    weight_names,
)

GAMMA = 0.01
"""How much noise is added to the input."""


def zen_score(module: nn.Module, example: Example, *, seed: int = 0, gaussian: bool = True) -> float:
    """Return log E ||f(x) - f(x + 0.01 e)||_1 + sum over batch norms of log sqrt(mean variance); higher is better.

    f is the network up to its pooling over all positions, if nothing after that has positions again (else its outputs
    count), with standard normal weights; x and e are standard normal. The variance is that of each channel of the
    layer's input, averaged over channels. Shortcuts stay as they are (the published code leaves them out of the
    networks it builds).

    Args:
        module: The network; its own weights are not used.
        example: Shape of the inputs, batch first (the published one is 16 images), or inputs of that shape.
        seed: Seed of weights and inputs; the published score is the mean over 32 draws of both.
        gaussian: False uses the network's own weights.

    Raises:
        EvaluationError: The network has no weights, cannot be run, or its outputs do not change or overflow.
    """
    complexity, norms = _expressivity(module, example, seed, gaussian)
    return finite(complexity + norms, "zen_score")


def gaussian_complexity(module: nn.Module, example: Example, *, seed: int = 0, gaussian: bool = True) -> float:
    """Return log E ||f(x) - f(x + 0.01 e)||_1, `zen_score` without the part of batch norms; higher is better.

    Args:
        module: See `zen_score`.
        example: See `zen_score`.
        seed: See `zen_score`.
        gaussian: See `zen_score`.

    Raises:
        EvaluationError: See `zen_score`.
    """
    return finite(_expressivity(module, example, seed, gaussian)[0], "gaussian_complexity")


def _expressivity(module: nn.Module, example: Example, seed: int, gaussian: bool) -> tuple[float, float]:
    """Return the complexity and the batch norms' part."""
    generator = torch.Generator().manual_seed(seed)
    inputs = example_of(example, module)
    with modes(module), torch.no_grad():
        probe = _gaussian_probe(module, generator) if gaussian else Probe(module)
        drawn: list[Tensor] = []

        def clean(like: Tensor) -> Tensor:
            drawn.append(_normal(like, generator))
            return drawn[-1].clone()

        with _log_scales(module) as logs:
            before = _features(probe, inputs, clean)
        again = iter(drawn)
        after = _features(probe, inputs, lambda like: next(again) + GAMMA * _normal(like, generator))
    change = torch.stack([(a - b).abs().flatten(1).sum(1) for a, b in zip(after, before, strict=True)])
    return float(change.sum(0).mean().double().log()), sum(logs)


def _gaussian_probe(module: nn.Module, generator: torch.Generator) -> Probe:
    """Return a network with standard normal weights, and normalisation and biases that do nothing."""
    weights = set(weight_names(module))
    norms = {f"{prefix}.weight" if prefix else "weight" for prefix, part in module.named_modules() if _is_norm(part)}

    def change(name: str, values: Tensor) -> Tensor:
        if name in weights:
            return _normal(values, generator)
        if name in norms:
            return torch.ones_like(values)
        return torch.zeros_like(values) if name.rpartition(".")[2].endswith("bias") else values

    return Probe(module, change)


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return standard normal numbers, drawn on the CPU so that they are the same on every device."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)


def _is_norm(part: nn.Module) -> bool:
    return isinstance(part, NORMS)


def _features(probe: Probe, inputs: tuple[Tensor, ...], replace: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Return what goes into the pooling over all positions, where the network ends in one; else the outputs."""
    pooled: list[Tensor] = []

    def see(operation: str, arguments: Sequence[Any]) -> None:
        if _pools(operation, arguments):
            pooled[:] = arguments[:1]
        elif any(_has_positions(each) for each in arguments):
            pooled.clear()

    with continuous_inputs(probe.module, inputs, replace) as replaced, Watch(see):
        outputs = probe(replaced)
    return pooled or list(leaves(outputs))


def _has_positions(argument: Any) -> bool:
    """Return whether an argument of an operation is of images (N, C, h, w) or tokens (N, L, C) of several positions."""
    if isinstance(argument, Tensor):
        sizes = {4: argument.shape[2:], 3: argument.shape[1:2]}.get(argument.ndim, ())
        return math.prod(sizes) > 1
    return isinstance(argument, list | tuple) and any(map(_has_positions, argument))


def _pools(operation: str, arguments: Sequence[Any]) -> bool:
    """Return whether an operation averages images (N, C, h, w) or tokens (N, L, C) over all positions."""
    if operation == "mean" and len(arguments) > 1 and arguments[1] is not None:
        x, dims = arguments[:2]
        return sorted(dim % x.ndim for dim in dims) == {4: [2, 3], 3: [1]}.get(x.ndim)
    if operation == "_adaptive_avg_pool2d":
        return list(arguments[1]) == [1, 1]
    return operation == "avg_pool2d" and list(arguments[1]) == list(arguments[0].shape[-2:])


@contextmanager
def _log_scales(module: nn.Module) -> Iterator[list[float]]:
    """Yield a list that fills with log sqrt(mean variance) of what goes into each batch norm.

    Those on dead branches, whose input is constant, take nothing away.
    """
    logs: list[float] = []

    def hook(_: nn.Module, inputs: Any) -> None:
        variance = inputs[0].transpose(0, 1).flatten(1).var(1).mean().double()
        if variance != 0:
            logs.append(0.5 * float(variance.log()))

    with ExitStack() as stack:
        for part in module.modules():
            if isinstance(part, _BatchNorm):
                stack.callback(part.register_forward_pre_hook(hook).remove)
        yield logs
