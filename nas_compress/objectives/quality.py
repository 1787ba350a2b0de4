"""Top-1 accuracy of a network on images, whatever runs it, and of one on sentences."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from nas_compress.data.base import ImageData, ImageSplit, batches
from nas_compress.data.text import TextData, TextSplit
from nas_compress.errors import EvaluationError
from nas_compress.objectives.base import Measurement, Objective
from nas_compress.objectives.modes import evaluating, laid_out
from nas_compress.objectives.on_data import DataObjective, agent_options, proportion
from nas_compress.objectives.text import text_accuracy
from nas_compress.space import Architecture

if TYPE_CHECKING:
    from nas_compress.agent import NAS
    from nas_compress.supernets.base import ImageSupernet

logger = logging.getLogger(__name__)

CACHED_PIXELS = 2**16
"""Pixels per run in ONNX Runtime: those of a few images, whose activations stay in the caches, are faster each."""

WORTH_EXPORTING = 2e10
"""Multiply-accumulates over all images from which on the export to ONNX (about 0.4 s) pays."""


def accuracy(
    network: Callable[[Tensor], Tensor],
    split: ImageSplit,
    resolution: int,
    batch_size: int = 64,
    limit: int | None = None,
) -> Measurement:
    """Return the top-1 accuracy in %, with its standard error in points; see `proportion`.

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
    with torch.no_grad(), _evaluated(network) as lay_out:
        for images, labels in batches(split, batch_size, resolution, limit=limit):
            logits = network(lay_out(images))
            if not torch.isfinite(logits).all():
                raise EvaluationError(f"the network gives logits that are not finite (images {seen} and on)")
            correct += int((logits.argmax(1) == labels).sum())
            seen += len(labels)
    return proportion(correct, seen, "images")


@contextmanager
def _evaluated(network: Callable[[Tensor], Tensor]) -> Iterator[Callable[[Tensor], Tensor]]:
    """Put a module in the mode and the layout to evaluate it in; yield what lays out its images."""
    if isinstance(network, nn.Module):
        with evaluating(network), laid_out(network) as lay_out:
            yield lay_out
    else:
        yield lambda images: images


class Accuracy(DataObjective[ImageData]):
    """Top-1 accuracy in % on one part of the data; the spread is the standard error in points.

    Where there is more to compute than the export to ONNX costs, ONNX Runtime evaluates the sub-network, three to five
    times as fast as PyTorch; logits differ by rounding alone.

    Args:
        data: Where the images come from.
        resolution_of: Height and width in pixels that an architecture takes.
        macs_of: Multiply-accumulates of an architecture for one image; without it, PyTorch evaluates all.
        options: `split`, `batch_size` and `fraction`; see `DataObjective`.
    """

    name = "acc"
    direction = "maximize"
    unit = "%"
    column = "Top-1 Acc (%)"
    task = "images"
    counted = "images"

    def __init__(
        self,
        data: ImageData,
        resolution_of: Callable[[Architecture], int],
        *,
        macs_of: Callable[[Architecture], int] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(data, **options)
        self._resolution_of = resolution_of
        self._macs_of = macs_of

    @classmethod
    def from_agent(cls, agent: NAS) -> Objective:
        """Return the accuracy on an agent's search-validation images, or sentences; see `Objective.from_agent`."""
        if not isinstance(agent.data, ImageData):
            return SentenceAccuracy.from_agent(agent)
        net, precision = cast("ImageSupernet", agent.supernet), agent.config.section.precision
        in_torch = precision is not None and precision.engine == "inc"
        return cls(agent.data, net.resolution, macs_of=None if in_torch else net.macs, **agent_options(agent))

    def measure(self, subnet: nn.Module, architecture: Architecture) -> Measurement:
        """Evaluate a recalibrated sub-network; see `Objective.measure`."""
        resolution = self._resolution_of(architecture)
        network = self._fastest(subnet, architecture, resolution)
        cached = self._batch_size if network is subnet else max(2, CACHED_PIXELS // resolution**2)
        batch_size = min(self._batch_size, cached)
        return accuracy(network, self._split, resolution, batch_size, self._count)

    def _fastest(self, subnet: nn.Module, architecture: Architecture, resolution: int) -> Callable[[Tensor], Tensor]:
        """Return the sub-network in ONNX Runtime where that pays and works, else as it is."""
        if self._macs_of is None or self._macs_of(architecture) * self._count < WORTH_EXPORTING:
            return subnet
        from nas_compress.backends.onnxruntime import OnnxRuntimeBackend

        example = self._split.images(torch.arange(min(2, len(self._split))), resolution)
        try:
            return OnnxRuntimeBackend().compile(subnet, example, torch.get_num_threads())
        except EvaluationError:
            logger.debug("no export to ONNX: PyTorch evaluates %s", architecture, exc_info=True)
            return subnet


class SentenceAccuracy(DataObjective[TextData[TextSplit]]):
    """Accuracy of a classifier of sentences, in %, on one part of the data; the spread is the standard error."""

    name = "acc"
    direction = "maximize"
    unit = "%"
    column = "Top-1 Acc (%)"
    task = "text"
    counted = "sentences"

    def measure(self, subnet: nn.Module, architecture: Architecture) -> Measurement:
        """Classify the sentences; see `Objective.measure`."""
        return text_accuracy(subnet, self._split, self._batch_size, self._count, trim=True)
