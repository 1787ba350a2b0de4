"""Gives a network the widths that stored weights have, so that a pruned one is its architecture and its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nas_compress.elastic import Attention
from nas_compress.errors import CheckpointError

_RESIZABLE = (nn.Conv2d, nn.Linear, nn.LayerNorm, _BatchNorm)


def fit_shapes(module: nn.Module, state: Mapping[str, Tensor], source: str | Path = "the state") -> None:
    """Give every plain layer of a network the widths of a state dictionary, in place; `load_into` then loads it.

    Convolutions keep their kernel sizes, depthwise ones stay depthwise, heads of an attention keep their width. New
    tensors are zeros.

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
        elif isinstance(part, _RESIZABLE):
            _fit_layer(part, prefix, state, source)
    for key, tensor in module.state_dict().items():
        if tensor.shape != state[key].shape:
            raise _misfit(source, key, tuple(state[key].shape), wanted[key])


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
    weight = state.get(f"{prefix}weight")
    if weight is None:  # a normalisation without parameters
        return
    width = len(weight)
    if isinstance(layer, nn.Conv2d):
        if tuple(weight.shape[2:]) != layer.kernel_size:
            raise _misfit(source, f"{prefix}weight", tuple(weight.shape), tuple(layer.weight.shape))
        if layer.groups == layer.in_channels > 1:
            layer.groups = width * layer.groups // layer.out_channels
        layer.out_channels, layer.in_channels = width, weight.shape[1] * layer.groups
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = weight.shape
    elif isinstance(layer, nn.LayerNorm):
        layer.normalized_shape = tuple(weight.shape)
    elif isinstance(layer, _BatchNorm):
        layer.num_features = width
    for name, parameter in layer.named_parameters(recurse=False):
        zeros = parameter.detach().new_zeros(weight.shape if name == "weight" else width)
        setattr(layer, name, nn.Parameter(zeros, parameter.requires_grad))
    for name, buffer in layer.named_buffers(recurse=False):
        if buffer.ndim:
            setattr(layer, name, buffer.new_zeros(width))


def _fit_heads(attention: Attention, prefix: str, state: Mapping[str, Tensor], source: str | Path) -> None:
    before = cast(nn.Linear, attention.query).weight
    each, key = len(before) // attention.heads, f"{prefix}query.weight"
    if len(state[key]) % each:
        raise _misfit(source, key, tuple(state[key].shape), tuple(before.shape))
    attention.heads = len(state[key]) // each
