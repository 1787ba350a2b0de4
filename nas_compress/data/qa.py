"""Questions about texts (SQuAD's format) as windows of word pieces, in three fixed parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from nas_compress.data.base import SPLIT_SEED
from nas_compress.data.text import TextData, TextSplit, assemble
from nas_compress.data.text_files import Question, paragraphs, read_questions, text_parts
from nas_compress.data.tokenizer import Tokenizer, Windows
from nas_compress.errors import DataError

_VALIDATION, _TEST = 0.1, 0.2
"""Shares of the texts that are carved out of training files, and out of a file that has everything, for each part."""


class QuestionSplit(TextSplit):
    """One part of the questions; those whose texts are long have several rows, which follow one another.

    The questions are shuffled, the same way in every run: the rows of the first n are a fair sample.

    Args:
        questions: The questions.
        windows: Their rows.

    Attributes:
        questions: As given.
        question_of: Which question each row is of, int64 of shape (n,), ascending.
        offsets: See `Windows`.
        labels: First and last word piece of the (first right) answer, int64 of shape (n, 2); 0, the first word piece of
            all, where the row does not hold the answer.
    """

    task = "questions"

    def __init__(self, questions: Sequence[Question], windows: Windows) -> None:
        super().__init__(windows.tokens, _spans(questions, windows))
        self.questions = tuple(questions)
        self.question_of = windows.pair_of
        self.offsets = windows.offsets


def _spans(questions: Sequence[Question], windows: Windows) -> Tensor:
    """Return the labels of `QuestionSplit`."""
    first = torch.tensor([question.starts[0] for question in questions])[windows.pair_of, None]
    length = torch.tensor([len(question.answers[0]) for question in questions])[windows.pair_of, None]
    starts, ends = windows.offsets[..., 0].long(), windows.offsets[..., 1].long()
    begins = (starts >= 0) & (starts <= first) & (first < ends)
    finishes = (starts >= 0) & (starts < first + length) & (first + length <= ends)
    inside = begins.any(1) & finishes.any(1)
    spans = torch.stack([begins.int().argmax(1), finishes.int().argmax(1)], dim=1)
    return spans * inside[:, None]


def load_questions(
    path: str | Path,
    tokenizer: Tokenizer | str | Path,
    *,
    length: int = 384,
    stride: int = 128,
    name: str | None = None,
) -> TextData[QuestionSplit]:
    """Load questions in SQuAD's format.

    From a folder with a file for training and one for `dev` (or `test`), that one is the test part, and a tenth of the
    texts of the training file, with their questions, validates the search; with files for both, `dev` validates it.
    From a single file, a fifth of its texts is the test part, a tenth validates the search and the rest is for
    training. Texts are drawn the same way in every run, and no text is in two parts.

    Args:
        path: Folder, folder and beginning of the file names, or a single file.
        tokenizer: A tokenizer, or where to find one.
        length: Word pieces per row.
        stride: Word pieces that one row of a long text shares with the next.
        name: Name in records; the last part of the path by default.

    Raises:
        DataError: A file is missing or damaged, or has too few texts.
        MissingExtraError: The package `tokenizers` is not installed.
    """
    path = Path(path).expanduser()
    tokenizer = tokenizer if isinstance(tokenizer, Tokenizer) else Tokenizer(tokenizer)
    parts = _parts(path)
    splits = {part: _split(parts[part], tokenizer, length, stride) for part in ("train", "val", "test")}
    return assemble(name or path.name, splits, (), tokenizer, length)


def _parts(path: Path) -> dict[str, list[Question]]:
    if path.is_file():
        rest, test = _carve(read_questions(path), _TEST, path)
        train, val = _carve(rest, _VALIDATION / (1 - _TEST), path)
        return {"train": train, "val": val, "test": test}
    files = text_parts(path, ("json",))
    parts = {part: read_questions(file) for part, file in files.items()}
    if "test" not in parts:
        parts["test"] = parts.pop("val")
    if "val" not in parts:
        parts["train"], parts["val"] = _carve(parts["train"], _VALIDATION, path)
    return parts


def _carve(questions: list[Question], share: float, path: Path) -> tuple[list[Question], list[Question]]:
    """Return the questions about a random share of the texts as the second list, all others as the first."""
    texts = list(paragraphs(questions))
    if len(texts) < 2:
        raise DataError(f"{path} has too few texts to carve a part out of them")
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(SPLIT_SEED)).tolist()
    count = min(max(round(share * len(texts)), 1), len(texts) - 1)
    carved = {position for number in order[:count] for position in texts[number]}
    both: tuple[list[Question], list[Question]] = ([], [])
    for position, question in enumerate(questions):
        both[position in carved].append(question)
    return both


def _split(questions: Sequence[Question], tokenizer: Tokenizer, length: int, stride: int) -> QuestionSplit:
    order = torch.randperm(len(questions), generator=torch.Generator().manual_seed(SPLIT_SEED)).tolist()
    ordered = [questions[i] for i in order]
    asked, contexts = [q.text for q in ordered], [q.context for q in ordered]
    return QuestionSplit(ordered, tokenizer.windows(asked, contexts, length=length, stride=stride))
