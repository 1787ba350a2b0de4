"""Synaptic diversity of attention."""

from __future__ import annotations

import re
from typing import Literal

import torch
from torch import Tensor, nn

from nas_compress.errors import EvaluationError
from nas_compress.proxies.base import Example, Probe, example_of, finite, modes, ones, total, weight_names

Norm = Literal["nuclear", "frobenius"]


def nuclear_norm_diversity(module: nn.Module, example: Example, *, norm: Norm = "nuclear") -> float:
    """Return the sum over attention's weights of ||W|| ||dL / dW||, L the sum of the outputs; higher is better.

    Images are replaced by one image of ones, as in the published code; token ids are used as they are. The norm is the
    nuclear one, the sum of singular values: a weight that maps all tokens alike has few.

    Source: Zhou et al., 2022, "Training-free Transformer Architecture Search" (TF-TAS), equation 5. DE-NAS uses the
    Frobenius norm under the same name.

    Args:
        module: The network, initialised.
        example: Shape of the inputs, batch first (one row is used), or inputs; of tokens, all rows.
        norm: `"nuclear"` or `"frobenius"`.

    Raises:
        EvaluationError: The network has no attention, cannot be run, or its gradients are not finite.
    """
    names = attention_weights(module)
    inputs = example_of(example, module)
    if any(each.is_floating_point() for each in inputs):
        inputs = tuple(ones(x[:1]) for x in inputs)
    with modes(module):
        probe = Probe(module)
        gradients = probe.gradients(total(probe(inputs)), names)
    if not all(torch.isfinite(gradient).all() for gradient in gradients):
        raise EvaluationError("nuclear_norm_diversity: the gradients are not finite")
    measure = _nuclear if norm == "nuclear" else _frobenius
    with torch.no_grad():
        products = [measure(probe.params[name]) * measure(g) for name, g in zip(names, gradients, strict=True)]
    return finite(sum(products), "nuclear_norm_diversity")


def attention_weights(module: nn.Module) -> list[str]:
    """Return the names of the weights of attention: those of `nn.MultiheadAttention`, and of linear layers in parts
    whose class or attribute is called after attention (`attn`, `SelfAttention`, `encoder_attention`).

    Raises:
        EvaluationError: There are none.
    """
    inside = [
        prefix
        for prefix, part in module.named_modules()
        if prefix and re.search(r"atten|attn", f"{type(part).__name__} {prefix.rpartition('.')[2]}", re.IGNORECASE)
    ]
    names = [name for name in weight_names(module) if any(name.startswith(f"{prefix}.") for prefix in inside)]
    if not names:
        raise EvaluationError("nuclear_norm_diversity: the network has no attention")
    return names


def _nuclear(matrix: Tensor) -> float:
    return float(torch.linalg.svdvals(matrix.flatten(1)).sum())


def _frobenius(matrix: Tensor) -> float:
    return float(matrix.norm())
