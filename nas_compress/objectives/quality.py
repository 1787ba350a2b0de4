"""Top-1 accuracy of a network, whatever runs it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from nas_compress.data.base import ImageData, ImageSplit, batches
from nas_compress.errors import ConfigError, EvaluationError
from nas_compress.objectives.base import Measurement, Objective
from nas_compress.objectives.modes import evaluating
from nas_compress.space import Architecture

if TYPE_CHECKING:
    from nas_compress.agent import NAS


def accuracy(
    network: Callable[[Tensor], Tensor],
    split: ImageSplit,
    resolution: int,
    batch_size: int = 64,
    limit: int | None = None,
) -> Measurement:
    """Return the top-1 accuracy in %, with its standard error in points.

    The value is the share k / n of right answers. The standard error is that of (k + 1) / (n + 2), as if one right and
    one wrong answer more had been seen, so that it is not 0 where all n answers are right or all are wrong (Agresti and
    Coull, 1998, "Approximate is better than 'exact' for interval estimation of binomial proportions").

    Args:
        network: Maps images of shape (n, C, r, r) to logits of shape (n, classes): a module, which is
            evaluated in evaluation mode, or a backend's session.
        split: Labelled images.
        resolution: Height and width r of the images in pixels.
        batch_size: Images per forward pass; it does not change the result.
        limit: Use the first so many images alone.

    Raises:
        EvaluationError: The network gives logits that are not finite, or the split is empty.
    """
    correct = seen = 0
    with torch.no_grad(), _evaluated(network):
        for images, labels in batches(split, batch_size, resolution, limit=limit):
            logits = network(images)
            if not torch.isfinite(logits).all():
                raise EvaluationError(f"the network gives logits that are not finite (images {seen} and on)")
            correct += int((logits.argmax(1) == labels).sum())
            seen += len(labels)
    if not seen:
        raise EvaluationError("accuracy wants at least one image, the split is empty")
    drawn = (correct + 1) / (seen + 2)
    return Measurement(100 * correct / seen, 100 * math.sqrt(drawn * (1 - drawn) / (seen + 2)), {"images": seen})


@contextmanager
def _evaluated(network: Callable[[Tensor], Tensor]) -> Iterator[None]:
    if isinstance(network, nn.Module):
        with evaluating(network):
            yield
    else:
        yield


class Accuracy(Objective):
    """Top-1 accuracy in % on one part of the data; the spread is the standard error in points.

    Args:
        data: Where the images come from.
        resolution_of: Height and width in pixels that an architecture takes.
        split: `"val"` in a search; `"test"` is for the final figures alone.
        batch_size: Images per forward pass.
        fraction: Share of the split to use, in (0, 1]: its first images, the same ones for every architecture.

    Raises:
        ConfigError: `fraction` or `batch_size` out of range.
        DataError: The data has no such split.
    """

    name = "acc"
    direction = "maximize"
    unit = "%"
    column = "Top-1 Acc (%)"

    def __init__(
        self,
        data: ImageData,
        resolution_of: Callable[[Architecture], int],
        *,
        split: str = "val",
        batch_size: int = 64,
        fraction: float = 1.0,
    ) -> None:
        if not 0 < fraction <= 1:
            raise ConfigError(f"acc: fraction = {fraction!r} is out of range; allowed: more than 0, at most 1")
        if batch_size < 1:
            raise ConfigError(f"acc: batch_size = {batch_size!r} is out of range; allowed: 1 and more")
        self._data = data
        self._split_name = split
        self._split = data.split(split)
        self._resolution_of = resolution_of
        self._batch_size = batch_size
        self._images = math.ceil(fraction * len(self._split))

    @classmethod
    def from_agent(cls, agent: NAS) -> Self:
        """Return the accuracy on an agent's search-validation images; see `Objective.from_agent`."""
        section = agent.config.section
        return cls(
            agent.data,
            agent.supernet.resolution,
            batch_size=section.eval_batch_size,
            fraction=section.test_fraction,
        )

    def measure(self, subnet: nn.Module, architecture: Architecture) -> Measurement:
        """Evaluate a recalibrated sub-network; see `Objective.measure`."""
        resolution = self._resolution_of(architecture)
        return accuracy(subnet, self._split, resolution, self._batch_size, self._images)

    def context(self) -> dict[str, Any]:
        """Return data, split and number of images; see `Objective.context`."""
        return {
            "dataset": self._data.name,
            "data": self._data.fingerprint,
            "split": self._split_name,
            "images": self._images,
            "precision": "fp32",
        }
