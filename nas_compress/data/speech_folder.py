"""Folders of recordings with transcripts: LibriSpeech's layout, or tables."""

from __future__ import annotations

import csv
import os
import wave
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas_compress.data.features import LogMel
from nas_compress.data.speech import CHARACTERS, SpeechData, SpeechSplit, Vocabulary, fingerprint, shuffled
from nas_compress.errors import DataError, MissingExtraError, first_line

PARTS = {"train": ("train",), "val": ("val", "dev"), "test": ("test",)}
"""How the names of a part's folders begin: LibriSpeech's are `train-clean-100`, `dev-clean`, `test-clean`."""

_STREAMED = 0x7FFF_F000
"""Bytes of samples, or more, that a header names which was written before they could be counted: into a pipe."""

_HEADER = 44
"""Bytes of a WAV file before its samples, at least."""

T = TypeVar("T")


@dataclass(frozen=True)
class Utterance:
    """A recording and what is said in it.

    Attributes:
        path: The audio file.
        transcript: The words.
    """

    path: Path
    transcript: str


def read_audio(path: Path, sample_rate: int) -> Tensor:
    """Return a recording's first channel, float32 of shape (samples,) on a scale of -1 to 1.

    Python reads WAV files of 16 bits; soundfile reads others, if it is installed.

    Raises:
        DataError: The file is missing, damaged, empty, or of another sample rate.
        MissingExtraError: It takes soundfile, which is not installed.
    """
    if not path.is_file():
        raise DataError(f"no recording at {path}")
    samples, rate = _from_wave(path, lambda file: _read_wave(path, file)) or _read_other(path)
    _check(path, len(samples), rate, sample_rate)
    return torch.from_numpy(samples)


def check_audio(path: Path, sample_rate: int) -> int:
    """Return the bytes of a recording after a look at its header; no samples are read.

    Raises:
        DataError: The file is missing or empty, of another sample rate, not what its name says, or (WAV) cut off.
        MissingExtraError: It takes soundfile, which is not installed.
    """
    try:
        size = path.stat().st_size if path.is_file() else None
    except OSError as error:  # a name that is too long
        raise DataError(f"no recording at {path}, which a transcript names: {error.strerror}") from error
    if size is None:
        raise DataError(f"no recording at {path}, which a transcript names")
    length, rate = _from_wave(path, lambda file: _wave_length(path, file, size)) or _other_length(path)
    _check(path, length, rate, sample_rate)
    return size


def _check(path: Path, length: int, rate: int, wanted: int) -> None:
    if rate != wanted:
        raise DataError(f"{path} has {rate} samples a second; want {wanted}")
    if not length:
        raise DataError(f"{path} is empty")


def _from_wave(path: Path, use: Callable[[wave.Wave_read], T]) -> T | None:
    """Return what `use` makes of a WAV file of 16 bits; None where the file is of another kind."""
    if path.suffix.lower() != ".wav":
        return None
    try:
        with wave.open(str(path), "rb") as file:
            return use(file) if file.getsampwidth() == 2 else None
    except wave.Error as error:
        if "unknown format" in str(error):
            return None
        raise DataError(f"cannot read {path} (damaged?): {first_line(error)}") from error
    except (EOFError, OSError) as error:
        raise DataError(f"cannot read {path} (damaged?): {first_line(error)}") from error


def _read_wave(path: Path, file: wave.Wave_read) -> tuple[NDArray[np.float32], int]:
    """Return samples and their rate."""
    data, frame = file.readframes(file.getnframes()), 2 * file.getnchannels()
    _check_whole(path, file, len(data))
    if len(data) % frame:
        raise _cut_off(path, file, len(data))
    samples = np.frombuffer(data, "<i2")[:: file.getnchannels()]
    return (samples / 32768).astype(np.float32), file.getframerate()


def _wave_length(path: Path, file: wave.Wave_read, size: int) -> tuple[int, int]:
    """Return the number of samples that the header tells, and their rate, where the file can hold so many."""
    _check_whole(path, file, max(size - _HEADER, 0))
    return file.getnframes(), file.getframerate()


def _check_whole(path: Path, file: wave.Wave_read, found: int) -> None:
    """Refuse samples of fewer bytes than the header tells, unless it was written before they could be counted."""
    frame = 2 * file.getnchannels()
    whole = frame * file.getnframes()
    if found < whole < _STREAMED - frame:
        raise _cut_off(path, file, found)


def _cut_off(path: Path, file: wave.Wave_read, found: int) -> DataError:
    whole = 2 * file.getnchannels() * file.getnframes()
    return DataError(f"cannot read {path} (cut off?): it has {found} of the {whole} bytes of its header")


def _from_soundfile(path: Path, use: Callable[[Any], T]) -> T:
    """Return what `use` makes of a file by soundfile, which it is given."""
    try:
        import soundfile  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError:
        raise MissingExtraError("soundfile", "speech", f"is not installed, and {path.name} is not 16-bit WAV") from None
    try:
        return use(soundfile)
    except (RuntimeError, OSError) as error:
        raise DataError(f"cannot read {path} (damaged?): {first_line(error)}") from error


def _read_other(path: Path) -> tuple[NDArray[np.float32], int]:
    samples, rate = _from_soundfile(path, lambda it: it.read(path, dtype="float32", always_2d=True))
    return np.ascontiguousarray(samples[:, 0]), int(rate)


def _other_length(path: Path) -> tuple[int, int]:
    header = _from_soundfile(path, lambda it: it.info(path))
    return int(header.frames), int(header.samplerate)


def load(path: str | Path, features: LogMel | None = None, vocabulary: Vocabulary = CHARACTERS) -> SpeechData:
    """Load a folder with the folders `train...`, `test...` and, if there are such, `val...` or `dev...`.

    Each holds, at any depth, LibriSpeech's `*.trans.txt` (lines of `ID WORDS`, the audio in `ID.flac` or `ID.wav`
    beside them) or tables `*.tsv` with the columns `path` (from the table's folder) and `text`. Without a validation
    folder, a tenth of the training utterances is carved out, always the same. Headers are checked at once, samples
    read when they are asked for.

    Args:
        path: The folder.
        features: What the features are; 80 mel bands at 16 kHz by default.
        vocabulary: The tokens: the capital letters, the apostrophe and the space by default.

    Raises:
        DataError: The folder or a part of it is missing, or a line, a transcript or a recording cannot be read.
        MissingExtraError: A recording is not WAV of 16 bits, and soundfile is not installed.
    """
    features, root = features or LogMel(), Path(path).expanduser()
    if not root.is_dir():
        raise DataError(f"dataset_path = {str(path)!r} is not a folder")
    parts = {part: _in_order(_utterances(root, prefixes)) for part, prefixes in PARTS.items()}
    for part in ("train", "test"):
        if not parts[part]:
            raise DataError(f"{root} has no folder {part}... with *.trans.txt or *.tsv, or these list nothing")
    if not parts["val"]:
        count = max(1, len(parts["train"]) // 10)
        parts["val"], parts["train"] = parts["train"][:count], parts["train"][count:]
        if not parts["train"]:
            raise DataError(f"{root} has a single training utterance; want at least 2, one for validation")
    lines = [[_line(u, root, features.sample_rate) for u in utterances] for utterances in parts.values()]
    train, val, test = (_split(utterances, features, vocabulary) for utterances in parts.values())
    return SpeechData("speech_folder", train, val, test, features, vocabulary, fingerprint(lines, features, vocabulary))


def _line(utterance: Utterance, root: Path, sample_rate: int) -> str:
    """Return what the data's fingerprint holds of an utterance: its file's name and size, and its words."""
    size = check_audio(utterance.path, sample_rate)
    return f"{os.path.relpath(utterance.path, root)} {size} {utterance.transcript}"


def _split(utterances: Sequence[Utterance], features: LogMel, vocabulary: Vocabulary) -> SpeechSplit:
    def read(index: int) -> Tensor:
        return read_audio(utterances[index].path, features.sample_rate)

    return SpeechSplit([u.transcript for u in utterances], read, features, vocabulary, keep=False)


def _in_order(utterances: Iterable[Utterance]) -> list[Utterance]:
    found = sorted(utterances, key=lambda utterance: utterance.path)
    return [found[i] for i in shuffled(len(found))]


def _utterances(root: Path, prefixes: tuple[str, ...]) -> Iterable[Utterance]:
    for folder in sorted(entry for entry in root.iterdir() if entry.is_dir() and entry.name.startswith(prefixes)):
        for file in sorted(folder.rglob("*.trans.txt")):
            yield from _librispeech(file)
        for file in sorted(folder.rglob("*.tsv")):
            yield from _table(file)


def _librispeech(file: Path) -> Iterable[Utterance]:
    for number, line in enumerate(_text(file).splitlines(), 1):
        name, _, transcript = line.strip().partition(" ")
        if not transcript.strip():
            raise DataError(f"{file}, line {number}: want an utterance's name and its words, got {line[:80]!r}")
        wav = file.parent / f"{name}.wav"
        yield Utterance(wav if wav.is_file() else wav.with_suffix(".flac"), transcript.strip())


def _table(file: Path) -> Iterable[Utterance]:
    reader = csv.DictReader(_text(file).splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    try:
        if not {"path", "text"} <= set(reader.fieldnames or ()):
            raise DataError(f"{file} wants the columns path and text, separated by tabs; it has {reader.fieldnames}")
        rows = list(reader)
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.reader.line_num}: {error}") from error
    for number, row in enumerate(rows, 2):
        if not row["path"] or not row["text"]:
            raise DataError(f"{file}, line {number}: path or text is missing")
        yield Utterance(file.parent / row["path"], row["text"].strip())


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {file}: {first_line(error)}") from error
