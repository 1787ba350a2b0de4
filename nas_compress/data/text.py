"""Labelled sentences as word pieces of a fixed length, in three fixed parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from nas_compress.data.base import Parts, fair_order, stratified_split
from nas_compress.data.text_files import Sentence, read_sentences, text_parts
from nas_compress.data.tokenizer import Tokenizer, Tokens
from nas_compress.errors import DataError
from nas_compress.weights import hash_tensors


class TextSplit:
    """One part of a text data source, in a fair order: its first n rows are a fair sample of all of them.

    Args:
        tokens: Word pieces, mask and token types, integers of shape (n, length) each.
        labels: int64; class indices of shape (n,), or start and end of answers of shape (n, 2).
    """

    task: ClassVar[str] = "text"

    def __init__(self, tokens: Tokens, labels: Tensor) -> None:
        self.tokens = tokens
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, indices: Tensor) -> Tokens:
        """Return the inputs of some rows, int64 of shape (len(indices), length) each."""
        ids, mask, types = (each[indices].long() for each in self.tokens)
        return ids, mask, types


Split = TypeVar("Split", bound=TextSplit)


@dataclass(frozen=True)
class TextData(Parts[Split]):
    """A text data source in three parts.

    The search may look at `val` as often as it likes; no architecture is ever chosen on `test`.

    Attributes:
        name: Name in records.
        train: For training.
        val: For the search.
        test: What neither training nor search see.
        classes: Class names, which labels index; empty for questions.
        length: Word pieces of a row.
        vocabulary: Number of word pieces of the tokenizer.
        fingerprint: Hash of contents, tokenizer and split: the data part of a measurement's context.
    """

    name: str
    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...]
    length: int
    vocabulary: int
    fingerprint: str


def batches(
    split: TextSplit,
    batch_size: int,
    *,
    limit: int | None = None,
    generator: torch.Generator | None = None,
    trim: bool = False,
) -> Iterator[tuple[Tokens, Tensor]]:
    """Yield (inputs, labels) in batches of `batch_size`, the last one possibly smaller.

    Args:
        split: Where the rows come from.
        batch_size: Rows per batch.
        limit: Stop after so many rows; without a generator, the first ones are a fair sample.
        generator: Draws the order; without it the order is that of the split.
        trim: Whether to cut off the columns that are padding in all rows of a batch. That is much faster for short
            texts and changes logits by rounding alone.
    """
    order = torch.arange(len(split)) if generator is None else torch.randperm(len(split), generator=generator)
    order = order[:limit]
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        ids, mask, types = split.rows(indices)
        used = int(mask.sum(1).max()) if trim else ids.shape[1]
        yield (ids[:, :used], mask[:, :used], types[:, :used]), split.labels[indices]


def check_text_fit(data: TextData[Split], vocabulary: int, positions: int, outputs: int) -> None:
    """Check that a network and the data are made for each other.

    Args:
        data: The data.
        vocabulary: Word pieces that the network knows.
        positions: The most word pieces of a row that it takes.
        outputs: Number of its logits: classes, or 2 for questions.

    Raises:
        DataError: One of the three does not fit.
    """
    check_rows_fit(data, vocabulary, positions)
    wanted = len(data.classes) or 2
    if wanted != outputs:
        raise DataError(f"data {data.name!r} wants {wanted} outputs, the net has {outputs}")


def check_rows_fit(data: TextData[Split], vocabulary: int, positions: int) -> None:
    """Check that a network takes all rows of the data; see `check_text_fit`."""
    if data.vocabulary > vocabulary:
        raise DataError(f"data {data.name!r} has {data.vocabulary} word pieces, the net knows {vocabulary}")
    if data.length > positions:
        raise DataError(f"data {data.name!r} has rows of {data.length} word pieces, the net takes {positions}")


def load_sentences(
    path: str | Path, tokenizer: Tokenizer | str | Path, *, length: int = 128, name: str | None = None
) -> TextData[TextSplit]:
    """Load labelled sentences; see `text_files` for the format and the names of files.

    The parts are the files' where there are three. Without a file for validation, a tenth of the training sentences
    (stratified, at most 10,000, the same ones in every run) validates the search. Without one for test, the one for
    validation is the test part, on which figures are published, and the search-validation part comes from the
    training sentences as well.

    Args:
        path: Folder, or folder and beginning of the file names.
        tokenizer: A tokenizer, or where to find one.
        length: Word pieces per row; longer texts are cut.
        name: Name in records; the last part of the path by default.

    Raises:
        DataError: A file is missing or damaged, a label is not among those of the training sentences, or some files
            have pairs of texts and others single ones.
        MissingExtraError: The package `tokenizers` is not installed.
    """
    files = text_parts(path)
    tokenizer = tokenizer if isinstance(tokenizer, Tokenizer) else Tokenizer(tokenizer)
    read = {part: read_sentences(file) for part, file in files.items()}
    for part, sentences in read.items():
        if (sentences[0].pair is None) != (read["train"][0].pair is None):
            has, lacks = (files[p] for p in ((part, "train") if sentences[0].pair is not None else ("train", part)))
            raise DataError(f"{has} has pairs of texts, {lacks} has single ones; all parts want the same columns")
    classes = _classes(read["train"])
    labels = {part: _labels(sentences, classes, files[part]) for part, sentences in read.items()}
    if "test" not in read:
        read["test"], labels["test"] = read.pop("val"), labels.pop("val")
    if "val" not in read:
        kept, carved = stratified_split(labels["train"], 0.1, at_most=10_000)
        train, targets = read["train"], labels["train"]
        read |= {"train": [train[i] for i in kept.tolist()], "val": [train[i] for i in carved.tolist()]}
        labels |= {"train": targets[kept], "val": targets[carved]}
    splits = {part: _split(read[part], labels[part], tokenizer, length) for part in ("train", "val", "test")}
    return assemble(name or Path(path).name, splits, classes, tokenizer, length)


def _classes(sentences: Sequence[Sentence]) -> tuple[str, ...]:
    """Return the distinct labels, as numbers if all of them are."""
    labels = {sentence.label for sentence in sentences}
    whole = all(label.isdecimal() for label in labels)
    return tuple(sorted(labels, key=int) if whole else sorted(labels))


def _labels(sentences: Sequence[Sentence], classes: tuple[str, ...], file: Path) -> Tensor:
    index = {label: number for number, label in enumerate(classes)}
    for sentence in sentences:
        if sentence.label not in index:
            raise DataError(f"{file} has the label {sentence.label!r}, which the training sentences lack")
    return torch.tensor([index[sentence.label] for sentence in sentences], dtype=torch.int64)


def _split(sentences: Sequence[Sentence], labels: Tensor, tokenizer: Tokenizer, length: int) -> TextSplit:
    order = fair_order(labels)
    ordered = [sentences[i] for i in order.tolist()]
    pairs = [sentence.pair for sentence in ordered if sentence.pair is not None]
    tokens = tokenizer.encode([sentence.text for sentence in ordered], pairs or None, length=length)
    return TextSplit(tokens, labels[order])


def assemble(
    name: str, splits: dict[str, Split], classes: tuple[str, ...], tokenizer: Tokenizer, length: int
) -> TextData[Split]:
    """Return the data source of the parts `train`, `val` and `test`, with its fingerprint."""
    tensors = {
        f"{part} {number}": tensor
        for part, split in splits.items()
        for number, tensor in enumerate((*split.tokens, split.labels))
    }
    return TextData(
        name=name,
        train=splits["train"],
        val=splits["val"],
        test=splits["test"],
        classes=classes,
        length=length,
        vocabulary=tokenizer.vocabulary,
        fingerprint=hash_tensors(tensors, f"{classes} {tokenizer.fingerprint}"),
    )
