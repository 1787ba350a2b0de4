"""How differently a network reacts to changes of different samples."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas_compress.errors import EvaluationError
from nas_compress.proxies.base import Probe, continuous_inputs, finite, gradients_of, modes, samples_of, total
from nas_compress.supernets.base import Inputs

K = 1e-5


def jacob_cov(module: nn.Module, inputs: Inputs) -> float:
    """Return -sum [log(v + k) + 1 / (v + k)], v the eigenvalues of the samples' correlations; higher is better.

    A sample's vector is the gradient of the sum of the outputs with respect to the sample; that of a text, with respect
    to its word embeddings. k is 1e-5.

    Source: Mellor et al., 2020, "Neural Architecture Search without Training" (first version), equations 4 and 5.

    Args:
        module: The network, initialised.
        inputs: At least two samples.

    Raises:
        EvaluationError: There is one sample, the network cannot be run, or a sample's gradients are all alike.
    """
    samples = samples_of(inputs, "jacob_cov")
    starts: list[Tensor] = []

    def start(x: Tensor) -> Tensor:
        starts.append(x.detach().clone().requires_grad_())
        return starts[-1]

    with modes(module), continuous_inputs(module, samples, start) as replaced:
        outputs = total(Probe(module)(replaced))
        gradients = gradients_of(outputs, starts)
    rows = torch.cat([each.flatten(1).double() for each in gradients], 1)
    correlations = torch.corrcoef(rows)
    if not torch.isfinite(correlations).all():
        raise EvaluationError("jacob_cov: the outputs do not depend on a sample, or not finitely")
    v = torch.linalg.eigvalsh(correlations).clamp(min=0)
    return finite(-((v + K).log() + 1 / (v + K)).sum(), "jacob_cov")
