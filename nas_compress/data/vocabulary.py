"""Tokens of texts as numbers: own byte-pair encodings and fairseq's dictionaries, with fairseq's special tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nas_compress.data.parallel import read_lines
from nas_compress.errors import ConfigError, DataError, MissingExtraError, first_line
from nas_compress.files import replacing

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
"""The first tokens of every vocabulary, in the order of fairseq's dictionaries."""

BOS, PAD, EOS, UNK = range(len(SPECIALS))
"""Their numbers: the beginning of a sentence (never used), padding, the end of a sentence, a text unknown."""


class Vocabulary(ABC):
    """Turns a text into numbers and back."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of tokens, the special ones included."""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of texts, each with `EOS` at its end."""

    @abstractmethod
    def decode(self, tokens: Iterable[Sequence[int]]) -> list[str]:
        """Return the texts of tokens, special ones (but the unknown one) left out."""

    @abstractmethod
    def describe(self) -> str:
        """Return a text that differs for vocabularies that differ, for fingerprints."""


class FairseqDictionary(Vocabulary):
    """A dictionary of fairseq's, for texts that are split into its tokens already.

    Source: Ott et al., 2019, "fairseq"; HAT's checkpoints were trained with such dictionaries.

    Args:
        tokens: Its tokens in the order of the file, without the special ones.
        joiner: What marks a token that goes on with the next one, and is left out of decoded texts (subword-nmt's
            `"@@ "`).
    """

    def __init__(self, tokens: Iterable[str], joiner: str = "@@ ") -> None:
        self._tokens = [*SPECIALS, *tokens]
        self._numbers = {token: number for number, token in enumerate(self._tokens)}
        self._joiner = joiner

    @classmethod
    def read(cls, path: str | Path) -> FairseqDictionary:
        """Read a `dict.txt`: a line for each token, with its count after a space.

        Raises:
            DataError: The file cannot be read or has other lines.
        """
        tokens = []
        for number, line in enumerate(read_lines(Path(path)), start=1):
            token, _, count = line.rpartition(" ")
            if not token or not count.isdigit():
                raise DataError(f"{path}, line {number}: want a token and its count, got {line[:60]!r}")
            tokens.append(token)
        return cls(tokens)

    def __len__(self) -> int:
        return len(self._tokens)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the numbers of the words of texts; see the base class."""
        return [[*(self._numbers.get(word, UNK) for word in text.split()), EOS] for text in texts]

    def decode(self, tokens: Iterable[Sequence[int]]) -> list[str]:
        """Return the texts of tokens with split words put together; see the base class."""
        left_out = {BOS, PAD, EOS}
        texts = [" ".join(self._tokens[t] for t in row if t not in left_out) for row in tokens]
        return [(text + " ").replace(self._joiner, "").rstrip() for text in texts]

    def describe(self) -> str:
        """Return all tokens; see the base class."""
        return "\n".join(self._tokens)


class BytePairEncoding(Vocabulary):
    """A byte-pair encoding of its own, made with the library `tokenizers`.

    Source: Sennrich et al., 2016, "Neural Machine Translation of Rare Words with Subword Units"; words are marked by
    the space before them, so that decoding gives the text back.

    Args:
        tokenizer: With `SPECIALS` as its first tokens.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @classmethod
    def train(cls, texts: Iterable[str], size: int) -> BytePairEncoding:
        """Return the encoding of at most `size` tokens that the texts give.

        Raises:
            ConfigError: `size` has no room for more than the special tokens, or not for all characters.
            MissingExtraError: `tokenizers` is not installed.
        """
        if size <= len(SPECIALS):
            raise ConfigError(f"vocabulary size = {size}; wants more than {len(SPECIALS)}, the special tokens")
        _check_installed()
        from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

        tokenizer = Tokenizer(models.BPE(unk_token=SPECIALS[UNK]))
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation("isolated")]
        )
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=list(SPECIALS), show_progress=False)
        tokenizer.train_from_iterator(texts, trainer)
        if (least := tokenizer.get_vocab_size()) > size:
            raise ConfigError(f"vocabulary size = {size}; the characters of the texts alone take {least}")
        return cls(tokenizer)

    @classmethod
    def read(cls, path: str | Path) -> BytePairEncoding:
        """Read an encoding that `write` wrote (the JSON of the library `tokenizers`).

        Raises:
            DataError: The file cannot be read, or is of an encoding with other special tokens.
            MissingExtraError: `tokenizers` is not installed.
        """
        _check_installed()
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_str(Path(path).read_text(encoding="utf-8"))
        except Exception as error:  # the library raises plain Exception
            raise DataError(f"cannot read the tokenizer {path}: {first_line(error)}") from error
        if [tokenizer.id_to_token(number) for number in range(len(SPECIALS))] != list(SPECIALS):
            raise DataError(f"{path} is a tokenizer with other special tokens than {', '.join(SPECIALS)}")
        return cls(tokenizer)

    def write(self, path: str | Path) -> None:
        """Write the encoding as JSON.

        Raises:
            OutputError: The file cannot be written.
        """
        with replacing(Path(path)) as temporary:
            temporary.write_text(self.describe(), encoding="utf-8")

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of texts; see the base class."""
        return [[*encoding.ids, EOS] for encoding in self._tokenizer.encode_batch(list(texts))]

    def decode(self, tokens: Iterable[Sequence[int]]) -> list[str]:
        """Return the texts of tokens; see the base class."""
        return [text.strip() for text in self._tokenizer.decode_batch([list(row) for row in tokens])]

    def describe(self) -> str:
        """Return the JSON; see the base class."""
        return str(self._tokenizer.to_str())


def _check_installed() -> None:
    try:
        import tokenizers  # noqa: F401
    except ImportError:
        raise MissingExtraError("tokenizers", "translation") from None
