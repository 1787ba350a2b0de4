"""The optimizers of training, and their state by parameter name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nas_compress.elastic import PatchEmbedding, RelativePositions
from nas_compress.errors import ConfigError
from nas_compress.training.config import Optimizer, TrainConfig

State = dict[str, dict[str, Tensor]]
"""Tensors by the optimizer's name for them (`"momentum_buffer"`, `"exp_avg"`, ...), by parameter name."""

_CLASSES: Mapping[Optimizer, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "adamax": torch.optim.Adamax,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
}


def make_optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return the configured optimizer of all parameters that want a gradient; SGD has Nesterov momentum.

    Raises:
        ConfigError: None does.
    """
    options: dict[str, Any] = {}
    if config.optimizer == "sgd":
        options = {"momentum": config.nesterov, "nesterov": config.nesterov > 0}
    elif config.optimizer == "rmsprop":
        options = {"momentum": config.momentum or 0.0}
    elif config.betas is not None:
        options = {"betas": config.betas}
    groups = parameter_groups(module, config.weight_decay)
    if not groups:
        raise ConfigError(f"nothing to train: no parameter of {type(module).__name__} wants a gradient (requires_grad)")
    return _CLASSES[config.optimizer](groups, lr=config.peak_lr, **options)


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
