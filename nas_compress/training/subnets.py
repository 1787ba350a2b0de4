"""What the algorithms of super-network training have in common: a step over several sub-networks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import Tensor

from nas_compress.space import Architecture
from nas_compress.supernets.base import ImageSupernet, Supernet
from nas_compress.training.config import SupernetTrainConfig
from nas_compress.training.examples import Answers, Batch
from nas_compress.training.loop import Extra, Phase


@dataclass(frozen=True)
class Plan:
    """How an algorithm trains a super-network.

    Attributes:
        phases: Its stages, one after the other.
        extra: What it keeps besides the weights.
    """

    phases: list[Phase]
    extra: Extra = field(default_factory=Extra)


def resolution_of(supernet: Supernet, architecture: Architecture) -> int | None:
    """Return the height and width of the images of a sub-network; None where it takes none."""
    return supernet.resolution(architecture) if isinstance(supernet, ImageSupernet) else None


def train_subnets(
    supernet: Supernet,
    batch: Batch,
    architectures: Iterable[Architecture],
    config: SupernetTrainConfig,
    scale: float,
    *,
    teacher: Tensor | None = None,
    weight: float = 1.0,
    teaches: Architecture | None = None,
) -> tuple[Answers, Tensor]:
    """Back-propagate the losses of sub-networks on one batch; gradients add up.

    Args:
        supernet: The super-network.
        batch: The examples.
        architectures: The sub-networks, in the order in which they are computed.
        config: Training options.
        scale: Factor of the losses.
        teacher: Logits that they learn from; None for the labels alone.
        weight: Weight of the teacher against the labels.
        teaches: The sub-network that is the teacher of those after it.

    Returns:
        Answers and loss of the first one.
    """
    outcomes: list[tuple[Answers, Tensor]] = []
    for architecture in architectures:
        with supernet.activate(architecture):
            answers = batch.answers(supernet, resolution_of(supernet, architecture))
        loss = batch.loss(answers, teacher, config, weight=weight)
        (loss * scale).backward()  # type: ignore[no-untyped-call]
        outcomes.append((answers.detach(), loss.detach()))
        if architecture == teaches:
            teacher = answers.logits.detach()
    return outcomes[0]
