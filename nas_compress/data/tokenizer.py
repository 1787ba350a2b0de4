"""Word pieces: texts as numbers, by a Hugging Face tokenizer on disk (package `tokenizers`)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nas_compress.errors import DataError, MissingExtraError, first_line

Tokens = tuple[Tensor, Tensor, Tensor]
"""Word pieces, attention mask (1 where there is one) and token types, shape (n, length) each."""

_QUESTION_LIMIT = 64
"""Word pieces of a question that are kept, as in the published code of BERT."""


@dataclass(frozen=True)
class Windows:
    """Pairs of a question and a part of its text, several for long texts.

    Attributes:
        tokens: See `Tokens`, int32.
        pair_of: Which pair each window is of, int64 of shape (n,); windows of one pair follow one another.
        offsets: First character and the one after the last of each word piece of the text, in the text, int32 of shape
            (n, length, 2); -1 for all other word pieces.
    """

    tokens: Tokens
    pair_of: Tensor
    offsets: Tensor


class Tokenizer:
    """A tokenizer that pads and truncates to a fixed length.

    Args:
        path: `tokenizer.json`, `vocab.txt` (BERT's word pieces), or a folder that holds one of them; with `vocab.txt`,
            `do_lower_case` is taken from `tokenizer_config.json` beside it, true by default.

    Attributes:
        vocabulary: Number of word pieces.
        fingerprint: Hash of everything that it does.

    Raises:
        MissingExtraError: The package `tokenizers` is not installed.
        DataError: The file is missing or damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self._tokenizer = _load(Path(path).expanduser())
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.vocabulary = int(self._tokenizer.get_vocab_size())
        self.fingerprint = hashlib.sha256(self._tokenizer.to_str().encode()).hexdigest()[:16]

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, length: int) -> Tokens:
        """Return the word pieces of texts, or of pairs of texts, int32; the longer one of a pair is cut first.

        Args:
            texts: The texts.
            pairs: The second text of each pair.
            length: Word pieces per row, those that start and separate texts included.
        """
        self._tokenizer.enable_truncation(length)
        inputs = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        encoded = self._tokenizer.encode_batch(inputs)
        self._tokenizer.no_truncation()
        return self._rows(encoded, length)

    def windows(self, questions: Sequence[str], contexts: Sequence[str], *, length: int, stride: int) -> Windows:
        """Return questions with their texts, long texts in overlapping windows.

        Args:
            questions: The questions; what is beyond 64 word pieces of one is cut off.
            contexts: The text of each.
            length: Word pieces per window, question and separators included.
            stride: Word pieces that one window of a text shares with the next.

        Raises:
            DataError: `length` leaves no room for the text, or less than `stride`.
        """
        asked = [self._cut(question) for question in questions]
        longest = max((len(e) for e in self._tokenizer.encode_batch(asked, add_special_tokens=False)), default=0)
        if longest + 3 + stride >= length:
            needed = f"{longest} of the longest question, 3 separators and {stride} shared"
            raise DataError(f"length = {length} word pieces leave no room for the text beside {needed}")
        self._tokenizer.enable_truncation(length, stride=stride, strategy="only_second")
        encoded, pair_of = [], []
        for number, first in enumerate(self._tokenizer.encode_batch(list(zip(asked, contexts, strict=True)))):
            for each in (first, *first.overflowing):
                encoded.append(each)
                pair_of.append(number)
        self._tokenizer.no_truncation()
        offsets = np.full((len(encoded), length, 2), -1, dtype=np.int32)
        for row, each in enumerate(encoded):
            of_text = np.array([sequence == 1 for sequence in each.sequence_ids])
            offsets[row, : len(each)] = np.where(of_text[:, None], np.array(each.offsets), -1)
        pairs = torch.tensor(pair_of, dtype=torch.int64)
        return Windows(self._rows(encoded, length), pairs, torch.from_numpy(offsets))

    def _cut(self, question: str) -> str:
        encoded = self._tokenizer.encode(question, add_special_tokens=False)
        return question if len(encoded) <= _QUESTION_LIMIT else question[: encoded.offsets[_QUESTION_LIMIT - 1][1]]

    @property
    def _padding(self) -> int:
        return int(self._tokenizer.token_to_id("[PAD]") or 0)

    def _rows(self, encoded: Sequence[Any], length: int) -> Tokens:
        ids, mask, types = np.zeros((3, len(encoded), length), dtype=np.int32)
        ids[:] = self._padding
        for row, each in enumerate(encoded):
            ids[row, : len(each)], mask[row, : len(each)], types[row, : len(each)] = each.ids, 1, each.type_ids
        return torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(types)


def _load(path: Path) -> Any:
    try:
        tokenizers = import_module("tokenizers")
    except ImportError as error:
        raise MissingExtraError("tokenizers", "hf") from error
    files = [path / "tokenizer.json", path / "vocab.txt"] if path.is_dir() else [path]
    file = next((each for each in files if each.is_file()), None)
    if file is None:
        wanted = "want tokenizer.json, vocab.txt, or a folder with one of them (none is downloaded)"
        raise DataError(f"no tokenizer at {path}; {wanted}")
    try:
        if file.suffix == ".json":
            return tokenizers.Tokenizer.from_file(str(file))
        vocabulary = tokenizers.models.WordPiece.read_file(str(file))
        pieces = tokenizers.BertWordPieceTokenizer(vocabulary, lowercase=_lowercase(file.parent))
        return tokenizers.Tokenizer.from_str(pieces.to_str())
    # The package raises plain exceptions, and ones of its own for damaged files.
    except Exception as error:
        raise DataError(f"{file} is not a tokenizer: {first_line(error)}") from error


def _lowercase(folder: Path) -> bool:
    file = folder / "tokenizer_config.json"
    return bool(json.loads(file.read_text(encoding="utf-8")).get("do_lower_case", True)) if file.is_file() else True
