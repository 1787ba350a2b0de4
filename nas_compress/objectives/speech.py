"""Word error rate of a speech recognizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from nas_compress.backends import Session
from nas_compress.data.speech import SpeechBatch, SpeechData, Vocabulary
from nas_compress.errors import ConfigError, DataError, EvaluationError, MissingExtraError
from nas_compress.objectives.base import Measurement
from nas_compress.objectives.modes import evaluating
from nas_compress.objectives.on_data import DataObjective
from nas_compress.space import Architecture

RESAMPLES = 1000
"""Bootstrap samples of utterances behind the standard error of a word error rate."""

Decoding = Literal["ctc", "attention"]


def word_error_rate(hypotheses: Sequence[str], references: Sequence[str]) -> Measurement:
    """Return the word error rate in %, with its standard error in points.

    The value is the number of substituted, deleted and inserted words (by jiwer) over that of words in the references.
    The standard error is that of 1,000 bootstrap samples of utterances (Bisani and Ney, 2004, "Bootstrap Estimates for
    Confidence Intervals in ASR Performance Evaluation"), the same ones at every call. Without any error there is
    nothing to resample: it is then that of one error in two words more, as that of an accuracy.

    Args:
        hypotheses: What was recognised.
        references: What was said; each holds a word at least.

    Raises:
        DataError: The numbers differ, or a reference is empty, or there is none.
        MissingExtraError: jiwer is not installed.
    """
    if len(hypotheses) != len(references):
        raise DataError(f"{len(hypotheses)} hypotheses for {len(references)} references")
    if not references:
        raise DataError("a word error rate wants at least one utterance, there is none")
    if empty := [i for i, reference in enumerate(references) if not reference.split()]:
        raise DataError(f"reference {empty[0]} holds no words")
    errors, words = _count(hypotheses, references)
    value, provenance = 100 * errors.sum() / words.sum(), {"utterances": len(references), "words": int(words.sum())}
    if not errors.any():
        n = int(words.sum()) + 2
        return Measurement(float(value), 100 * math.sqrt((n - 1) / n**2 / n), provenance)
    drawn = np.random.default_rng(0).integers(0, len(errors), (RESAMPLES, len(errors)))
    rates = errors[drawn].sum(1) / words[drawn].sum(1)
    return Measurement(float(value), 100 * float(rates.std()), provenance)


def _count(hypotheses: Sequence[str], references: Sequence[str]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return errors and words of each utterance."""
    try:
        import jiwer
    except ImportError:
        raise MissingExtraError("jiwer", "speech") from None
    errors = []
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        counts = jiwer.process_words(reference, hypothesis)
        errors.append(counts.substitutions + counts.deletions + counts.insertions)
    return np.array(errors), np.array([len(reference.split()) for reference in references])


def recognize(
    subnet: nn.Module | Session, batches: Iterable[SpeechBatch], vocabulary: Vocabulary, *, decoding: Decoding
) -> tuple[list[str], list[str]]:
    """Return what a recognizer makes of utterances, and what was said.

    Args:
        subnet: A `SpeechRecognizer`; with `"ctc"`, a backend's session of one will do.
        batches: The utterances.
        vocabulary: Has the tokens' texts.
        decoding: `"ctc"` (greedy, without the decoder) or `"attention"` (greedy, with it).

    Raises:
        EvaluationError: The network gives outputs that are not finite.
    """
    from nas_compress.supernets.asr import SpeechRecognizer
    from nas_compress.supernets.asr_decoding import recognize_attention, recognize_ctc

    if not isinstance(subnet, SpeechRecognizer) and not (isinstance(subnet, Session) and decoding == "ctc"):
        raise EvaluationError(f"wer wants a speech recognizer, got a {type(subnet).__name__}")
    decode: Callable[..., list[list[int]]] = recognize_ctc if decoding == "ctc" else recognize_attention
    hypotheses: list[str] = []
    references: list[str] = []
    with torch.no_grad(), evaluating(subnet) if isinstance(subnet, nn.Module) else nullcontext():
        for batch in batches:
            tokens = decode(subnet, batch.features, batch.lengths)
            hypotheses += [vocabulary.decode(sentence) for sentence in tokens]
            references += batch.transcripts
    return hypotheses, references


class WordErrorRate(DataObjective[SpeechData]):
    """Word error rate in % on one part of the data; the spread is the standard error in points.

    Args:
        data: Where the utterances come from.
        decoding: See `recognize`.
        options: `split`, `batch_size` and `fraction`; see `DataObjective`.

    Raises:
        ConfigError: `decoding` is unknown.
    """

    name = "wer"
    direction = "minimize"
    unit = "%"
    column = "WER (%)"
    task = "speech"
    counted = "utterances"

    def __init__(self, data: SpeechData, *, decoding: Decoding = "ctc", **options: Any) -> None:
        super().__init__(data, **options)
        if decoding not in ("ctc", "attention"):
            raise ConfigError(f"wer: decoding = {decoding!r} is unknown; allowed: ctc, attention")
        self._decoding: Decoding = decoding

    def measure(self, subnet: nn.Module, architecture: Architecture) -> Measurement:
        """Recognise the utterances and count errors; see `Objective.measure`."""
        batches = self._split.batches(self._batch_size, limit=self._count)
        return word_error_rate(*recognize(subnet, batches, self._data.vocabulary, decoding=self._decoding))

    def context(self) -> dict[str, Any]:
        """Return data, split, number of utterances and decoding; see `Objective.context`."""
        return super().context() | {"decoding": self._decoding}
