"""Distillation of hidden states and attention: every layer of a text network learns from one of its teacher.

Source: Jiao et al., 2020, "TinyBERT: Distilling BERT for Natural Language Understanding", section 3.1: the layers of
the student learn from those of the teacher at equal distances. Neither widths nor heads need be equal, and no layers
are added, so that any sub-network can learn from any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.elastic.attention import DotProduct
from nas_compress.training.features import token_layers


def hidden_distance(student: Tensor, teacher: Tensor, kept: Tensor) -> Tensor:
    """Return the mean squared difference of hidden states (Jiao et al., 2020, equation 8, without a projection).

    Where the widths differ, it is that of the cosines between all pairs of tokens of a text (Tung & Mori, 2019,
    "Similarity-Preserving Knowledge Distillation", equations 1 to 4, of tokens in place of images).

    Args:
        student: Shape (n, tokens, features).
        teacher: Of the same tokens, any number of features.
        kept: Which tokens are no padding, bool of shape (n, tokens).
    """
    ours, theirs = student.float(), teacher.float()
    if ours.shape == theirs.shape:
        return (ours - theirs).square().mean(2)[kept].mean()
    alike = [x @ x.mT for x in (F.normalize(ours, dim=2), F.normalize(theirs, dim=2))]
    return (alike[0] - alike[1]).square()[kept[:, :, None] & kept[:, None, :]].mean()


def attention_distance(student: Tensor, teacher: Tensor, kept: Tensor) -> Tensor:
    """Return the divergence of the student's attention from the teacher's, in nats, a mean over tokens.

    Source: Wang et al., 2020, "MiniLM", equation 2 (the Kullback-Leibler divergence), of the means over the heads.

    Args:
        student: Where each token looks, probabilities of shape (n, tokens, tokens), 0 for padding.
        teacher: The same of the teacher.
        kept: Which tokens are no padding, bool of shape (n, tokens).
    """
    tiny = torch.finfo(torch.float32).tiny
    gap = teacher.clamp(min=tiny).log() - student.clamp(min=tiny).log()
    return (teacher * gap).sum(2)[kept].mean()


@contextmanager
def compared_hidden_states(
    student: nn.Module, teacher: nn.Module, inputs: Sequence[Tensor]
) -> Iterator[Callable[[], Tensor]]:
    """Yield a function that returns the loss between the layers of two networks in their latest forward passes.

    It is the mean over the student's layers of `hidden_distance` and `attention_distance`. Of M layers, the m-th
    learns from the teacher's layer m N / M of N, rounded up. No gradient flows into the teacher.

    Args:
        student: The network that learns.
        teacher: The network that it learns from.
        inputs: What both take, to find the layers.

    Raises:
        ConfigError: A network has no layers that map tokens to tokens.
    """
    ours, theirs = token_layers(student, inputs), token_layers(teacher, inputs)
    places = [-(-(m * len(theirs)) // len(ours)) - 1 for m in range(1, len(ours) + 1)]
    with ExitStack() as stack:
        learning = [stack.enter_context(_recorded(layer)) for layer in ours]
        teaching = [stack.enter_context(_recorded(theirs[place])) for place in places]
        yield lambda: torch.stack([_distance(x, y) for x, y in zip(learning, teaching, strict=True)]).mean()


@dataclass
class _Record:
    """What a layer computed in its latest pass: its output, which tokens are no padding, its attention."""

    hidden: Tensor | None = None
    kept: Tensor | None = None
    attention: Tensor | None = None


def _distance(ours: _Record, theirs: _Record) -> Tensor:
    if ours.hidden is None or theirs.hidden is None or ours.kept is None:
        raise RuntimeError("layers are compared before both networks ran")
    loss = hidden_distance(ours.hidden, theirs.hidden.detach(), ours.kept)
    if ours.attention is None or theirs.attention is None:
        return loss
    return loss + attention_distance(ours.attention, theirs.attention.detach(), ours.kept)


@contextmanager
def _recorded(layer: nn.Module) -> Iterator[_Record]:
    """Yield a record of a layer `layer(x, bias)`; see `attention_bias` in `supernets.bert_layers`."""
    record = _Record()

    def note(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        record.hidden = output
        padded = len(inputs) > 1
        record.kept = inputs[1][:, 0, 0] == 0 if padded else torch.ones_like(output[..., 0], dtype=torch.bool)

    def note_attention(_: nn.Module, inputs: tuple[Tensor, ...], __: Tensor) -> None:
        queries, keys, _values, bias = inputs
        scores = queries.float() @ keys.float().mT * queries.shape[-1] ** -0.5
        record.attention = (scores if bias is None else scores + bias).softmax(3).mean(1)

    mixing = next((part for part in layer.modules() if isinstance(part, DotProduct)), None)
    hooks = [layer.register_forward_hook(note)]
    if mixing is not None:
        hooks.append(mixing.register_forward_hook(note_attention))
    try:
        yield record
    finally:
        for hook in hooks:
            hook.remove()
