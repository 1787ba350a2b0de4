"""The baselines that every score must beat: how large a network is, and how much it computes."""

from __future__ import annotations

from torch import nn

from nas_compress.errors import EvaluationError
from nas_compress.objectives.cost import count_macs
from nas_compress.proxies.base import Example, example_of


def params(module: nn.Module) -> float:
    """Return the number of parameters; a parameter that is used twice counts once."""
    return float(sum(parameter.numel() for parameter in module.parameters()))


def macs(module: nn.Module, example: Example) -> float:
    """Return the multiply-accumulates of one sample, see `count_macs`.

    Args:
        module: The network.
        example: Shape of the inputs, batch first, or inputs.

    Raises:
        EvaluationError: The network cannot be traced on these inputs.
    """
    try:
        return float(count_macs(module, example_of(example, module)))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise EvaluationError(f"the network cannot be traced: {error}") from error
