"""Structured pruning: channels of convolutions, heads and hidden features of transformers, removed with real shapes."""

from __future__ import annotations

import copy
import warnings
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from nas_compress.backends.base import as_tuple
from nas_compress.compression.layers import excluded_layers
from nas_compress.compression.packages import check_torch_pruning
from nas_compress.elastic import Attention, FeedForward
from nas_compress.errors import ConfigError, first_line
from nas_compress.objectives.modes import evaluating
from nas_compress.supernets.base import Inputs
from nas_compress.supernets.widths import make_divisible

Scope = Literal["global", "local"]

ROUNDING = 1e-2
"""What may change in a network's outputs where sums are taken in another order, as a share of the largest.

Measured on the trained `cifar10_resnet`: 1e-6, and 4e-4 with factors rounded as GPUs do for TF32; a shuffle of the
channels of one layer gives 0.4 or more.
"""


class Width(ABC):
    """Channels (or heads) of a network that can be removed one by one, from all layers that have them.

    Attributes:
        name: The first layer that gives them.
        kind: `"channels"`, or `"heads"`.
        layers: All layers that give them.
        size: How many there are.
    """

    name: str
    kind: Literal["channels", "heads"] = "channels"
    layers: tuple[str, ...]
    size: int

    @abstractmethod
    def importance(self) -> Tensor:
        """Return the squared weights of each, those that write and those that read it; mean 1, shape (size,)."""

    @abstractmethod
    def remove(self, indices: Sequence[int]) -> None:
        """Remove some, in place; the object is of no use after that."""


def channel_widths(module: nn.Module, example: Inputs, exclude: Sequence[str] = ()) -> list[Width]:
    """Return everything in a network that structured pruning can make narrower, in the order of its layers.

    In transformers, these are the heads of each attention and the hidden features of each feed-forward part; the
    features between the layers stay. In convolutional networks, they are the channels that depend on one another
    (Fang et al., 2023, "DepGraph: Towards Any Structural Pruning", by its authors' `torch-pruning`): a residual's
    channels go from all blocks that add to them, a depthwise convolution's with those that it reads. The network's
    outputs stay.

    Args:
        module: A network of plain torch layers; left as it is.
        example: What it takes.
        exclude: Layers whose outputs stay; see `excluded_layers`.

    Raises:
        ConfigError: Some layers cannot be made narrower, a pattern matches no layer, or nothing is left.
    """
    excluded = excluded_layers(module, exclude)
    widths = list(_transformer_widths(module)) or _convolution_widths(module, example)
    if not (left := [width for width in widths if not excluded.intersection(width.layers)]):
        raise ConfigError("nothing to prune: the network has no channels to remove, or excluded_op_names has them all")
    return left


def prune_channels(
    module: nn.Module,
    example: Inputs,
    sparsity: float,
    *,
    scope: Scope = "local",
    round_to: int = 8,
    exclude: Sequence[str] = (),
    of: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Remove the channels and heads of least magnitude from a network, in place.

    Args:
        module: A network of plain torch layers.
        example: What it takes.
        sparsity: Share to remove, 0 to 1.
        scope: `"local"`: of every width; `"global"`: of all widths of a kind together, by importance.
        round_to: Numbers of channels become multiples of it, the nearest ones but no less than 90 %, as the widths of
            MobileNets; widths that are below it stay. Heads are rounded to whole ones, at least one.
        exclude: See `channel_widths`.
        of: The sizes that the share is of, by name; those now by default.

    Returns:
        The sizes after pruning of all widths that may be pruned, by name.

    Raises:
        ConfigError: See `channel_widths`.
    """
    shape = _output_shape("network", module, example)
    widths = channel_widths(module, example, exclude)
    before = {width.name: width.size if of is None else of[width.name] for width in widths}
    _check_interchangeable(module, example, [width for width in widths if isinstance(width, _Channels)])
    importance = {width.name: width.importance().cpu() for width in widths}
    wanted = _local_sizes(before, sparsity) if scope == "local" else _global_sizes(widths, importance, before, sparsity)
    sizes = {}
    for width in widths:
        sizes[width.name] = kept = min(width.size, _rounded(width, wanted[width.name], before[width.name], round_to))
        if kept < width.size:
            order = importance[width.name].argsort(stable=True)
            width.remove(sorted(order[: width.size - kept].tolist()))
    if _output_shape("pruned network", module, example) != shape:
        raise ConfigError("pruning changed the shape of the network's outputs; exclude its last layers")
    return sizes


def _local_sizes(before: Mapping[str, int], sparsity: float) -> dict[str, float]:
    return {name: size * (1 - sparsity) for name, size in before.items()}


def _global_sizes(
    widths: Sequence[Width], importance: Mapping[str, Tensor], before: Mapping[str, int], sparsity: float
) -> dict[str, float]:
    """Return how many of each width are among the most important ones of its kind."""
    sizes: dict[str, float] = {}
    kinds = defaultdict(list)
    for width in widths:
        kinds[width.kind].append(width.name)
    for names in kinds.values():
        scores = torch.cat([importance[name] for name in names])
        owner = torch.cat([torch.full((len(importance[name]),), i) for i, name in enumerate(names)])
        keep = round(sum(before[name] for name in names) * (1 - sparsity))
        counts = torch.bincount(owner[scores.argsort(descending=True, stable=True)[:keep]], minlength=len(names))
        sizes |= dict(zip(names, map(float, counts), strict=True))
    return sizes


def _rounded(width: Width, wanted: float, before: int, round_to: int) -> int:
    if width.kind == "heads":
        return max(1, round(wanted))
    return before if before <= round_to else make_divisible(wanted, round_to)


def _output_shape(what: str, module: nn.Module, example: Inputs) -> torch.Size:
    try:
        with torch.no_grad(), evaluating(module):
            return torch.Size(module(*as_tuple(example)).shape)
    except RuntimeError as error:
        raise ConfigError(f"the {what} does not run on its example: {first_line(error)}") from error


# -- transformers ------------------------------------------------------------------------------------------


class _Features(Width):
    """Consecutive features of linear layers: those of heads, or hidden ones.

    Args:
        name: See `Width`.
        writers: Linear layers that give the features.
        reader: The linear layer that takes them.
        each: Features that go together: those of a head.
    """

    def __init__(self, name: str, writers: Mapping[str, nn.Linear], reader: nn.Linear, each: int = 1) -> None:
        self.name = name
        self.layers = tuple(writers)
        self.size = reader.in_features // each
        self._writers, self._reader, self._each = list(writers.values()), reader, each

    def importance(self) -> Tensor:
        with torch.no_grad():
            rows = [writer.weight.square().sum(1) for writer in self._writers]
            squares = torch.stack([*rows, self._reader.weight.square().sum(0)]).mean(0)
            sums = squares.view(self.size, self._each).sum(1)
            return sums / sums.mean()

    def remove(self, indices: Sequence[int]) -> None:
        pruning = _torch_pruning()
        features = [index * self._each + place for index in indices for place in range(self._each)]
        for writer in self._writers:
            pruning.prune_linear_out_channels(writer, features)
        pruning.prune_linear_in_channels(self._reader, features)


class _Heads(_Features):
    kind = "heads"

    def __init__(self, name: str, attention: Attention) -> None:
        writers = {f"{name}.{part}": getattr(attention, part) for part in ("query", "key", "value")}
        out = cast(nn.Linear, attention.out)
        super().__init__(name, writers, out, out.in_features // attention.heads)
        self._attention = attention

    def remove(self, indices: Sequence[int]) -> None:
        super().remove(indices)
        self._attention.heads -= len(indices)


def _transformer_widths(module: nn.Module) -> Iterator[Width]:
    for name, part in module.named_modules():
        if isinstance(part, Attention):
            yield _Heads(name, part)
        elif isinstance(part, FeedForward):
            yield _Features(name, {f"{name}.up": cast(nn.Linear, part.up)}, cast(nn.Linear, part.down))


# -- convolutional networks --------------------------------------------------------------------------------


class _Channels(Width):
    """Channels that depend on one another.

    Args:
        group: torch-pruning's, of all of them.
        layers: See `Width`.
        pruning: torch-pruning.
    """

    def __init__(self, group: Any, layers: tuple[str, ...], pruning: Any) -> None:
        self.name, self.layers = layers[0], layers
        self.size = len(group[0].idxs)
        self._group, self._pruning = group, pruning

    def importance(self) -> Tensor:
        scores: Tensor = self._pruning.importance.GroupMagnitudeImportance(p=2)(self._group)
        return scores

    def remove(self, indices: Sequence[int]) -> None:
        self._group.prune(list(indices))

    def reorder(self, order: Mapping[int, int], twins: Mapping[int, Any]) -> None:
        """Give the channels another order in a copy of the network, in all layers that write, pass on or read them.

        Args:
            order: For each place the channel that comes there.
            twins: The layers and parameters of the copy, by the `id` of those in the network.

        Raises:
            LookupError: A layer lacks some of the channels.
        """
        reading = (self._pruning.prune_conv_in_channels, self._pruning.prune_linear_in_channels)
        for member in self._group.items:
            places: dict[int, list[int]] = {}
            for place, channel in zip(member.idxs, member.root_idxs, strict=True):
                places.setdefault(channel, []).append(place)
            to = [place for channel in places for place in places[channel]]
            of = [place for channel in places for place in places[order[channel]]]
            layer, reads = twins.get(id(member.dep.layer)), member.dep.handler in reading
            for tensor, dim in _along_channels(layer, reads, member.dep.target.pruning_dim):
                moved = torch.arange(tensor.shape[dim])
                moved[to] = torch.tensor(of)
                tensor.copy_(tensor.index_select(dim, moved.to(tensor.device)))


def _along_channels(layer: nn.Module | nn.Parameter | None, reads: bool, last: int) -> Iterator[tuple[Tensor, int]]:
    """Yield what a layer holds for each of the channels that it reads, or else gives, and the dimension of these.

    Args:
        layer: The layer, or a parameter by itself; None for what holds nothing.
        reads: Whether it reads the channels and gives others.
        last: Their dimension in a parameter by itself.
    """
    if isinstance(layer, nn.Parameter):
        yield layer, last
    elif isinstance(layer, _ConvNd | nn.Linear):
        swapped = isinstance(layer, _ConvNd) and layer.transposed and layer.groups == 1
        yield layer.weight, int(reads != swapped)
        if layer.bias is not None and not reads:
            yield layer.bias, 0
    elif layer is not None:
        for tensor in chain(layer.parameters(recurse=False), layer.buffers(recurse=False)):
            if tensor.numel() > 1:  # not a counter of batches, or the one slope of all channels
                yield tensor, -1


def _check_interchangeable(module: nn.Module, example: Inputs, widths: Sequence[_Channels]) -> None:
    """Check that the order of channels is of no account, so that the ones left mean the same in all layers.

    A shuffle between two layers, for one, makes them count the same channels in different orders, which tracing does
    not see: what is removed from the second would not be what the first one lacks.

    Raises:
        ConfigError: It is of account to the network's output for the example.
    """
    if not _told_apart(module, example, widths):
        return
    for width in widths:
        if _told_apart(module, example, [width]):
            raise ConfigError(
                f"channels of {width.name} cannot be pruned, since layers count them differently or by their order; "
                f"put {width.name} into excluded_op_names, or use pattern 1x1"
            )


def _told_apart(module: nn.Module, example: Inputs, widths: Sequence[_Channels]) -> bool:
    """Return whether a network with the channels of some widths in another order computes something else."""
    twins: dict[int, Any] = {}
    twin, generator = copy.deepcopy(module, twins), torch.Generator().manual_seed(0)
    with torch.no_grad(), evaluating(module), evaluating(twin):
        try:
            for width in widths:
                order = torch.randperm(width.size, generator=generator).tolist()
                width.reorder(dict(enumerate(order)), twins)
        except LookupError:
            return True
        before, after = module(*as_tuple(example)), twin(*as_tuple(example))
    atol = ROUNDING * float(before.abs().nan_to_num().max())
    return not torch.allclose(after, before, rtol=0, atol=atol, equal_nan=True)


def _convolution_widths(module: nn.Module, example: Inputs) -> list[Width]:
    pruning = _torch_pruning()
    _refuse_unknown(module)
    try:
        with torch.enable_grad(), evaluating(module), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = pruning.DependencyGraph().build_dependency(module, as_tuple(example), verbose=False)
            groups = list(graph.get_all_groups())
    except Exception as error:  # torch-pruning raises whatever its tracing meets
        raise ConfigError(
            f"the channels of {type(module).__name__} cannot be traced ({first_line(error)}); use pattern 1x1"
        ) from error
    places = {part: (place, name) for place, (name, part) in enumerate(module.named_modules())}
    widths: list[tuple[int, Width]] = []
    for group in groups:
        writes = [dep.target for dep, _ in group if graph.is_out_channel_pruning_fn(dep.handler)]
        if any(not node.outputs for node in writes):
            continue  # the network's outputs
        layers = sorted(places[n.module] for n in writes if isinstance(n.module, nn.Conv2d | nn.Linear))
        if layers:
            widths.append((layers[0][0], _Channels(group, tuple(name for _, name in layers), pruning)))
    return [width for _, width in sorted(widths, key=lambda each: each[0])]


def _refuse_unknown(module: nn.Module) -> None:
    for name, part in module.named_modules():
        if isinstance(part, nn.MultiheadAttention | nn.RNNBase | nn.GroupNorm):
            raise ConfigError(f"channels around {name} ({type(part).__name__}) cannot be pruned; use pattern 1x1")
        if isinstance(part, nn.Conv2d) and part.groups > 1 and part.in_channels * part.out_channels != part.groups**2:
            raise ConfigError(f"channels of {name}, which has {part.groups} groups, cannot be pruned; use pattern 1x1")


def _torch_pruning() -> Any:
    check_torch_pruning()
    import torch_pruning

    return torch_pruning
