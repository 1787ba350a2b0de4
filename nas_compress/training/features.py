"""Distillation of features: what a student and a teacher compute after each of their stages is compared.

Both losses want no layers of their own and no equal widths, so that any sub-network can learn from any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.errors import ConfigError
from nas_compress.objectives.modes import evaluating

QUARTERS = 4
"""Places in a transformer whose features are compared: the ends of the quarters of its layers."""


def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared distance between the attention maps of images, 0 to 2.

    An attention map is the sum over the channels of the squared features, scaled to length 1. Source: Zagoruyko &
    Komodakis, 2017, "Paying More Attention to Attention", section 3.1, equation 2 (with the squared distance).

    Args:
        student: Features, shape (n, channels, height, width).
        teacher: Features of the same images, of any number of channels; maps of another height or width are resized.
    """
    ours, theirs = (x.float().square().mean(1, keepdim=True) for x in (student, teacher))
    if ours.shape != theirs.shape:
        theirs = F.interpolate(theirs, size=ours.shape[-2:], mode="bilinear", antialias=True)
    return (F.normalize(ours.flatten(1)) - F.normalize(theirs.flatten(1))).square().sum(1).mean()


def similarity_preservation(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared distance between the rows of two matrices: how alike the images of a batch are, 0 to 4.

    Source: Tung & Mori, 2019, "Similarity-Preserving Knowledge Distillation", equations 1 to 4 (the mean over the n
    rows, instead of over the n^2 entries).

    Args:
        student: Features, shape (n, ...).
        teacher: Features of the same images, of any size.
    """
    ours, theirs = (F.normalize(x @ x.T) for x in (y.float().flatten(1) for y in (student, teacher)))
    return (ours - theirs).square().sum(1).mean()


@contextmanager
def compared_features(
    student: nn.Module, teacher: nn.Module, images: Tensor, teacher_images: Tensor
) -> Iterator[Callable[[], Tensor]]:
    """Yield a function that returns the loss between the features of the latest forward passes of two networks.

    Convolutional networks are compared by `attention_transfer`, transformers by `similarity_preservation`, at
    `stage_ends`; the loss is the mean over these. No gradient flows into the teacher.

    Args:
        student: The network that learns.
        teacher: The network that it learns from.
        images: Two or more of the student's, to find the stages.
        teacher_images: The same for the teacher.

    Raises:
        ConfigError: The stages of the two cannot be matched.
    """
    (ours, spatial), (theirs, theirs_spatial) = stage_ends(student, images), stage_ends(teacher, teacher_images)
    if spatial != theirs_spatial or len(ours) != len(theirs):
        raise ConfigError(
            f"features: those of the sub-network ({_described(ours, spatial)}) and of the teacher "
            f"({_described(theirs, theirs_spatial)}) cannot be matched; set features to 0"
        )
    loss = attention_transfer if spatial else similarity_preservation
    with _recorded(ours) as x, _recorded(theirs) as y:
        yield lambda: torch.stack([loss(a, b.detach()) for a, b in zip(x(), y(), strict=True)]).mean()


def stage_ends(module: nn.Module, images: Tensor) -> tuple[list[nn.Module], bool]:
    """Return the parts of a network whose outputs are compared, and whether these are maps (n, channels, h, w).

    Parts are the module's children, those of an `nn.Sequential` in its place. In a convolutional network a stage ends
    with the last part of each height and width above 1 x 1. A transformer, whose layers map (n, tokens, features) to
    the same shape, has no stages; the ends of the quarters of its layers stand for them.

    Args:
        module: A network; left as it was.
        images: What it takes, shape (n, channels, r, r).

    Raises:
        ConfigError: It has neither such maps nor such layers.
    """
    calls = _calls(module, (images,))
    stages = {after[2:]: part for part, _, after in calls if len(after) == 4 and math.prod(after[2:]) > 1}
    if stages:
        return list(stages.values()), True
    layers = _layers(module, calls)
    return [layers[-(-len(layers) * quarter // QUARTERS) - 1] for quarter in range(1, QUARTERS + 1)], False


def token_layers(module: nn.Module, inputs: Sequence[Tensor]) -> list[nn.Module]:
    """Return the layers of a transformer: its parts (see `stage_ends`) from (n, tokens, features) to the same shape.

    Args:
        module: A network; left as it was.
        inputs: What it takes.

    Raises:
        ConfigError: It has no such layers.
    """
    return _layers(module, _calls(module, inputs))


_Call = tuple[nn.Module, torch.Size | None, torch.Size]
"""A part that gave a tensor, and the shapes of its first input (None where it is no tensor) and of its output."""


def _calls(module: nn.Module, inputs: Sequence[Tensor]) -> list[_Call]:
    calls: list[_Call] = []

    def note(part: nn.Module, given: tuple[object, ...], output: object) -> None:
        first = given[0] if given else None  # all by keyword
        if isinstance(output, Tensor):
            calls.append((part, first.shape if isinstance(first, Tensor) else None, output.shape))

    hooks = [part.register_forward_hook(note) for part in _parts(module)]
    try:
        with torch.no_grad(), evaluating(module):
            module(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _layers(module: nn.Module, calls: Sequence[_Call]) -> list[nn.Module]:
    layers = [part for part, before, after in calls if len(after) == 3 and before == after]
    if not layers:
        raise ConfigError(
            f"features: no stages found in {type(module).__name__}: no part gives maps (n, channels, h, w) or maps "
            "tokens (n, tokens, features) to tokens; set features to 0"
        )
    return layers


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if type(child) in (nn.Sequential, nn.ModuleList):
            yield from _parts(child)
        else:
            yield child


@contextmanager
def _recorded(parts: Sequence[nn.Module]) -> Iterator[Callable[[], list[Tensor]]]:
    """Yield a function that returns what parts of a network gave in its latest forward pass."""
    latest: dict[nn.Module, Tensor] = {}

    def note(part: nn.Module, _: tuple[object, ...], output: object) -> None:
        if isinstance(output, Tensor):
            latest[part] = output

    hooks = [part.register_forward_hook(note) for part in dict.fromkeys(parts)]
    try:
        yield lambda: [latest[part] for part in parts]
    finally:
        for hook in hooks:
            hook.remove()


def _described(ends: Sequence[nn.Module], spatial: bool) -> str:
    return f"{len(ends)} stages of maps" if spatial else "layers of tokens"
