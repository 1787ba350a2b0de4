"""Sentences and their translations as tokens, in three parts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from nas_compress.data.base import SPLIT_SEED, Parts
from nas_compress.data.parallel import Sentences, parallel_files, read_parallel
from nas_compress.data.vocabulary import EOS, PAD, BytePairEncoding, FairseqDictionary, Vocabulary
from nas_compress.errors import DataError

Tokens = list[int]


class TranslationBatch(NamedTuple):
    """Some sentences, filled up with PAD at the end.

    Attributes:
        source: Source tokens, int64 of shape (n, S), EOS last.
        previous: What the decoder is given, shape (n, T): EOS, then the target tokens but the last.
        target: What it must answer, shape (n, T), EOS last.
    """

    source: Tensor
    previous: Tensor
    target: Tensor


@dataclass(frozen=True)
class TranslationSplit:
    """One part of a data source, in an order whose first n sentences are a fair sample of all of them.

    Attributes:
        sources: Tokens of the source sentences, each with EOS at its end.
        targets: Tokens of their translations, each with EOS at its end.
        references: The translations as texts.
    """

    task: ClassVar[str] = "translation"

    sources: Sequence[Tokens]
    targets: Sequence[Tokens]
    references: Sequence[str]

    def __len__(self) -> int:
        return len(self.sources)

    def batch(self, indices: Tensor) -> TranslationBatch:
        """Return the sentences of these numbers as tensors."""
        targets = [self.targets[i] for i in indices.tolist()]
        source = padded([self.sources[i] for i in indices.tolist()])
        return TranslationBatch(source, padded([[EOS, *row[:-1]] for row in targets]), padded(targets))


@dataclass(frozen=True)
class TranslationData(Parts[TranslationSplit]):
    """A data source in three parts.

    The search may look at `val` as often as it likes; no architecture is ever chosen on `test`.

    Attributes:
        name: Registered name of the data source.
        train: Sentences for training.
        val: Search-validation sentences.
        test: Sentences that neither training nor search see.
        source_vocabulary: Of the source sentences.
        target_vocabulary: Of the target sentences; the same object where they share one.
        languages: Source and target.
        fingerprint: Hash of texts and vocabularies: the data part of a measurement's context.
    """

    name: str
    train: TranslationSplit
    val: TranslationSplit
    test: TranslationSplit
    source_vocabulary: Vocabulary
    target_vocabulary: Vocabulary
    languages: tuple[str, str]
    fingerprint: str


def load_multi30k(path: str | Path | None) -> TranslationData:
    """Load Multi30k, German to English, with one vocabulary of 4,000 tokens (Elliott et al., 2016).

    Raises:
        DataError: A file is missing or damaged.
        MissingExtraError: `tokenizers` is not installed.
    """
    return load(path, ("de", "en"), vocabulary=4000, name="multi30k")


def load(
    path: str | Path | None,
    languages: tuple[str, str],
    *,
    vocabulary: int = 8000,
    cache: str | Path | None = None,
    dictionaries: tuple[str | Path, str | Path] | None = None,
    longest: int = 100,
    name: str = "translation",
) -> TranslationData:
    """Load aligned texts.

    Sentences become tokens by one byte-pair encoding for both languages, trained on the train part. For published
    checkpoints, whose texts are split into tokens already, the dictionaries of fairseq are given instead.

    Args:
        path: The folder of the files; see `parallel_files`.
        languages: Endings of source and target files.
        vocabulary: Tokens of the byte-pair encoding, the special ones included.
        cache: A folder in which the encoding is kept, so that it is not trained again.
        dictionaries: `dict.txt` of source and target, in place of the encoding; the same file twice if it is joined.
        longest: Training sentences with more tokens are left out.
        name: Name in records.

    Raises:
        ConfigError: `vocabulary` has no room for more than the special tokens.
        DataError: A file is missing, damaged, or does not fit the others.
        MissingExtraError: `tokenizers` is needed and not installed.
    """
    texts = {part: read_parallel(*files) for part, files in parallel_files(name, path, languages).items()}
    if dictionaries is None:
        source = target = _encoding(texts["train"], vocabulary, cache)
    else:
        source, target = _dictionaries(dictionaries)
    parts = {part: _split(source, target, texts[part], longest if part == "train" else None) for part in texts}
    if not len(parts["train"]):
        raise DataError(f"data {name!r} has no training sentence of at most {longest} tokens")
    digest = hashlib.sha256("\0".join((source.describe(), target.describe(), str(longest))).encode())
    for part in texts.values():
        digest.update("\0".join("\n".join(side) for side in part).encode())
    return TranslationData(
        name=name,
        **parts,
        source_vocabulary=source,
        target_vocabulary=target,
        languages=languages,
        fingerprint=digest.hexdigest()[:16],
    )


def _encoding(train: Sentences, size: int, cache: str | Path | None) -> Vocabulary:
    texts = [*train[0], *train[1]]
    if cache is None:
        return BytePairEncoding.train(texts, size)
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
    file = Path(cache).expanduser() / f"bpe-{size}-{digest}.json"
    if not file.is_file():
        BytePairEncoding.train(texts, size).write(file)
    return BytePairEncoding.read(file)


def _dictionaries(paths: tuple[str | Path, str | Path]) -> tuple[Vocabulary, Vocabulary]:
    first, second = (Path(path).expanduser() for path in paths)
    source = FairseqDictionary.read(first)
    return source, source if second == first else FairseqDictionary.read(second)


def _split(source: Vocabulary, target: Vocabulary, texts: Sentences, longest: int | None) -> TranslationSplit:
    order = torch.randperm(len(texts[0]), generator=torch.Generator().manual_seed(SPLIT_SEED)).tolist()
    sources, targets = source.encode(texts[0]), target.encode(texts[1])
    if longest is not None:
        order = [i for i in order if max(len(sources[i]), len(targets[i])) <= longest]
    return TranslationSplit([sources[i] for i in order], [targets[i] for i in order], [texts[1][i] for i in order])


def check_fit(data: TranslationData, source_vocabulary: int, target_vocabulary: int) -> None:
    """Check that a network and the data are made for each other.

    Args:
        data: The data.
        source_vocabulary: Number of source tokens that the network knows.
        target_vocabulary: Number of its target tokens.

    Raises:
        DataError: One of the two differs.
    """
    for side, vocabulary, known in (
        ("source", data.source_vocabulary, source_vocabulary),
        ("target", data.target_vocabulary, target_vocabulary),
    ):
        if len(vocabulary) != known:
            raise DataError(f"data {data.name!r} has {len(vocabulary)} {side} tokens, the net has {known}")


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """Return rows of tokens as int64 of shape (n, longest), filled up with PAD at the end."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[PAD] * (longest - len(row))] for row in rows])


def length_batches(
    split: TranslationSplit, tokens: int, generator: torch.Generator | None = None, limit: int | None = None
) -> Iterator[Tensor]:
    """Yield the numbers of sentences of like lengths, so that little of a batch is padding.

    Args:
        split: The sentences.
        tokens: The most tokens of a batch, padding included, in the longer of source and target; a longer sentence is
            a batch of its own.
        generator: Draws which sentences of one length go together, and the order of the batches; without it the
            batches are always the same, the shortest sentences first.
        limit: Use the first so many sentences alone.
    """
    pairs = list(zip(split.sources, split.targets, strict=True))[:limit]
    lengths = torch.tensor([(max(len(s), len(t)), len(s)) for s, t in pairs])
    order = torch.arange(len(pairs)) if generator is None else torch.randperm(len(pairs), generator=generator)
    for column in (1, 0):
        order = order[lengths[order, column].argsort(stable=True)]
    batches: list[Tensor] = []
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or int(lengths[order[end], 0]) * (end + 1 - start) > tokens:
            batches.append(order[start:end])
            start = end
    shuffled = range(len(batches)) if generator is None else torch.randperm(len(batches), generator=generator).tolist()
    for index in shuffled:
        yield batches[index]
