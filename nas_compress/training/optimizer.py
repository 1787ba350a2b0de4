"""The optimizers of training, and their state by parameter name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from nas_compress.elastic import PatchEmbedding, RelativePositions
from nas_compress.training.config import TrainConfig

State = dict[str, dict[str, Tensor]]
"""Tensors by the optimizer's name for them (`"momentum_buffer"`, `"exp_avg"`, ...), by parameter name."""

KINDS = ("momentum_buffer", "exp_avg", "exp_avg_sq", "step")
"""What the optimizers keep: tensors of the parameter's shape, and a count of steps."""


def make_optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return SGD with Nesterov momentum, or AdamW (Loshchilov & Hutter, 2019, algorithm 2), of all parameters."""
    groups = parameter_groups(module, config.weight_decay)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.peak_lr, betas=(0.9, 0.999))
    momentum = config.nesterov
    return torch.optim.SGD(groups, lr=config.peak_lr, momentum=momentum, nesterov=momentum > 0)


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the parameters in two groups: those that decay, and those that do not.

    Biases and normalisation (all parameters of one dimension), class tokens and positions of images do not.
    """
    places = (part for part in module.modules() if isinstance(part, PatchEmbedding | RelativePositions))
    free = {id(parameter) for part in places for parameter in part.parameters(recurse=False)}
    groups: tuple[list[nn.Parameter], list[nn.Parameter]] = [], []
    for parameter in module.parameters():
        if parameter.requires_grad:
            groups[parameter.ndim <= 1 or id(parameter) in free].append(parameter)
    decays = zip(groups, (weight_decay, 0.0), strict=True)
    return [{"params": group, "weight_decay": decay} for group, decay in decays if group]


def optimizer_state(optimizer: torch.optim.Optimizer, module: nn.Module) -> State:
    """Return the state of an optimizer of a module's parameters; those that never had a gradient have none."""
    return {name: dict(_tensors(optimizer, parameter)) for name, parameter in module.named_parameters()}


def _tensors(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> Iterator[tuple[str, Tensor]]:
    state = optimizer.state.get(parameter, {})  # reading by [] would make an entry
    yield from ((kind, value) for kind, value in state.items() if isinstance(value, Tensor))


def restore_state(optimizer: torch.optim.Optimizer, module: nn.Module, state: State) -> None:
    """Give an optimizer the state that `optimizer_state` returned."""
    for name, parameter in module.named_parameters():
        for kind, value in state.get(name, {}).items():
            # Counts of steps have no dimension, and stay on the CPU.
            own = torch.empty_like(parameter).copy_(value) if value.ndim else value.clone()
            optimizer.state[parameter][kind] = own
