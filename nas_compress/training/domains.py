"""Which examples training makes of which data."""

from __future__ import annotations

import torch

from nas_compress.data.base import ImageData
from nas_compress.data.fit import Data
from nas_compress.data.speech import SpeechData
from nas_compress.data.text import TextData
from nas_compress.data.translation import TranslationData
from nas_compress.errors import DataError
from nas_compress.training.config import TrainOptions
from nas_compress.training.examples import Examples
from nas_compress.training.images import ImageExamples
from nas_compress.training.loop import resolve_precision
from nas_compress.training.speech import SpeechExamples
from nas_compress.training.text import TextExamples
from nas_compress.training.translation import TranslationExamples


def examples_of(
    data: Data, options: TrainOptions, device: torch.device, largest_resolution: int | None = None
) -> Examples:
    """Return the examples of a data source.

    Args:
        data: Of any domain.
        options: Training options.
        device: Where the network is.
        largest_resolution: The largest resolution at which images are wanted; None in other domains.
    """
    precision = resolve_precision(options.precision, device)
    match data:
        case ImageData():
            return ImageExamples(data, options, precision, largest_resolution or data.native_resolution or 1)
        case TextData():
            return TextExamples(data, precision)
        case TranslationData():
            return TranslationExamples(data, precision)
        case SpeechData():
            return SpeechExamples(data, precision)
        case _:
            raise DataError(f"data {data.name!r} cannot be trained on")
