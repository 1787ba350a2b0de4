"""What training is on, whatever the domain: batches of examples, what networks answer, and what that costs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from nas_compress.data.fit import Data
from nas_compress.errors import DataError
from nas_compress.training.config import Precision, TrainOptions
from nas_compress.training.distillation import distillation_loss
from nas_compress.training.lengths import like_lengths

Teacher = nn.Module | Callable[[Tensor], Tensor]
"""A network that gives what the trained one gives: a module, or (of images) a session on the CPU (of an ONNX file)."""


class Answers(NamedTuple):
    """What a network says of a batch.

    Attributes:
        logits: fp32 of shape (rows, classes): a row for each thing that is to be told, such as an image or a token.
        extra: A loss that is known already and has no soft form (CTC's); None for none.
    """

    logits: Tensor
    extra: Tensor | None = None

    def detach(self) -> Answers:
        """Return the same without its history."""
        return Answers(self.logits.detach(), None if self.extra is None else self.extra.detach())


def tensor_of(network: nn.Module, output: object) -> Tensor:
    """Return what a network gives, which must be a tensor.

    Raises:
        DataError: It is something else, such as a dictionary.
    """
    if not isinstance(output, Tensor):
        name = type(network).__name__
        raise DataError(
            f"{name} gives {type(output).__name__}, not a tensor; wrap it in a module that gives the logits"
        )
    return output


class Batch(ABC):
    """Some examples, on the device of the network.

    Attributes:
        labels: What is right, class indices of shape (rows,).
    """

    labels: Tensor

    def __init__(self, labels: Tensor, precision: Precision) -> None:
        self.labels = labels
        self._bf16 = precision == "bf16"

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Run a network in mixed precision, where that is asked for, within this context.

        On CPUs, attention in bf16 is then plain products of matrices: the gradient of torch's fused kernel takes ten
        times as long in bf16 as in fp32.
        """
        device = self.labels.device.type
        fused = nullcontext() if device != "cpu" or not self._bf16 else sdpa_kernel(SDPBackend.MATH)
        with torch.autocast(device, torch.bfloat16, enabled=self._bf16), fused:
            yield

    @abstractmethod
    def answers(self, network: Teacher, resolution: int | None) -> Answers:
        """Return what a network answers.

        Args:
            network: The network, in the mode that it is in.
            resolution: Height and width of its images; None in other domains.
        """

    def loss(
        self,
        answers: Answers,
        teacher: Tensor | None,
        options: TrainOptions,
        *,
        weight: float = 1.0,
        temperature: float = 1.0,
    ) -> Tensor:
        """Return the loss, a mean over rows.

        Args:
            answers: The network's.
            teacher: Logits of a teacher, of the same shape; None to learn from the labels alone.
            options: Label smoothing, and the weight of an extra loss.
            weight: Weight of the teacher against the labels.
            temperature: Divides the logits of both before they are compared.
        """
        smoothing = options.label_smoothing
        loss = distillation_loss(
            answers.logits, self.labels, teacher, weight=weight, label_smoothing=smoothing, temperature=temperature
        )
        if answers.extra is None:
            return loss
        return (1 - options.ctc_weight) * loss + options.ctc_weight * answers.extra

    def right(self, answers: Answers) -> int:
        """Return how many rows were answered right."""
        return int((answers.logits.argmax(1) == self.labels).sum())


class Examples(ABC):
    """The examples of a data source, as training wants them.

    Args:
        data: The data source.
        precision: fp32 or bf16.
        lengths: Length of each training example, shape (examples,); None where all are of one size.
    """

    def __init__(self, data: Data, precision: Precision, lengths: Tensor | None = None) -> None:
        self._sizes = len(data.train), len(data.val)
        self._precision = precision
        self._lengths = lengths

    def __len__(self) -> int:
        """Return the number of training examples."""
        return self._sizes[0]

    @property
    def validation_size(self) -> int:
        """Number of search-validation examples."""
        return self._sizes[1]

    @abstractmethod
    def batch(self, indices: Tensor, generator: torch.Generator | None, device: torch.device) -> Batch:
        """Return some training examples.

        Args:
            indices: Which, shape (n,).
            generator: Draws random changes of them; None for none.
            device: Where the network is.
        """

    @abstractmethod
    def validation(self, indices: Tensor, device: torch.device) -> Batch:
        """Return some search-validation examples, unchanged; the first n are a fair sample."""

    def order(self, batch_size: int, generator: torch.Generator) -> list[Tensor]:
        """Return the steps of an epoch, each the numbers of its examples, in a random order.

        Examples of different lengths are in steps with their like (`like_lengths`). An incomplete last batch is left
        out, another one in each epoch.
        """
        if self._lengths is not None:
            return like_lengths(self._lengths, batch_size, generator)
        steps = len(self) // batch_size
        return list(torch.split(torch.randperm(len(self), generator=generator)[: steps * batch_size], batch_size))
