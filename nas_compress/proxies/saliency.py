"""Scores of pruning, summed over the weights: how much the loss on one batch depends on each.

Source of all as scores of architectures, and of which weights count (convolutions and linear layers): Abdelfattah et
al., 2021, "Zero-Cost Proxies for Lightweight NAS", section 3. Batch norm uses the statistics of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from nas_compress.proxies.base import (
    Loss,
    Probe,
    cross_entropy,
    finite,
    gradients_of,
    loss_of,
    modes,
    tensors_of,
    weight_names,
)
from nas_compress.proxies.scoring import FIRST_ORDER
from nas_compress.supernets.base import Inputs

Outputs = list[tuple[bool, Tensor]]
"""What layers return, and whether the layer is a linear one."""


def grad_norm(module: nn.Module, inputs: Inputs, labels: Any, *, loss: Loss = cross_entropy) -> float:
    """Return sum over layers of ||dL / dtheta||_2; higher is better.

    Args:
        module: The network, initialised.
        inputs: A batch.
        labels: What `loss` takes.
        loss: Mean loss of the batch.

    Raises:
        EvaluationError: The network has no weights, cannot be run, or its gradients are not finite.
    """
    return saliencies(module, inputs, labels, ["grad_norm"], loss=loss)["grad_norm"]


def snip(module: nn.Module, inputs: Inputs, labels: Any, *, loss: Loss = cross_entropy) -> float:
    """Return sum |theta dL / dtheta|, the change of the loss by each weight's removal; higher is better.

    Source: Lee et al., 2019, "SNIP: Single-Shot Network Pruning based on Connection Sensitivity", equation 4 (a mask of
    ones on the weights has the gradient theta dL / dtheta).

    Args:
        module: See `grad_norm`.
        inputs: See `grad_norm`.
        labels: See `grad_norm`.
        loss: See `grad_norm`.

    Raises:
        EvaluationError: See `grad_norm`.
    """
    return saliencies(module, inputs, labels, ["snip"], loss=loss)["snip"]


def grasp(module: nn.Module, inputs: Inputs, labels: Any, *, loss: Loss = cross_entropy) -> float:
    """Return sum -theta (H g), g the gradient and H the Hessian of the loss; higher is better.

    Source: Wang et al., 2020, "Picking Winning Tickets Before Training by Preserving Gradient Flow", equation 8.

    Args:
        module: See `grad_norm`.
        inputs: See `grad_norm`.
        labels: See `grad_norm`.
        loss: See `grad_norm`.

    Raises:
        EvaluationError: See `grad_norm`; or an operation has no second derivative.
    """
    names = weight_names(module)
    with modes(module), sdpa_kernel(SDPBackend.MATH):
        probe = Probe(module)
        gradients = probe.gradients(loss_of(loss, probe(tensors_of(inputs)), labels), names, create_graph=True)
        product = torch.stack([(g.detach() * g).sum() for g in gradients]).sum()
        curved = probe.gradients(product, names)
    terms = [-(probe.params[name].detach() * hg).sum() for name, hg in zip(names, curved, strict=True)]
    return finite(torch.stack(terms).sum(), "grasp")


def fisher(module: nn.Module, inputs: Inputs, labels: Any, *, loss: Loss = cross_entropy) -> float:
    """Return sum over channels of 1/2 mean_n (sum over positions of a dL / da)^2, a a layer's output; higher is better.

    Source: Turner et al., 2020, "BlockSwap: Fisher-guided Block Substitution for Network Compression on a Budget",
    equation 3, on the outputs of convolutions and linear layers.

    Args:
        module: See `grad_norm`.
        inputs: See `grad_norm`.
        labels: See `grad_norm`.
        loss: See `grad_norm`.

    Raises:
        EvaluationError: See `grad_norm`.
    """
    return saliencies(module, inputs, labels, ["fisher"], loss=loss)["fisher"]


def saliencies(
    module: nn.Module, inputs: Inputs, labels: Any, names: Iterable[str] = FIRST_ORDER, *, loss: Loss = cross_entropy
) -> dict[str, float]:
    """Return several of `FIRST_ORDER` for the price of one: one pass forward and one backward.

    Args:
        module: See `grad_norm`.
        inputs: See `grad_norm`.
        labels: See `grad_norm`.
        names: Of `FIRST_ORDER`.
        loss: See `grad_norm`.

    Raises:
        EvaluationError: See `grad_norm`.
    """
    names, keys, outputs = list(names), weight_names(module), Outputs()
    with modes(module), _kept(module, outputs) if "fisher" in names else nullcontext():
        probe = Probe(module)
        value = loss_of(loss, probe(tensors_of(inputs)), labels)
    weights = [probe.params[key] for key in keys]
    gradients = gradients_of(value, [*weights, *(output for _, output in outputs)])
    pairs = [(weight.detach(), g) for weight, g in zip(weights, gradients, strict=False)]
    activations = zip(outputs, gradients[len(keys) :], strict=True)
    terms: dict[str, Callable[[], Iterable[Tensor]]] = {
        "grad_norm": lambda: (g.norm() for _, g in pairs),
        "snip": lambda: ((theta * g).abs().sum() for theta, g in pairs),
        "fisher": lambda: (_fisher(a.detach() * g, is_linear) for (is_linear, a), g in activations),
    }
    return {name: finite(sum(map(float, terms[name]())), name) for name in names}


@contextmanager
def _kept(module: nn.Module, outputs: Outputs) -> Iterator[None]:
    """Keep what convolutions and linear layers return inside the `with` block.

    What comes after a layer gets a copy of its outputs: it may change them in place.
    """

    def keep(part: nn.Module, _: Any, output: Tensor) -> Tensor:
        outputs.append((isinstance(part, nn.Linear), output))
        return output.clone()

    with ExitStack() as stack:
        for part in module.modules():
            if isinstance(part, nn.Linear | nn.modules.conv._ConvNd):
                stack.callback(part.register_forward_hook(keep).remove)
        yield


def _fisher(product: Tensor, channels_last: bool) -> Tensor:
    """Return a layer's part of `fisher` from a dL / da, shape (N, C, ...), or (N, ..., C) for linear layers."""
    channels = product.movedim(-1, 1) if channels_last else product
    return channels.unsqueeze(-1).flatten(2).sum(2).square().mean(0).sum() / 2
