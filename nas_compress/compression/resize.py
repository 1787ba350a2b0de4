"""Gives a network the widths that stored weights have, so that a pruned one is its architecture and its weights."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import cast

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from nas_compress.elastic import Attention
from nas_compress.errors import CheckpointError


def fit_shapes(module: nn.Module, state: Mapping[str, Tensor], source: str | Path = "the state") -> None:
    """Give every layer of a network the widths of a state dictionary, in place; `load_into` then loads it.

    Convolutions keep their kernel sizes, depthwise ones stay depthwise, heads of an attention keep their width. What
    a module of any other kind holds takes on the shape that it has in the state. New tensors are zeros.

    Args:
        module: A freshly extracted sub-network.
        state: The weights of the same sub-network after channels or heads were removed.
        source: Where they come from, for messages.

    Raises:
        CheckpointError: The first tensor that does not fit, whatever the widths are, with both shapes.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    _check_kinds(wanted, state, source)
    for name, part in module.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(part, Attention):
            _fit_heads(part, prefix, state, source)
        _fit_layer(part, prefix, state, source)


def _check_kinds(wanted: Mapping[str, tuple[int, ...]], state: Mapping[str, Tensor], source: str | Path) -> None:
    """Check names, numbers of dimensions, and that no dimension is 0 or larger than in the network."""
    for key, want in wanted.items():
        if key not in state:
            raise CheckpointError(f"{source} is of another network: it lacks {key} of shape {want}")
        got = tuple(state[key].shape)
        if len(got) != len(want) or any(not 0 < g <= w for g, w in zip(got, want, strict=True)):
            raise _misfit(source, key, got, want)
    for key in state:
        if key not in wanted:
            raise CheckpointError(f"{source} is of another network: it has {key}, which this network lacks")


def _misfit(source: str | Path, key: str, got: tuple[int, ...], want: tuple[int, ...]) -> CheckpointError:
    return CheckpointError(
        f"{source} is of another network: {key} has shape {got}, which no pruning of this network's {want} gives"
    )


def _fit_layer(layer: nn.Module, prefix: str, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Give what a module holds itself its shapes in the state, and the numbers of a known layer those that follow."""
    own = dict(chain(layer.named_parameters(recurse=False), layer.named_buffers(recurse=False)))
    own = {name: tensor for name, tensor in own.items() if f"{prefix}{name}" in state}
    shapes = {name: tuple(state[f"{prefix}{name}"].shape) for name in own}
    if weight := shapes.get("weight") or shapes.get("running_mean"):
        if isinstance(layer, _ConvNd) and weight[2:] != layer.kernel_size:
            raise _misfit(source, f"{prefix}weight", weight, tuple(layer.weight.shape))
        width = _fit_numbers(layer, weight)
        for name, shape in shapes.items():
            if width and name != "weight" and shape not in ((), width):
                raise _misfit(source, f"{prefix}{name}", shape, tuple(own[name].shape))
    for name, tensor in own.items():
        if tensor.shape != shapes[name]:
            zeros = tensor.detach().new_zeros(shapes[name])
            fitted = nn.Parameter(zeros, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else zeros
            setattr(layer, name, fitted)


def _fit_numbers(layer: nn.Module, weight: tuple[int, ...]) -> tuple[int, ...]:
    """Give a known layer the numbers that go with the shape of its weight, and return that of its other tensors.

    The shape is empty for any other layer.
    """
    if isinstance(layer, _ConvNd):
        if layer.groups == layer.in_channels > 1:
            layer.groups = weight[0] * layer.groups // len(layer.weight)
        ends = weight[0], weight[1] * layer.groups
        layer.out_channels, layer.in_channels = reversed(ends) if layer.transposed else ends
        return (layer.out_channels,)
    if isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = weight
        return (layer.out_features,)
    if isinstance(layer, nn.LayerNorm):
        layer.normalized_shape = weight
    elif isinstance(layer, _NormBase):
        layer.num_features = weight[0]
    elif isinstance(layer, nn.PReLU):
        layer.num_parameters = weight[0]
    else:
        return ()
    return weight


def _fit_heads(attention: Attention, prefix: str, state: Mapping[str, Tensor], source: str | Path) -> None:
    before = cast(nn.Linear, attention.query).weight
    each, key = len(before) // attention.heads, f"{prefix}query.weight"
    if len(state[key]) % each:
        raise _misfit(source, key, tuple(state[key].shape), tuple(before.shape))
    attention.heads = len(state[key]) // each
