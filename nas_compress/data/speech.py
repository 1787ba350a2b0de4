"""Utterances with their transcripts, in three parts, as padded batches of features and tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from nas_compress.data.base import SPLIT_SEED, Parts
from nas_compress.data.features import LogMel
from nas_compress.errors import DataError
from nas_compress.supernets.asr_config import BEGIN, BLANK, END

SPECIAL = END + 1
"""Number of tokens that stand for no text: `BLANK`, `BEGIN`, `END`."""


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of transcripts: words or characters, numbered after those that stand for no text.

    Attributes:
        texts: The tokens' texts; token `SPECIAL + i` stands for `texts[i]`.
        joint: What stands between two tokens: a space for words, nothing for characters.

    Raises:
        DataError: There is no text, or one twice.
    """

    texts: tuple[str, ...]
    joint: str = ""

    def __post_init__(self) -> None:
        if not self.texts or len(set(self.texts)) < len(self.texts):
            raise DataError(f"a vocabulary wants distinct texts, at least one; got {len(self.texts)}")

    @property
    def size(self) -> int:
        """Number of tokens, those that stand for no text included."""
        return SPECIAL + len(self.texts)

    def encode(self, transcript: str) -> list[int]:
        """Return the tokens of a transcript.

        Raises:
            DataError: It holds something that is not in the vocabulary.
        """
        parts = transcript.split(self.joint) if self.joint else list(transcript)
        try:
            return [SPECIAL + self.texts.index(part) for part in parts if part]
        except ValueError:
            unknown = next(part for part in parts if part and part not in self.texts)
            raise DataError(f"transcript {transcript[:80]!r} holds {unknown!r}, which the vocabulary lacks") from None

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens; those that stand for no text are left out."""
        return self.joint.join(self.texts[token - SPECIAL] for token in tokens if token >= SPECIAL)


CHARACTERS = Vocabulary((" ", "'", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
"""What LibriSpeech's transcripts are made of."""


@dataclass(frozen=True)
class SpeechBatch:
    """Some utterances, padded to the longest.

    Attributes:
        features: Log-mel features, float32 of shape (N, T, bands), padded with 0.
        lengths: Frames of each before padding, shape (N,).
        tokens: Tokens of each transcript, shape (N, U), padded with `BLANK`.
        token_lengths: Tokens of each before padding, shape (N,).
        transcripts: The transcripts.
    """

    features: Tensor
    lengths: Tensor
    tokens: Tensor
    token_lengths: Tensor
    transcripts: tuple[str, ...]

    @property
    def previous(self) -> Tensor:
        """What a decoder is given: `BEGIN`, then the tokens, shape (N, U + 1)."""
        return torch.cat([torch.full((len(self.tokens), 1), BEGIN), self.tokens], 1)

    @property
    def following(self) -> Tensor:
        """What it should say: the tokens, then `END`, shape (N, U + 1), padded with `BLANK`."""
        targets = torch.cat([self.tokens, torch.full((len(self.tokens), 1), BLANK)], 1)
        return targets.scatter(1, self.token_lengths[:, None], END)


class SpeechSplit:
    """One part of a data source of speech, in an order whose first n utterances are a fair sample of all.

    Args:
        transcripts: The transcripts.
        read: Returns the waveform of utterance i, float32 of shape (samples,) on a scale of -1 to 1.
        features: Makes features of it.
        vocabulary: Makes tokens of transcripts.
        keep: Whether features are kept once they are computed (about 16 kB a second of speech, with 40 bands).

    Raises:
        DataError: A transcript does not fit the vocabulary, or is empty.
    """

    task: ClassVar[str] = "speech"

    def __init__(
        self,
        transcripts: Sequence[str],
        read: Callable[[int], Tensor],
        features: LogMel,
        vocabulary: Vocabulary,
        *,
        keep: bool,
    ) -> None:
        self.transcripts = tuple(transcripts)
        self._tokens = [torch.tensor(vocabulary.encode(transcript), dtype=torch.long) for transcript in transcripts]
        for index, tokens in enumerate(self._tokens):
            if not len(tokens):
                raise DataError(f"the transcript of utterance {index} is empty")
        self._read, self._features, self._keep = read, features, keep
        self._kept: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.transcripts)

    def waveform(self, index: int) -> Tensor:
        """Return the waveform of an utterance, float32 of shape (samples,)."""
        return self._read(index)

    def tokens(self, index: int) -> int:
        """Return the number of tokens in the transcript of an utterance."""
        return len(self._tokens[index])

    def features(self, index: int) -> Tensor:
        """Return the features of an utterance, float32 of shape (frames, bands)."""
        if index in self._kept:
            return self._kept[index]
        features = self._features(self._read(index))
        if self._keep:
            self._kept[index] = features
        return features

    def batch(self, indices: Sequence[int]) -> SpeechBatch:
        """Return some utterances as a batch."""
        features = [self.features(i) for i in indices]
        tokens = [self._tokens[i] for i in indices]
        pad = torch.nn.utils.rnn.pad_sequence
        return SpeechBatch(
            pad(features, batch_first=True),
            torch.tensor([len(f) for f in features]),
            pad(tokens, batch_first=True, padding_value=BLANK),
            torch.tensor([len(t) for t in tokens]),
            tuple(self.transcripts[i] for i in indices),
        )

    def batches(
        self, batch_size: int, *, limit: int | None = None, generator: torch.Generator | None = None
    ) -> Iterator[SpeechBatch]:
        """Yield batches of `batch_size` utterances, the last one possibly smaller.

        Args:
            batch_size: Utterances per batch.
            limit: Stop after so many; without a generator, the first ones are a fair sample.
            generator: Draws the order; without it the order is that of the split.
        """
        order = range(len(self)) if generator is None else torch.randperm(len(self), generator=generator).tolist()
        chosen = list(order)[:limit]
        for start in range(0, len(chosen), batch_size):
            yield self.batch(chosen[start : start + batch_size])


@dataclass(frozen=True)
class SpeechData(Parts[SpeechSplit]):
    """A data source of speech in three parts.

    The search may look at `val` as often as it likes; no architecture is ever chosen on `test`.

    Attributes:
        name: Registered name of the data source.
        train: Utterances for training.
        val: Search-validation utterances.
        test: Utterances that neither training nor search see.
        features: What the features are.
        vocabulary: The tokens.
        fingerprint: Hash of contents, features and split: the data part of a measurement's context.
    """

    name: str
    train: SpeechSplit
    val: SpeechSplit
    test: SpeechSplit
    features: LogMel
    vocabulary: Vocabulary
    fingerprint: str


def check_fit_speech(data: SpeechData, bands: int, vocabulary: int) -> None:
    """Check that a network and the data are made for each other.

    Args:
        data: The data.
        bands: Mel bands that the network takes.
        vocabulary: Tokens that it knows.

    Raises:
        DataError: One of the two differs.
    """
    if data.features.bands != bands:
        raise DataError(f"data {data.name!r} has features of {data.features.bands} mel bands, the net takes {bands}")
    if data.vocabulary.size != vocabulary:
        raise DataError(f"data {data.name!r} has {data.vocabulary.size} tokens, the net knows {vocabulary}")


def shuffled(count: int) -> list[int]:
    """Return a random order of so many utterances, the same in every run and on every machine."""
    return [int(i) for i in np.random.default_rng(SPLIT_SEED).permutation(count)]


def fingerprint(parts: Sequence[Sequence[str]], features: LogMel, vocabulary: Vocabulary) -> str:
    """Return a hash of what utterances are (a line for each, by part), of features and of tokens."""
    digest = hashlib.sha256(f"{features!r} {vocabulary!r}".encode())
    for part in parts:
        digest.update("\n".join(["", *part, ""]).encode())
    return digest.hexdigest()[:16]
