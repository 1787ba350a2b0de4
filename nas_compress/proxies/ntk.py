"""Trainability by the neural tangent kernel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas_compress.errors import EvaluationError
from nas_compress.proxies.base import Probe, finite, gradients_of, leaves, modes, samples_of, total, weight_names
from nas_compress.proxies.per_sample import batch_statistics_of, sample_gradients
from nas_compress.supernets.base import Inputs


def ntk_condition_number(module: nn.Module, inputs: Inputs, *, coupled: bool = False) -> float:
    """Return lambda_max / lambda_min of the Gram matrix of the samples' gradients; LOWER is better.

    The gradient of a sample is that of the sum of its outputs with respect to all weights. Values over 1e7 are not
    resolved in single precision and count as 1e7.

    Source: Chen et al., 2021, "Neural Architecture Search on ImageNet in Four GPU Hours: A Theoretically Inspired
    Perspective" (TE-NAS), section 3.1.1.

    Args:
        module: The network, initialised.
        inputs: At least two samples.
        coupled: Whether the samples act on each other's gradients by the statistics of batch norm, as in the published
            code, where each costs a backward pass of the whole batch. By default the statistics of the batch are
            constants, and each costs one of its own: the same for networks without batch norm.

    Raises:
        EvaluationError: There is one sample, the network has no weights, cannot be run, or its gradients are 0 or not
            finite.
    """
    samples = samples_of(inputs, "ntk_condition_number")
    kernel = (_coupled if coupled else _apart)(module, samples).double()
    if not torch.isfinite(kernel).all() or (eigenvalues := torch.linalg.eigvalsh(kernel))[-1] <= 0:
        raise EvaluationError("ntk_condition_number: the gradients are 0 or not finite")
    return finite(eigenvalues[-1] / eigenvalues[0].clamp(min=1e-7 * float(eigenvalues[-1])), "ntk_condition_number")


def _coupled(module: nn.Module, samples: tuple[Tensor, ...]) -> Tensor:
    """Return the Gram matrix, shape (N, N), by a backward pass through the batch for every sample."""
    names = weight_names(module)
    with modes(module):
        probe = Probe(module)
        outputs = torch.stack([each.flatten(1).sum(1) for each in leaves(probe(samples))]).sum(0)
        wanted = [probe.params[name] for name in names]
        rows = [gradients_of(output, wanted, retain_graph=True) for output in outputs]
    flat = torch.stack([torch.cat([each.flatten() for each in row]) for row in rows])
    return flat @ flat.T


def _apart(module: nn.Module, samples: tuple[Tensor, ...]) -> Tensor:
    """Return the Gram matrix, shape (N, N), the statistics of the batch held fixed."""
    probe = Probe(module)
    with modes(module), torch.no_grad(), batch_statistics_of(module) as statistics:
        probe(samples)
    probe.buffers |= statistics
    with modes(module, batch_statistics=False):
        rows = sample_gradients(probe, samples, lambda outputs, _: total(outputs))
        return torch.stack([each @ each.T for each in rows]).sum(0)
