"""Entropy of a network's features, from its structure alone."""

from __future__ import annotations

import math

from torch import nn

from nas_compress.proxies.base import weight_names


def entropy(module: nn.Module) -> float:
    """Return the sum over weights of log(fan-in): channels times kernel positions per group; higher is better.

    This is the upper bound of the entropy of the outputs at Gaussian weights, less a factor that depends on the
    outputs' size alone: the same for all networks of a task. Deep networks have more of it than wide ones of as many
    parameters. Weights of convolutions, linear layers and attention count, those of parallel branches each; a packed
    one counts once.

    Source: Shen et al., 2023, "DeepMAD: Mathematical Architecture Design for Deep Convolutional Neural Network",
    section 3 (the entropy of MLPs and of CNNs).

    Args:
        module: The network; its weights do not matter.

    Raises:
        EvaluationError: The network has no convolution or linear layer.
    """
    parameters = dict(module.named_parameters())
    return sum(math.log(parameters[name][0].numel()) for name in weight_names(module))
