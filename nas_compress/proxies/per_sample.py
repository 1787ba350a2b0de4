"""Gradients of every sample of a batch, from one pass forward and one backward.

The gradient of a sample with respect to the weights of a layer follows from what goes into the layer and from the
gradient of what comes out of it (Goodfellow, 2015, "Efficient Per-Example Gradient Computations"). It holds where
samples do not act on each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv1d_weight, conv2d_weight
from torch.nn.modules.batchnorm import _BatchNorm

from nas_compress.proxies.base import Probe, gradients_of, weight_names

Scalar = Callable[[Any, slice], Tensor]
"""Maps outputs, and which samples they are of, to the sum (or the mean) of what each sample's gradient is taken of."""

Calls = dict[str, list[tuple[Tensor, Tensor]]]


def sample_gradients(probe: Probe, samples: Sequence[Tensor], scalar: Scalar) -> Iterator[Tensor]:
    """Yield for each of `weight_names` the gradients of all samples, shape (N, weights).

    Where that is not so simple (weights that several layers share, those of `nn.MultiheadAttention`, of layers that are
    not just torch's `Linear`, `Conv1d` or `Conv2d`), gradients are taken sample by sample.

    Args:
        probe: The network, in a mode in which samples do not act on each other.
        samples: The batch.
        scalar: See `Scalar`.
    """
    layers, calls = _simple_layers(probe.module), Calls()
    with _recorded(layers, calls):
        value = scalar(probe(samples), slice(None))
    gradients = iter(gradients_of(value, [output for name in calls for _, output in calls[name]]))
    done = set()
    for name, recorded in calls.items():
        parts = [_of_layer(layers[name], x, next(gradients)) for x, _ in recorded]
        if all(len(part) == len(samples[0]) for part in parts):
            yield torch.stack(parts).sum(0)
            done.add(name)
    others = [name for name in weight_names(probe.module) if name not in done]
    yield from _one_by_one(probe, samples, scalar, others)


def _simple_layers(module: nn.Module) -> dict[str, nn.Module]:
    """Return layers whose weights no other has, by the name of the weights."""
    owners = Counter(id(weight) for part in module.modules() for weight in part.parameters(recurse=False))
    return {
        f"{prefix}.weight" if prefix else "weight": part
        for prefix, part in module.named_modules()
        if type(part) in (nn.Linear, nn.Conv1d, nn.Conv2d) and owners[id(part.weight)] == 1 and _pads_with_zeros(part)
    }


def _pads_with_zeros(layer: nn.Module) -> bool:
    """Return whether a layer, if it is a convolution, has zeros around its input, of a given width."""
    return getattr(layer, "padding_mode", "zeros") == "zeros" and not isinstance(getattr(layer, "padding", 0), str)


def _one_by_one(probe: Probe, samples: Sequence[Tensor], scalar: Scalar, names: list[str]) -> Iterator[Tensor]:
    """Yield the same of some weights, by a pass for every sample."""
    if not names:
        return
    rows = []
    for row in range(len(samples[0])):
        one = slice(row, row + 1)
        rows.append(probe.gradients(scalar(probe([each[one] for each in samples]), one), names))
    for gradients in zip(*rows, strict=True):
        yield torch.stack([gradient.flatten() for gradient in gradients])


@contextmanager
def _recorded(layers: Mapping[str, nn.Module], calls: Calls) -> Iterator[None]:
    """Record inputs and outputs of every call of a layer, by name, inside the `with` block.

    What comes after a layer gets a copy of its outputs: it may change them in place.
    """

    def record(name: str, inputs: Any, output: Tensor) -> Tensor | None:
        if not inputs or not output.requires_grad:
            return None
        calls.setdefault(name, []).append((inputs[0].detach(), output))
        return output.clone()

    with ExitStack() as stack:
        for name, layer in layers.items():
            hook = layer.register_forward_hook(lambda _, x, y, name=name: record(name, x, y))
            stack.callback(hook.remove)
        yield


def _of_layer(layer: nn.Module, x: Tensor, gradient: Tensor) -> Tensor:
    """Return the samples' gradients, shape (N, weights), of a layer's inputs and of the gradient of its outputs."""
    if isinstance(layer, nn.Linear):
        outside, inside = (each[:, None].flatten(1, -2) for each in (gradient, x))
        return (outside.transpose(1, 2) @ inside).flatten(1)
    conv = cast(nn.Conv1d | nn.Conv2d, layer)
    if conv.weight[0].numel() == conv.in_channels and x.shape[2:] == gradient.shape[2:]:  # 1x1, at every position
        return (gradient.flatten(2) @ x.flatten(2).transpose(1, 2)).flatten(1)
    of_weight: Callable[..., Tensor] = conv2d_weight if isinstance(conv, nn.Conv2d) else conv1d_weight
    size, options = list(conv.weight.shape), (conv.stride, conv.padding, conv.dilation, conv.groups)
    samples = zip(torch.split(x, 1), torch.split(gradient, 1), strict=True)
    return torch.stack([of_weight(each, size, g, *options).flatten() for each, g in samples])


# -- batch normalisation without an effect of samples on each other ---------------------------------------------


@contextmanager
def normalised_alone(module: nn.Module) -> Iterator[None]:
    """Let batch norms use the statistics of each sample inside the `with` block, as in a batch of one."""

    def hook(part: Any, inputs: Any, _: Tensor) -> Tensor:
        return F.instance_norm(inputs[0], weight=part.weight, bias=part.bias, eps=part.eps)

    with ExitStack() as stack:
        for part in module.modules():
            if isinstance(part, _BatchNorm):
                stack.callback(part.register_forward_hook(hook).remove)
        yield


@contextmanager
def batch_statistics_of(module: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Yield a mapping that fills with the mean and variance of what goes into each batch norm, by buffer."""
    found: dict[str, Tensor] = {}

    def record(prefix: str, x: Tensor) -> None:
        dims = [dim for dim in range(x.ndim) if dim != 1]
        variance, mean = torch.var_mean(x, dims, correction=0)
        found[f"{prefix}running_mean"], found[f"{prefix}running_var"] = mean, variance

    with ExitStack() as stack:
        for name, part in module.named_modules():
            if isinstance(part, _BatchNorm) and part.running_mean is not None:
                prefix = f"{name}." if name else ""
                hook = part.register_forward_pre_hook(lambda _, args, prefix=prefix: record(prefix, args[0]))
                stack.callback(hook.remove)
        yield found
