"""Word error rate of a speech recognizer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import numpy as np
import torch
from torch import nn

from nas_compress.data.speech import SpeechData
from nas_compress.errors import ConfigError, DataError, EvaluationError, MissingExtraError
from nas_compress.objectives.base import Measurement, Objective
from nas_compress.objectives.modes import evaluating
from nas_compress.space import Architecture

if TYPE_CHECKING:
    from nas_compress.agent import NAS

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
    subnet: nn.Module, data: SpeechData, split: str, *, decoding: Decoding, batch_size: int, limit: int | None = None
) -> tuple[list[str], list[str]]:
    """Return what a recognizer makes of the first utterances of a part, and what was said.

    Args:
        subnet: A `SpeechRecognizer`.
        data: The utterances.
        split: The part's name.
        decoding: `"ctc"` (greedy, without the decoder) or `"attention"` (greedy, with it).
        batch_size: Utterances per forward pass.
        limit: Use the first so many alone.

    Raises:
        EvaluationError: The network gives outputs that are not finite.
    """
    from nas_compress.supernets.asr import SpeechRecognizer, encoded_lengths
    from nas_compress.supernets.asr_decoding import greedy_ctc, recognize_attention

    if not isinstance(subnet, SpeechRecognizer):
        raise EvaluationError(f"wer wants a speech recognizer, got a {type(subnet).__name__}")
    hypotheses: list[str] = []
    references: list[str] = []
    with torch.no_grad(), evaluating(subnet):
        for batch in data.split(split).batches(batch_size, limit=limit):
            log_probabilities = subnet.encode(batch.features, batch.lengths)[2]
            frames = encoded_lengths(batch.lengths)
            if not all(bool(torch.isfinite(p[:n]).all()) for p, n in zip(log_probabilities, frames, strict=True)):
                raise EvaluationError("the network gives log-probabilities that are not finite")
            if decoding == "ctc":
                tokens = greedy_ctc(log_probabilities, frames)
            else:
                tokens = recognize_attention(subnet, batch.features, batch.lengths)
            hypotheses += [data.vocabulary.decode(sentence) for sentence in tokens]
            references += batch.transcripts
    return hypotheses, references


class WordErrorRate(Objective):
    """Word error rate in % on one part of the data; the spread is the standard error in points.

    Args:
        data: Where the utterances come from.
        split: `"val"` in a search; `"test"` is for the final figures alone.
        decoding: See `recognize`.
        batch_size: Utterances per forward pass.
        fraction: Share of the split to use, in (0, 1]: its first utterances, the same ones for every architecture.

    Raises:
        ConfigError: `decoding`, `fraction` or `batch_size` out of range.
        DataError: The data has no such split.
    """

    name = "wer"
    direction = "minimize"
    unit = "%"
    column = "WER (%)"

    def __init__(
        self,
        data: SpeechData,
        *,
        split: str = "val",
        decoding: Decoding = "ctc",
        batch_size: int = 64,
        fraction: float = 1.0,
    ) -> None:
        if not 0 < fraction <= 1:
            raise ConfigError(f"wer: fraction = {fraction!r} is out of range; allowed: more than 0, at most 1")
        if batch_size < 1:
            raise ConfigError(f"wer: batch_size = {batch_size!r} is out of range; allowed: 1 and more")
        if decoding not in ("ctc", "attention"):
            raise ConfigError(f"wer: decoding = {decoding!r} is unknown; allowed: ctc, attention")
        self._data, self._split, self._decoding, self._batch_size = data, split, decoding, batch_size
        self._utterances = math.ceil(fraction * len(data.split(split)))

    @classmethod
    def from_agent(cls, agent: NAS) -> Self:
        """Return the error rate on an agent's search-validation utterances; see `Objective.from_agent`."""
        section = agent.config.section
        return cls(cast(SpeechData, agent.data), batch_size=section.eval_batch_size, fraction=section.test_fraction)

    def measure(self, subnet: nn.Module, architecture: Architecture) -> Measurement:
        """Recognise the utterances and count errors; see `Objective.measure`."""
        options = {"decoding": self._decoding, "batch_size": self._batch_size, "limit": self._utterances}
        return word_error_rate(*recognize(subnet, self._data, self._split, **options))  # type: ignore[arg-type]

    def context(self) -> dict[str, Any]:
        """Return data, split, number of utterances and decoding; see `Objective.context`."""
        return {
            "dataset": self._data.name,
            "data": self._data.fingerprint,
            "split": self._split,
            "utterances": self._utterances,
            "decoding": self._decoding,
            "precision": "fp32",
        }
