"""Pruning of single weights, which become 0: by magnitude, anywhere or N of every M neighbours."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nas_compress.compression.layers import excluded_layers
from nas_compress.errors import ConfigError

log = logging.getLogger(__name__)

_ATTENTION = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
"""What `nn.MultiheadAttention` holds besides the linear layer of its outputs."""


@dataclass(frozen=True)
class Layer:
    """A weight of a network.

    Attributes:
        part: What has it.
        name: Its name there.
    """

    part: nn.Module
    name: str = "weight"

    @property
    def weight(self) -> Tensor:
        """The weight as it is now, output channels first, inputs second."""
        return cast(Tensor, getattr(self.part, self.name))


Layers = Mapping[str, Layer]


def weight_layers(module: nn.Module, exclude: Sequence[str] = (), m: int | None = None) -> Layers:
    """Return the convolutions and linear layers, those of attention included, whose weights can be pruned, by name.

    Args:
        module: The network.
        exclude: Those left alone; see `excluded_layers`.
        m: Neighbours of an N:M pattern along the inputs. Layers whose number of inputs (of a group of channels) is no
            multiple of it stay dense, such as depthwise convolutions and the one that reads the image.

    Raises:
        ConfigError: A pattern matches no layer, no layer is left, or a weight is computed from others (weight
            normalisation).
    """
    excluded = excluded_layers(module, exclude)
    named: dict[str, Layer] = {}
    for name, part in module.named_modules():
        if name in excluded:
            continue
        if isinstance(part, nn.Conv2d | nn.Linear):
            named[name] = Layer(part)
        elif isinstance(part, nn.MultiheadAttention):
            own = (each for each in _ATTENTION if getattr(part, each) is not None)
            named |= {f"{name}.{each}".removeprefix("."): Layer(part, each) for each in own}
    for name, layer in named.items():
        if layer.name not in dict(layer.part.named_parameters(recurse=False)):
            raise ConfigError(
                f"the weights of {name} are computed from other parameters (weight_norm, parametrize), and cannot be "
                f"pruned; remove that, or put {name} into excluded_op_names"
            )
    layers = {name: layer for name, layer in named.items() if m is None or layer.weight.shape[1] % m == 0}
    if len(layers) < len(named):
        log.info("these layers stay dense, for their inputs are no multiple of %d: %s", m, sorted({*named} - {*layers}))
    if not layers:
        what = "left" if m is None else f"left whose number of inputs is a multiple of {m}"
        raise ConfigError(f"nothing to prune: no convolution or linear layer is {what}")
    return layers


def magnitude_masks(layers: Layers, sparsity: float, scope: Literal["global", "local"] = "local") -> dict[str, Tensor]:
    """Return a mask per layer, False for the weights of least magnitude.

    Args:
        layers: By name.
        sparsity: Share of the weights to remove, 0 to 1, exactly (rounded to whole weights).
        scope: `"local"`: of each layer; `"global"`: of all layers together.

    Returns:
        Boolean tensors of the weights' shapes. Weights that are 0 go first, so that masks of rising sparsity nest.
    """
    magnitudes = {name: layer.weight.detach().abs().flatten() for name, layer in layers.items()}
    if scope == "local":
        kept = {name: _largest(values, sparsity) for name, values in magnitudes.items()}
    else:
        mask = _largest(torch.cat(list(magnitudes.values())), sparsity)
        parts = torch.split(mask, [len(values) for values in magnitudes.values()])
        kept = dict(zip(magnitudes, parts, strict=True))
    return {name: mask.view_as(layers[name].weight) for name, mask in kept.items()}


def _largest(values: Tensor, sparsity: float) -> Tensor:
    mask = torch.ones_like(values, dtype=torch.bool)
    mask[values.argsort(stable=True)[: round(len(values) * sparsity)]] = False
    return mask


def n_of_m_masks(layers: Layers, n: int, m: int) -> dict[str, Tensor]:
    """Return a mask per layer, True for the n weights of largest magnitude among every m neighbours.

    Neighbours follow one another along the inputs (input channels of a convolution, at the same place of the kernel),
    the dimension over which products are added up: Mishra et al., 2021, "Accelerating Sparse Deep Neural Networks",
    section 3, for 2:4.

    Args:
        layers: By name, with numbers of inputs that are multiples of m.
        n: Weights that stay of each m.
        m: Neighbours.
    """
    masks = {}
    for name, layer in layers.items():
        magnitude = layer.weight.detach().abs().transpose(1, -1)
        order = magnitude.reshape(-1, m).argsort(dim=1, descending=True, stable=True)
        mask = torch.zeros_like(order, dtype=torch.bool).scatter_(1, order[:, :n], True)
        masks[name] = mask.view(magnitude.shape).transpose(1, -1)
    return masks


class _Masked(nn.Module):
    """Gives weights with zeros outside of a mask."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * cast(Tensor, self.mask)


@contextmanager
def masked(layers: Layers, masks: Mapping[str, Tensor]) -> Iterator[None]:
    """Hold the weights outside of the masks at 0 for the length of a `with` block, whatever trains the layers.

    Gradients do not reach them (`torch.nn.utils.parametrize`, which holds whoever reads the weights: attention reads
    those of its layers itself). After it the layers are plain ones again, with exact zeros.

    Args:
        layers: By name; changed in place.
        masks: By name, True for what stays; see `magnitude_masks`.
    """
    for name, mask in masks.items():
        parametrize.register_parametrization(layers[name].part, layers[name].name, _Masked(mask))
    try:
        yield
    finally:
        for name in masks:
            parametrize.remove_parametrizations(layers[name].part, layers[name].name)
