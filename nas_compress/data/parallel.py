"""Texts and their translations in plain files, a sentence a line: where they are, and what they hold. No torch."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path

from nas_compress.data.locate import folder
from nas_compress.errors import DataError

PARTS = {"train": "train", "val": "val|valid|validation|dev", "test": "test"}
"""The parts of a data source, and the words in file names that stand for them."""

Sentences = tuple[list[str], list[str]]
"""Source and target sentences; those of one number are translations of one another."""


def parallel_files(name: str, path: str | Path | None, languages: tuple[str, str]) -> dict[str, tuple[Path, Path]]:
    """Return the source's and the target's file of each part (`"train"`, `"val"`, `"test"`).

    Names end with the language (and `.gz`) and hold the part as a word: `train.de`, `multi30k_val.en.gz`.

    Args:
        name: The data source, for messages.
        path: The folder of the files.
        languages: Endings of source and target.

    Raises:
        DataError: The folder or a file is missing, or there are two for one part.
    """
    root = folder(name, path)
    source, target = languages
    return {part: (_file(name, root, part, source), _file(name, root, part, target)) for part in PARTS}


def _file(name: str, root: Path, part: str, language: str) -> Path:
    pattern = re.compile(rf"(.*[._-])?({PARTS[part]})([._-].*)?\.{re.escape(language)}(\.gz)?")
    found = sorted(entry for entry in root.iterdir() if pattern.fullmatch(entry.name) and entry.is_file())
    if not found:
        raise DataError(f"{root} has no file {part}.{language} or {part}.{language}.gz, which {name!r} needs")
    if len(found) > 1:
        names = ", ".join(entry.name for entry in found)
        raise DataError(f"{root} has more than one file for the {part} part in {language!r}: {names}")
    return found[0]


def read_parallel(source: Path, target: Path) -> Sentences:
    """Return the sentences of two files.

    Raises:
        DataError: A file cannot be read, or they differ in length, or are empty.
    """
    sentences = read_lines(source), read_lines(target)
    if len(sentences[0]) != len(sentences[1]):
        raise DataError(f"{source} has {len(sentences[0])} lines, {target} {len(sentences[1])}; want as many")
    for path, lines in zip((source, target), sentences, strict=True):
        if not any(map(str.strip, lines)):
            raise DataError(f"{path} holds no sentences")
    return sentences


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text in UTF-8 (a byte-order mark is no part of it), gzipped if its name ends in `.gz`.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        # Lines end with a newline alone: other separators of Unicode are parts of texts.
        return [line.rstrip("\r") for line in content.decode("utf-8-sig").removesuffix("\n").split("\n")]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
