"""What the steps of a recipe do differently in each domain: images, text, translation, speech.

Each domain is a class; what all but images have in common is in the base class. `nas_compress.tasks` has what must be
known of them before any work, and training has its own (`training/examples.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict
from typing import Any, ClassVar, Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from nas_compress.backends import Session
from nas_compress.backends.onnx import Axes
from nas_compress.data import base as images
from nas_compress.data import text
from nas_compress.data.base import ImageData
from nas_compress.data.fit import Data
from nas_compress.data.qa import QuestionSplit
from nas_compress.data.speech import SpeechBatch, SpeechData
from nas_compress.data.text import TextData, TextSplit
from nas_compress.data.translation import TranslationData
from nas_compress.errors import ConfigError
from nas_compress.objectives.base import Measurement
from nas_compress.objectives.calibration import CALIBRATION_BATCH, calibrated_subnet
from nas_compress.objectives.quality import accuracy
from nas_compress.objectives.speech import recognize, word_error_rate
from nas_compress.objectives.text import answer_scores, predict_answers, text_accuracy
from nas_compress.objectives.translation import bleu, translate
from nas_compress.space import Architecture
from nas_compress.supernets.base import ImageSupernet, Inputs, Supernet
from nas_compress.supernets.decoding import BeamSettings
from nas_compress.supernets.translator import Translator
from nas_compress.tasks import TASKS, Task

Network = nn.Module | Session
"""What can be measured: a module, or a backend's session (of an exported file)."""

Source = TypeVar("Source", bound=Data)


class Domain(ABC, Generic[Source]):
    """A data source, and what a recipe does with networks for it.

    Args:
        data: The data source.

    Attributes:
        data: As given.
        task: What the networks are for.
        axes: Axes of exported files that are dynamic besides the batch.
    """

    task: ClassVar[Task]
    axes: ClassVar[Axes] = {}

    def __init__(self, data: Source) -> None:
        self.data = data

    @abstractmethod
    def quality(self, network: Network, part: str, size: int | None = None, batch_size: int = 64) -> Measurement:
        """Return the task's figure of quality.

        Args:
            network: The network.
            part: `"val"` within a recipe, `"test"` for the final figures.
            size: Height and width of its images; None in other domains.
            batch_size: Examples per forward pass.

        Raises:
            EvaluationError: The network gives outputs that are not finite.
        """

    @abstractmethod
    def metadata(self) -> dict[str, Any]:
        """Return what a user of an exported file must know of inputs and outputs."""

    def size(self, supernet: Supernet, architecture: Architecture) -> int | None:
        """Return height and width of the images that an architecture takes; None where there are no images."""
        return None

    def subnet(self, supernet: Supernet, architecture: Architecture, images: int) -> nn.Module:
        """Return a sub-network fit to be measured; batch norm is recalibrated on at most so many training images."""
        return supernet.extract(architecture)

    def example(self, supernet: Supernet, architecture: Architecture, part: str, batch_size: int) -> Inputs:
        """Return the inputs on which latency is measured: those of a search, unless a domain says otherwise."""
        return supernet.example_input(batch_size, architecture)

    def sample(self, size: int | None) -> Inputs | None:
        """Return inputs of another length than an example's, for checking exported files; None if there are none."""
        return None

    def values(self, part: str, size: int | None, count: int) -> Tensor | None:
        """Return the real numbers that the first examples of a part are made of; None where they are whole numbers."""
        return None

    def calibration(self, size: int | None, limit: int) -> list[Inputs]:
        """Return batches of at most `limit` training examples in all, for quantization.

        Raises:
            ConfigError: Networks for this task are not quantized.
        """
        raise ConfigError(f"quantize {self.task.refused['quantize']}")


class Images(Domain[ImageData]):
    """Classification of images at the resolution of each architecture."""

    task = TASKS["images"]

    def quality(self, network: Network, part: str, size: int | None = None, batch_size: int = 64) -> Measurement:
        """Return the top-1 accuracy; see the base class."""
        return accuracy(network, self.data.split(part), cast(int, size), batch_size)

    def metadata(self) -> dict[str, Any]:
        """Return how images are normalised, and the classes."""
        return {"mean": self.data.mean, "std": self.data.std, "classes": self.data.classes}

    def size(self, supernet: Supernet, architecture: Architecture) -> int | None:
        """Return the resolution; see the base class."""
        return cast(ImageSupernet, supernet).resolution(architecture)

    def subnet(self, supernet: Supernet, architecture: Architecture, images: int) -> nn.Module:
        """Return a recalibrated sub-network; see the base class."""
        return calibrated_subnet(cast(ImageSupernet, supernet), architecture, self.data, images)

    def example(self, supernet: Supernet, architecture: Architecture, part: str, batch_size: int) -> Tensor:
        """Return the first images of the part; see the base class."""
        return first_images(self.data.split(part), cast(ImageSupernet, supernet).resolution(architecture), batch_size)

    def values(self, part: str, size: int | None, count: int) -> Tensor:
        """Return images; see the base class."""
        return first_images(self.data.split(part), cast(int, size), count)

    def calibration(self, size: int | None, limit: int) -> list[Inputs]:
        """Return training images; see the base class."""
        count = min(CALIBRATION_BATCH, limit)
        return [x for x, _ in images.batches(self.data.train, count, cast(int, size), limit=limit)]


def first_images(split: images.ImageSplit, resolution: int, count: int) -> Tensor:
    """Return the first images of a part, over again where it has fewer than `count`."""
    return split.images(torch.arange(count) % len(split), resolution)


TextSource = TypeVar("TextSource", TextData[TextSplit], TextData[QuestionSplit])


class Text(Domain[TextSource]):
    """Word pieces with a mask and types, of any length up to the network's."""

    axes: ClassVar[Axes] = {name: {1: "length"} for name in ("input_ids", "attention_mask", "token_type_ids")}

    def metadata(self) -> dict[str, Any]:
        """Return the length and the vocabulary of the tokenizer, and the classes."""
        return {"length": self.data.length, "vocabulary": self.data.vocabulary, "classes": self.data.classes}

    def sample(self, size: int | None) -> Inputs | None:
        """Return the first rows of the search-validation part, without padding that all have; see the base class."""
        return next(text.batches(self.data.val, 2, trim=True))[0]

    def calibration(self, size: int | None, limit: int) -> list[Inputs]:
        """Return training rows; see the base class."""
        count = min(CALIBRATION_BATCH, limit)
        return [inputs for inputs, _ in text.batches(self.data.train, count, limit=limit, trim=True)]


class Sentences(Text[TextData[TextSplit]]):
    """Classification of sentences."""

    task = TASKS["text"]

    def quality(self, network: Network, part: str, size: int | None = None, batch_size: int = 64) -> Measurement:
        """Return the accuracy; see the base class."""
        return text_accuracy(network, self.data.split(part), batch_size, trim=True)


class Questions(Text[TextData[QuestionSplit]]):
    """Answers to questions out of a text."""

    task = TASKS["questions"]
    axes: ClassVar[Axes] = {**Text.axes, "output": {1: "length"}}

    def quality(self, network: Network, part: str, size: int | None = None, batch_size: int = 64) -> Measurement:
        """Return SQuAD's F1; see the base class."""
        split = self.data.split(part)
        return answer_scores(predict_answers(network, split, batch_size, trim=True), split.questions).f1


class Translation(Domain[TranslationData]):
    """Translation, decoded greedily as searches do."""

    task = TASKS["translation"]

    def quality(self, network: Network, part: str, size: int | None = None, batch_size: int = 64) -> Measurement:
        """Return BLEU; see the base class."""
        split = self.data.split(part)
        texts = translate(cast(Translator, network), split, self.data, BeamSettings(beams=1))
        return bleu(texts, split.references)

    def metadata(self) -> dict[str, Any]:
        """Return the languages and the vocabularies, of which there is one where source and target share it."""
        both = (self.data.source_vocabulary, self.data.target_vocabulary)
        return {"languages": self.data.languages, "vocabularies": list(dict.fromkeys(v.describe() for v in both))}


class Speech(Domain[SpeechData]):
    """Recognition of speech, decoded by greedy CTC as searches do."""

    task = TASKS["speech"]
    axes: ClassVar[Axes] = {
        "features": {1: "frames"}, "tokens": {1: "tokens"}, "output_0": {1: "encoded"}, "output_1": {1: "tokens"},
    }  # fmt: skip

    def quality(self, network: Network, part: str, size: int | None = None, batch_size: int = 64) -> Measurement:
        """Return the word error rate; see the base class."""
        batches = self.data.split(part).batches(batch_size)
        return word_error_rate(*recognize(network, batches, self.data.vocabulary, decoding="ctc"))

    def metadata(self) -> dict[str, Any]:
        """Return what the features are, and the texts of the tokens."""
        return {"features": asdict(self.data.features), "tokens": self.data.vocabulary.texts}

    def sample(self, size: int | None) -> Inputs | None:
        """Return the first utterances of the search-validation part; see the base class."""
        return self._inputs(self.data.val.batch(range(min(2, len(self.data.val)))))

    def values(self, part: str, size: int | None, count: int) -> Tensor:
        """Return features; see the base class."""
        split = self.data.split(part)
        return split.batch(range(min(count, len(split)))).features

    def calibration(self, size: int | None, limit: int) -> list[Inputs]:
        """Return training utterances; see the base class."""
        batches = self.data.train.batches(min(CALIBRATION_BATCH, limit), limit=limit)
        return [self._inputs(batch) for batch in batches]

    def _inputs(self, batch: SpeechBatch) -> Inputs:
        return batch.features, batch.previous, batch.lengths


def domain_of(data: Data) -> Domain[Any]:
    """Return the domain of a data source."""
    match data:
        case ImageData():
            return Images(data)
        case TextData():
            return (Questions if isinstance(data.train, QuestionSplit) else Sentences)(cast(Any, data))
        case TranslationData():
            return Translation(data)
        case SpeechData():
            return Speech(data)
