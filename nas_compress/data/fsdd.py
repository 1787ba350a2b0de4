"""The Free Spoken Digit Dataset, in one file (https://github.com/Jakobovski/free-spoken-digit-dataset)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas_compress.data.base import fair_order, stratified_split
from nas_compress.data.features import LogMel
from nas_compress.data.speech import SpeechData, SpeechSplit, Vocabulary, fingerprint
from nas_compress.errors import DataError, first_line

FILE = "fsdd_8k_int16.npz"
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEST_RECORDINGS = 5
"""Recordings 0 to 4 of each speaker and digit are the customary test part."""

FEATURES = LogMel(8_000, 40)
WORDS = Vocabulary(DIGITS, " ")


def load(path: str | Path, speakers: Sequence[str] | None = None) -> SpeechData:
    """Load the spoken digits: 3,000 utterances of one word at 8 kHz, by six speakers.

    Recordings 0 to 4 of each speaker and digit are the test part, as is customary; a tenth of the rest, with speakers
    and digits in proportion, is for validation.

    Args:
        path: The file, or a folder that holds `fsdd_8k_int16.npz`: arrays `audio` (all samples, int16), `offsets`,
            `labels` (0 to 9), `speaker` (indices into `speakers`), `speakers`, `index` (number of the recording).
        speakers: Use the utterances of these speakers alone.

    Raises:
        DataError: The file is missing or damaged, its arrays do not fit together, a speaker is not in it, or a part is
            empty.
    """
    arrays = _arrays(Path(path).expanduser())
    chosen = _of_speakers(arrays, speakers)
    labels = arrays["labels"].astype(np.int64)
    rest, test = (chosen[(arrays["index"][chosen] < TEST_RECORDINGS) == tested] for tested in (False, True))
    if not len(rest) or not len(test):
        missing = (
            "no test utterances (recordings below 5)" if len(rest) else "test utterances alone (recordings below 5)"
        )
        raise DataError(f"{path} has {missing} of {', '.join(speakers) if speakers else 'its speakers'}")
    kept, carved = stratified_split(torch.from_numpy(arrays["speaker"][rest] * len(DIGITS) + labels[rest]), 0.1)
    splits, lines = [], []
    for part in (rest[kept.numpy()], rest[carved.numpy()], test):
        numbers = part[fair_order(torch.from_numpy(labels[part])).numpy()].tolist()
        transcripts = [DIGITS[labels[number]] for number in numbers]
        audio = [arrays["audio"][arrays["offsets"][n] : arrays["offsets"][n + 1]] for n in numbers]
        splits.append(_split(audio, transcripts))
        hashes = [hashlib.sha256(samples.tobytes()).hexdigest() for samples in audio]
        lines.append([f"{digest} {text}" for digest, text in zip(hashes, transcripts, strict=True)])
    train, val, tested = splits
    return SpeechData("fsdd", train, val, tested, FEATURES, WORDS, fingerprint(lines, FEATURES, WORDS))


def _split(audio: Sequence[NDArray[np.int16]], transcripts: Sequence[str]) -> SpeechSplit:
    def read(index: int) -> Tensor:
        return torch.from_numpy(audio[index] / np.float32(32768))

    return SpeechSplit(transcripts, read, FEATURES, WORDS, keep=True)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    file = path / FILE if path.is_dir() else path
    names = ("audio", "offsets", "labels", "speaker", "speakers", "index")
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in names}
    except FileNotFoundError:
        raise DataError(f"no file {file}, which the data source 'fsdd' needs") from None
    except Exception as error:  # a damaged archive raises errors of many kinds, all of them the file's fault
        raise DataError(f"cannot read {file} (damaged, or without {', '.join(names)}): {first_line(error)}") from error
    if wrong := _misfit(arrays):
        raise DataError(f"{file}: {wrong}")
    return arrays | {"speaker": arrays["speaker"].astype(np.int64)}


def _misfit(arrays: Mapping[str, NDArray[Any]]) -> str | None:
    """Return in what way the arrays are not what `load` describes; None if they are."""
    count = len(arrays["labels"]) if arrays["labels"].ndim else 0
    if arrays["audio"].dtype != np.int16 or arrays["audio"].ndim != 1:
        return f"audio is {arrays['audio'].dtype} of shape {arrays['audio'].shape}; want int16 of shape (samples,)"
    for name, shape in {"labels": (count,), "offsets": (count + 1,), "speaker": (count,), "index": (count,)}.items():
        array = arrays[name]
        if array.dtype.kind not in "iu" or array.shape != shape or not count:
            return f"{name} is {array.dtype} of shape {array.shape}; want whole numbers of shape {shape}"
    offsets = arrays["offsets"].astype(np.int64)
    if offsets[0] < 0 or offsets[-1] > len(arrays["audio"]) or (np.diff(offsets) <= 0).any():
        return f"offsets do not rise from 0 to {len(arrays['audio'])}, the number of samples in audio"
    for name, most in {"labels": len(DIGITS), "speaker": arrays["speakers"].size}.items():
        if not 0 <= arrays[name].min() <= arrays[name].max() < most:
            return f"{name} holds {arrays[name].min()} to {arrays[name].max()}; want 0 to {most - 1}"
    return None


def _of_speakers(arrays: Mapping[str, NDArray[Any]], speakers: Sequence[str] | None) -> NDArray[np.int64]:
    """Return the numbers of the utterances of some speakers, or of all."""
    known = [str(name) for name in arrays["speakers"]]
    for name in speakers or ():
        if name not in known:
            raise DataError(f"speaker {name!r} is not in the data; known: {', '.join(known)}")
    wanted = [known.index(name) for name in (known if speakers is None else speakers)]
    return np.flatnonzero(np.isin(arrays["speaker"], wanted))
