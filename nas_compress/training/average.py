"""An exponential moving average of a network's weights (Polyak & Juditsky, 1992, "Acceleration")."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """The moving average of a module's parameters, and of its floating-point buffers.

    The decay of step t (from 1) is at most `(1 + t) / (10 + t)`, so that the first weights are soon forgotten. Running
    statistics of normalisation are averaged as the weights are that they belong to.

    Args:
        module: The module in training.
        decay: The average's weight against the newest values.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self._steps = 0
        self._weights = {name: value.detach().clone() for name, value in _values(module)}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the values after a step."""
        self._steps += 1
        share = 1 - min(self._decay, (1 + self._steps) / (10 + self._steps))
        for name, value in _values(module):
            average = self._weights[name]
            # What stays as it is may be infinite, as masks of attention are: a difference of infinities is no number.
            average.copy_(torch.where(average == value, value, average.lerp(value, share)))

    def give_to(self, module: nn.Module) -> None:
        """Give the module the averages."""
        _copy(self._weights, module)

    @contextmanager
    def inside(self, module: nn.Module) -> Iterator[None]:
        """Give the module the averages inside the `with` block, and its own values back after it."""
        own = {name: value.detach().clone() for name, value in _values(module)}
        self.give_to(module)
        try:
            yield
        finally:
            _copy(own, module)

    def state(self) -> dict[str, Tensor]:
        """Return the average, and the number of steps, as tensors by name."""
        return {**self._weights, _STEPS: torch.tensor(self._steps)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up a state that `state` returned."""
        self._steps = int(state[_STEPS])
        for name, value in self._weights.items():
            value.copy_(state[name])


_STEPS = "<steps>"


def _values(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from ((name, buffer) for name, buffer in module.named_buffers() if buffer.is_floating_point())


@torch.no_grad()
def _copy(weights: Mapping[str, Tensor], module: nn.Module) -> None:
    for name, value in _values(module):
        value.copy_(weights[name])
