"""Top-1 accuracy of a network on images, whatever runs it, and of one on sentences."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from nas_compress.data.base import ImageData, ImageSplit, batches
from nas_compress.data.text import TextData, TextSplit
from nas_compress.errors import ConfigError, EvaluationError
from nas_compress.objectives.base import Measurement, Objective
from nas_compress.objectives.modes import channels_last, evaluating
from nas_compress.objectives.text import text_accuracy
from nas_compress.space import Architecture

if TYPE_CHECKING:
    from nas_compress.agent import NAS
    from nas_compress.supernets.base import ImageSupernet

logger = logging.getLogger(__name__)

WORTH_EXPORTING = 2e10
"""Multiply-accumulates over all images from which on the export to ONNX (about 0.4 s) pays."""


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
    with torch.no_grad(), _evaluated(network) as laid_out:
        for images, labels in batches(split, batch_size, resolution, limit=limit):
            logits = network(laid_out(images))
            if not torch.isfinite(logits).all():
                raise EvaluationError(f"the network gives logits that are not finite (images {seen} and on)")
            correct += int((logits.argmax(1) == labels).sum())
            seen += len(labels)
    if not seen:
        raise EvaluationError("accuracy wants at least one image, the split is empty")
    drawn = (correct + 1) / (seen + 2)
    return Measurement(100 * correct / seen, 100 * math.sqrt(drawn * (1 - drawn) / (seen + 2)), {"images": seen})


@contextmanager
def _evaluated(network: Callable[[Tensor], Tensor]) -> Iterator[Callable[[Tensor], Tensor]]:
    """Put a module in the mode and the layout to evaluate it in; yield what lays out its images."""
    if isinstance(network, nn.Module):
        with evaluating(network), channels_last(network) as laid_out:
            yield laid_out
    else:
        yield lambda images: images


class Accuracy(Objective):
    """Top-1 accuracy in % on one part of the data; the spread is the standard error in points.

    Where there is more to compute than the export to ONNX costs, ONNX Runtime evaluates the sub-network, three to five
    times as fast as PyTorch; logits differ by rounding alone.

    Args:
        data: Where the images come from.
        resolution_of: Height and width in pixels that an architecture takes.
        split: `"val"` in a search; `"test"` is for the final figures alone.
        batch_size: Images per forward pass.
        fraction: Share of the split to use, in (0, 1]: its first images, the same ones for every architecture.
        macs_of: Multiply-accumulates of an architecture for one image; without it, PyTorch evaluates all.

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
        macs_of: Callable[[Architecture], int] | None = None,
    ) -> None:
        _check_range(batch_size, fraction)
        self._data = data
        self._split_name = split
        self._split = data.split(split)
        self._resolution_of = resolution_of
        self._batch_size = batch_size
        self._images = math.ceil(fraction * len(self._split))
        self._macs_of = macs_of

    @classmethod
    def from_agent(cls, agent: NAS) -> Objective:
        """Return the accuracy on an agent's search-validation images, or sentences; see `Objective.from_agent`."""
        section, data = agent.config.section, agent.data
        options: dict[str, Any] = {"batch_size": section.eval_batch_size, "fraction": section.test_fraction}
        if not isinstance(data, ImageData):
            return SentenceAccuracy(cast(Any, data), **options)
        net = cast("ImageSupernet", agent.supernet)
        return cls(data, net.resolution, macs_of=net.macs, **options)

    def measure(self, subnet: nn.Module, architecture: Architecture) -> Measurement:
        """Evaluate a recalibrated sub-network; see `Objective.measure`."""
        resolution = self._resolution_of(architecture)
        network = self._fastest(subnet, architecture, resolution)
        return accuracy(network, self._split, resolution, self._batch_size, self._images)

    def _fastest(self, subnet: nn.Module, architecture: Architecture, resolution: int) -> Callable[[Tensor], Tensor]:
        """Return the sub-network in ONNX Runtime where that pays and works, else as it is."""
        if self._macs_of is None or self._macs_of(architecture) * self._images < WORTH_EXPORTING:
            return subnet
        from nas_compress.backends.onnxruntime import OnnxRuntimeBackend

        example = self._split.images(torch.arange(min(2, len(self._split))), resolution)
        try:
            return OnnxRuntimeBackend().compile(subnet, example, torch.get_num_threads())
        except EvaluationError:
            logger.debug("no export to ONNX: PyTorch evaluates %s", architecture, exc_info=True)
            return subnet

    def context(self) -> dict[str, Any]:
        """Return data, split and number of images; see `Objective.context`."""
        return {
            "dataset": self._data.name,
            "data": self._data.fingerprint,
            "split": self._split_name,
            "images": self._images,
            "precision": "fp32",
        }


class SentenceAccuracy(Objective):
    """Accuracy of a classifier of sentences, in %, on one part of the data; the spread is the standard error in points.

    Args:
        data: Where the sentences come from.
        split: `"val"` in a search; `"test"` is for the final figures alone.
        batch_size: Sentences per forward pass.
        fraction: Share of the split to use, in (0, 1]: its first sentences, the same ones for every architecture.

    Raises:
        ConfigError: `fraction` or `batch_size` out of range.
        DataError: The data has no such split.
    """

    name = "acc"
    direction = "maximize"
    unit = "%"
    column = "Top-1 Acc (%)"

    def __init__(
        self, data: TextData[TextSplit], *, split: str = "val", batch_size: int = 64, fraction: float = 1.0
    ) -> None:
        _check_range(batch_size, fraction)
        self._data, self._split_name, self._batch_size = data, split, batch_size
        self._split = data.split(split)
        self._sentences = math.ceil(fraction * len(self._split))

    def measure(self, subnet: nn.Module, architecture: Architecture) -> Measurement:
        """Classify the sentences; see `Objective.measure`."""
        return text_accuracy(subnet, self._split, self._batch_size, self._sentences, trim=True)

    def context(self) -> dict[str, Any]:
        """Return data, split and number of sentences; see `Objective.context`."""
        return {
            "dataset": self._data.name,
            "data": self._data.fingerprint,
            "split": self._split_name,
            "sentences": self._sentences,
            "precision": "fp32",
        }


def _check_range(batch_size: int, fraction: float) -> None:
    if not 0 < fraction <= 1:
        raise ConfigError(f"acc: fraction = {fraction!r} is out of range; allowed: more than 0, at most 1")
    if batch_size < 1:
        raise ConfigError(f"acc: batch_size = {batch_size!r} is out of range; allowed: 1 and more")
