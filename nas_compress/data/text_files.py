"""Files of labelled sentences and of questions: finding and reading them, without torch.

Labelled sentences are in TSV or CSV files with a header that names the columns `label` and `text` (and, for pairs of
sentences, `text_pair`); tabs separate without quoting, commas with it. Questions are in SQuAD's JSON format, version
1.1 (Rajpurkar et al., 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text"). Both may be gzipped.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from nas_compress.errors import DataError

_PART = {"train": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test"}
_FILE = re.compile(rf"(?:(.+)[._-])?({'|'.join(_PART)})([-_.][^.]*(?:\.\d+)?)?\.(tsv|csv|json)(?:\.gz)?")


@dataclass(frozen=True)
class Sentence:
    """A labelled sentence, or pair of sentences.

    Attributes:
        label: As the file has it.
        text: The sentence.
        pair: The second sentence, if there is one.
    """

    label: str
    text: str
    pair: str | None = None


@dataclass(frozen=True)
class Question:
    """A question whose answer is a part of a text.

    Attributes:
        id: Unique in its file.
        text: The question.
        context: The text.
        answers: The right answers, at least one.
        starts: Where in the context each answer starts, in characters.
    """

    id: str
    text: str
    context: str
    answers: tuple[str, ...]
    starts: tuple[int, ...]


def text_parts(path: str | Path, suffixes: tuple[str, ...] = ("tsv", "csv")) -> dict[str, Path]:
    """Return the files of the parts `train`, `val` and `test` that are there; `train` and one more must be.

    File names end in the part's name (`dev`, `valid` and `validation` stand for `val`), and in what may follow it
    after a dash: `train.tsv`, `stsa_binary_dev.tsv.gz`, `train-v1.1.json`.

    Args:
        path: The folder, or, where it holds several data sets, the folder and what their file names start with
            (`text_cls/stsa_binary`).
        suffixes: The endings that count.

    Raises:
        DataError: The folder or a part is missing, or there are several candidates for one.
    """
    path = Path(path).expanduser()
    root, prefix = (path, None) if path.is_dir() else (path.parent, path.name)
    if not root.is_dir():
        raise DataError(f"dataset_path = {str(path)!r}: there is no folder {root}")
    found: dict[str | None, dict[str, Path]] = {}
    for file in sorted(root.iterdir()):
        match = _FILE.fullmatch(file.name)
        if match is None or match[4] not in suffixes or prefix not in (None, match[1]):
            continue
        parts = found.setdefault(match[1], {})
        if _PART[match[2]] in parts:
            raise DataError(f"{root} has two files for {_PART[match[2]]}: {parts[_PART[match[2]]].name}, {file.name}")
        parts[_PART[match[2]]] = file
    if len(found) > 1:
        names = ", ".join(sorted(str(root / (name or "")) for name in found))
        raise DataError(f"{root} holds several data sets; name one of {names}")
    parts = next(iter(found.values()), {})
    if "train" not in parts or len(parts) < 2:
        kinds = " or ".join(suffixes)
        raise DataError(f"{path} wants files (of kind {kinds}) for train and for test or dev; it has {sorted(parts)}")
    return parts


def read_sentences(file: Path) -> list[Sentence]:
    """Read labelled sentences.

    Raises:
        DataError: The file cannot be read, lacks a column, or a row lacks a value; a label has spaces around it.
    """
    text = StringIO(_text(file), newline="")
    if ".tsv" in file.suffixes:
        rows = csv.reader(text, "excel-tab", quoting=csv.QUOTE_NONE)
    else:
        rows = csv.reader(text)
    try:
        header = next(rows, [])
        for column in ("label", "text"):
            if column not in header:
                raise DataError(f"{file} wants the columns label and text in its first line, which is {header}")
        sentences = [_sentence(header, row, f"{file}, line {rows.line_num}") for row in rows]
    except csv.Error as error:
        raise DataError(f"{file}, line {rows.line_num}: {error}") from error
    if not sentences:
        raise DataError(f"{file} holds no sentences")
    return sentences


def _sentence(header: list[str], row: list[str], where: str) -> Sentence:
    if len(row) != len(header):
        raise DataError(f"{where}: {len(row)} values, the header has {len(header)}")
    values = dict(zip(header, row, strict=True))
    label, text = values["label"], values["text"]
    for column, value in (("label", label), ("text", text)):
        if not value.strip():
            raise DataError(f"{where}: {column} is empty")
    if label != label.strip():
        raise DataError(f"{where}: label {label!r} has spaces around it, which would make it a class of its own")
    return Sentence(label, text, values.get("text_pair"))


def read_questions(file: Path) -> list[Question]:
    """Read questions in SQuAD's format.

    Raises:
        DataError: The file cannot be read or has another format; a question has no answer (SQuAD 2.0), or one that is
            not where the file says; two questions have one id.
    """
    try:
        content = json.loads(_text(file))
        questions = [
            _question(paragraph["context"], entry, file)
            for article in content["data"]
            for paragraph in article["paragraphs"]
            for entry in paragraph["qas"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__} {error}"
        raise DataError(f"{file} is not in SQuAD's format (data, paragraphs, qas, answers): {reason}") from error
    if not questions:
        raise DataError(f"{file} holds no questions")
    names = Counter(question.id for question in questions)
    if (name := next((each for each, count in names.items() if count > 1), None)) is not None:
        raise DataError(f"{file}: the id {name!r} stands for {names[name]} questions; each wants its own")
    return questions


def _question(context: str, entry: Mapping[str, Any], file: Path) -> Question:
    answers = tuple(str(answer["text"]) for answer in entry["answers"])
    starts = tuple(int(answer["answer_start"]) for answer in entry["answers"])
    if not answers:
        raise DataError(f"{file}: question {entry['id']!r} has no answer; SQuAD 1.1 is read, 2.0 is not")
    for answer, start in zip(answers, starts, strict=True):
        if not 0 <= start <= len(context) - len(answer):
            raise DataError(f"{file}: an answer of question {entry['id']!r} starts at {start}, outside of its text")
        if not answer.strip():
            raise DataError(f"{file}: an answer of question {entry['id']!r} is empty")
        if (there := context[start : start + len(answer)]) != answer:
            raise DataError(
                f"{file}: answer {answer!r} of question {entry['id']!r} is not at answer_start = {start}, "
                f"where {there!r} stands"
            )
    return Question(str(entry["id"]), str(entry["question"]), context, answers, starts)


def _text(file: Path) -> str:
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        return content.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error


def paragraphs(questions: list[Question]) -> Iterator[list[int]]:
    """Yield the positions of the questions about each text, in the order of the texts."""
    found: dict[str, list[int]] = {}
    for position, question in enumerate(questions):
        found.setdefault(question.context, []).append(position)
    yield from found.values()
