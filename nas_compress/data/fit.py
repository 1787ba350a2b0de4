"""Which data goes with which network."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from nas_compress.data.base import ImageData, check_fit
from nas_compress.data.qa import QuestionSplit
from nas_compress.data.speech import SpeechData, check_fit_speech
from nas_compress.data.text import TextData, TextSplit, check_rows_fit, check_text_fit
from nas_compress.data.translation import TranslationData
from nas_compress.data.translation import check_fit as check_translation_fit
from nas_compress.errors import DataError
from nas_compress.supernets.asr import SpeechRecognizer
from nas_compress.supernets.asr_config import AsrConfig
from nas_compress.supernets.base import ImageSupernet, Supernet
from nas_compress.supernets.bert import Bert
from nas_compress.supernets.bert_config import BertConfig
from nas_compress.supernets.bert_layers import BertEmbeddings
from nas_compress.supernets.hat_config import HATConfig
from nas_compress.supernets.translator import Translator

Data = ImageData | TextData[TextSplit] | TextData[QuestionSplit] | TranslationData | SpeechData
"""What data sources deliver."""


def outputs(data: Data) -> int | None:
    """Return the number of outputs that a network for the data has; None where the data leaves it open."""
    match data:
        case ImageData() | TextData():
            return len(data.classes) or None
        case TranslationData():
            return len(data.target_vocabulary)
        case SpeechData():
            return data.vocabulary.size


def check_network(data: Data, net: Supernet) -> None:
    """Check that a network and the data are made for each other, as far as the network's family is known.

    Raises:
        DataError: They are for different tasks, or sizes differ: channels, classes, vocabulary, length.
    """
    config = getattr(net, "config", None)
    if isinstance(data, ImageData) and isinstance(net, ImageSupernet):
        check_fit(data, net.in_channels, net.num_classes)
    elif isinstance(data, TextData) and isinstance(config, BertConfig) and _same_task(data, config):
        check_text_fit(cast(TextData[TextSplit], data), config.vocabulary, config.positions, config.num_classes)
    elif isinstance(data, TranslationData) and isinstance(config, HATConfig):
        check_translation_fit(data, config.source_vocabulary, config.target_vocabulary)
        _check_sentences(data, config.max_positions)
    elif isinstance(data, SpeechData) and isinstance(config, AsrConfig):
        check_fit_speech(data, config.mels, config.vocabulary)
    elif isinstance(config, BertConfig | HATConfig | AsrConfig) or isinstance(net, ImageSupernet):
        raise DataError(f"data {data.name!r} is not for a network like {net.name!r}: their tasks differ")


def check_subnet(data: Data, subnet: nn.Module) -> None:
    """Check that an extracted sub-network takes all examples of the data, as far as its family is known.

    Raises:
        DataError: It knows other tokens, or takes shorter sentences.
    """
    if isinstance(data, TranslationData) and isinstance(subnet, Translator):
        check_translation_fit(data, subnet.table(0).num_embeddings, subnet.table(2).num_embeddings)
        _check_sentences(data, min(subnet.source.longest, subnet.target.longest))
    elif isinstance(data, TextData) and isinstance(subnet, Bert):
        tables = cast(BertEmbeddings, subnet.embeddings)
        check_rows_fit(cast(TextData[TextSplit], data), tables.words.num_embeddings, tables.positions.num_embeddings)
    elif isinstance(data, SpeechData) and isinstance(subnet, SpeechRecognizer):
        bands = data.features.bands  # others fail with the first example
        check_fit_speech(data, bands, cast(nn.Linear, subnet.ctc).out_features)


def _check_sentences(data: TranslationData, positions: int) -> None:
    for part, split in (("training", data.train), ("validation", data.val), ("test", data.test)):
        longest = max(map(len, (*split.sources, *split.targets)), default=0)
        if longest > positions:
            remedy = "with the option longest" if part == "training" else "of its files, or take a net with more"
            raise DataError(
                f"data {data.name!r} has a {part} sentence of {longest} tokens, the net takes {positions}; "
                f"leave longer ones out {remedy}"
            )


def _same_task(data: TextData[Any], config: BertConfig) -> bool:
    return isinstance(data.train, QuestionSplit) == (config.task == "answering")
