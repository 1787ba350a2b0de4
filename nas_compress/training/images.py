"""Labelled images as training wants them: augmented, and at the resolution of each sub-network."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from nas_compress.data.augment import Augmentation
from nas_compress.data.base import ImageData, ImageSplit, resize
from nas_compress.layout import channels_last
from nas_compress.objectives.modes import takes_channels_last
from nas_compress.training.config import Precision, TrainOptions
from nas_compress.training.examples import Answers, Batch, Examples, Teacher, tensor_of

Layouts = WeakKeyDictionary[nn.Module, bool]


def augmentation_of(options: TrainOptions) -> Augmentation | None:
    """Return how training with these options changes its images; None where it leaves them as they are."""
    return None if options.augment is None else Augmentation(**options.augment.model_dump())


class ImageBatch(Batch):
    """Images, augmented once and resized for each sub-network that asks.

    Args:
        images: Shape (n, C, r, r).
        labels: See `Batch`.
        precision: See `Batch`.
        layouts: Whether networks take images with the channels last, as far as that is known; it is added to.
    """

    def __init__(self, images: Tensor, labels: Tensor, precision: Precision, layouts: Layouts) -> None:
        super().__init__(labels, precision)
        self._images, self._layouts = images, layouts
        self._sizes: dict[tuple[int, bool], Tensor] = {}

    def at(self, resolution: int, *, last: bool = True) -> Tensor:
        """Return the images at a resolution, with the channels last or first."""
        key = resolution, last
        if key not in self._sizes:
            images = resize(self._images, resolution)
            self._sizes[key] = channels_last(images) if last else images.contiguous()
        return self._sizes[key]

    def _takes_last(self, network: nn.Module, resolution: int) -> bool:
        """Return whether a network takes images with the channels last (nearly twice as fast for depthwise nets)."""
        if network not in self._layouts:
            self._layouts[network] = takes_channels_last(network, self.at(resolution, last=True)[:2])
        return self._layouts[network]

    def answers(self, network: Teacher, resolution: int | None) -> Answers:
        """Return a network's logits, shape (images, classes); see the base class."""
        size = resolution or self._images.shape[-1]
        if not isinstance(network, nn.Module):
            return Answers(network(self.at(size, last=False).cpu()).to(self.labels.device))
        # Tried out beforehand: weights that autocast has cast without gradients would have none in the pass below.
        last = self._takes_last(network, size)
        with self.autocast():
            output = network(self.at(size, last=last))
        return Answers(tensor_of(network, output).float())


class ImageExamples(Examples):
    """The images of a data source.

    Args:
        data: The data source.
        options: Augmentation.
        precision: fp32 or bf16.
        largest_resolution: The largest one that a step asks for.
    """

    def __init__(self, data: ImageData, options: TrainOptions, precision: Precision, largest_resolution: int) -> None:
        super().__init__(data, precision)
        self._data = data
        # Stored images are augmented at their own size, others at the largest size that is needed.
        self._base = data.native_resolution or largest_resolution
        self._augment = augmentation_of(options)
        self._layouts: Layouts = WeakKeyDictionary()

    def batch(self, indices: Tensor, generator: torch.Generator | None, device: torch.device) -> ImageBatch:
        """Return some training images; see the base class."""
        images = self._data.train.images(indices, self._base).to(device)
        if self._augment is not None and generator is not None:
            images = self._augment(images, self._data.black, generator)
        return self._batch(self._data.train, indices, images)

    def validation(self, indices: Tensor, device: torch.device) -> ImageBatch:
        """Return some search-validation images; see the base class."""
        return self._batch(self._data.val, indices, self._data.val.images(indices, self._base).to(device))

    def _batch(self, split: ImageSplit, indices: Tensor, images: Tensor) -> ImageBatch:
        return ImageBatch(images, split.labels[indices].to(images.device), self._precision, self._layouts)
