"""Data sources by name; each has fixed train, search-validation and test parts.

Importing this package, listing its names and `check` cost no import of torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_compress.data.locate import (
    FASHION_MNIST,
    beginning,
    cifar10_files,
    file_or_folder,
    folder,
    folder_parts,
    idx_files,
    multi30k_files,
    no_files,
)
from nas_compress.data.options import PATH, PATH_OR_OBJECT, TEXTS, TWO_PATHS, TWO_TEXTS, or_null, whole
from nas_compress.errors import ConfigError, suggest
from nas_compress.registry import Entry, Registry

if TYPE_CHECKING:
    from nas_compress.data.fit import Data

_TOKENIZER = {"tokenizer": "folder or file of a Hugging Face tokenizer", "length": "word pieces per row"}
_TOKENIZER_KINDS = {"tokenizer": PATH_OR_OBJECT, "length": whole(4)}

data_sources: Registry[Callable[..., Data]] = Registry(
    "data source",
    {
        "digits": Entry(
            "nas_compress.data.digits:load",
            "scikit-learn's handwritten digits, 1,797 grey images of 8x8 (built in, no files)",
            {"locate": no_files, "default_path": None, "channels": 1},
        ),
        "fashion_mnist": Entry(
            "nas_compress.data.idx:load_fashion_mnist",
            f"Fashion-MNIST, 70,000 grey images of 28x28 (default path: {FASHION_MNIST})",
            {"locate": idx_files, "default_path": FASHION_MNIST, "channels": 1},
        ),
        "idx": Entry(
            "nas_compress.data.idx:load",
            "a folder of IDX files as MNIST's (train-images-idx3-ubyte[.gz] and so on)",
            {"locate": idx_files, "default_path": None, "channels": 1},
        ),
        "cifar10": Entry(
            "nas_compress.data.cifar10:load",
            "CIFAR-10, binary version, 60,000 colour images of 32x32 (data_batch_1.bin and so on)",
            {"locate": cifar10_files, "default_path": None, "channels": 3},
        ),
        "image_folder": Entry(
            "nas_compress.data.image_folder:load",
            "a folder with train/CLASS/IMAGE and val/CLASS/IMAGE, optionally test/ (ImageNet's layout)",
            {"locate": folder_parts, "default_path": None, "channels": 3},
        ),
        "sentences": Entry(
            "nas_compress.data.text:load_sentences",
            "labelled sentences: train, dev, test files (.tsv, .csv) with the columns label and text (SST-2, TREC)",
            {
                "locate": beginning,
                "task": "text",
                "options": _TOKENIZER,
                "kinds": _TOKENIZER_KINDS,
                "required": ("tokenizer",),
            },
        ),
        "questions": Entry(
            "nas_compress.data.qa:load_questions",
            "questions about texts in SQuAD's JSON format",
            {
                "locate": beginning,
                "task": "questions",
                "options": _TOKENIZER | {"stride": "word pieces that rows of one text share"},
                "kinds": _TOKENIZER_KINDS | {"stride": whole(0)},
                "required": ("tokenizer",),
            },
        ),
        "multi30k": Entry(
            "nas_compress.data.translation:load_multi30k",
            "Multi30k, 31,000 captions in German and English (train.de, train.en and so on)",
            {"locate": multi30k_files, "task": "translation"},
        ),
        "translation": Entry(
            "nas_compress.data.translation:load",
            "aligned texts, a sentence a line (train.LANGUAGE, val.LANGUAGE, test.LANGUAGE)",
            {
                "locate": folder,
                "task": "translation",
                "options": {
                    "languages": "endings of source and target files, a list of two",
                    "vocabulary": "tokens of the byte-pair encoding",
                    "cache": "folder to keep the encoding in",
                    "dictionaries": "fairseq's dict.txt of source and target, a list of two",
                    "longest": "tokens of the longest training sentence",
                },
                "kinds": {
                    "languages": TWO_TEXTS,
                    "vocabulary": whole(1),
                    "cache": or_null(PATH),
                    "dictionaries": or_null(TWO_PATHS),
                    "longest": whole(1),
                },
                "required": ("languages",),
            },
        ),
        "fsdd": Entry(
            "nas_compress.data.fsdd:load",
            "Free Spoken Digit Dataset, 3,000 spoken digits at 8 kHz (fsdd_8k_int16.npz)",
            {
                "locate": file_or_folder,
                "task": "speech",
                "options": {"speakers": "names of some speakers, a list"},
                "kinds": {"speakers": or_null(TEXTS)},
            },
        ),
        "speech_folder": Entry(
            "nas_compress.data.speech_folder:load",
            "a folder of recordings with transcripts: LibriSpeech's layout, or tables with the columns path and text",
            {"locate": folder, "task": "speech"},
        ),
    },
    aliases={
        "imagenet": "image_folder",
        "mnist": "idx",
        "mnist_like": "idx",
        "sst2": "sentences",
        "trec": "sentences",
        "squad": "questions",
        "librispeech": "speech_folder",
    },  # fmt: skip
)
"""Data sources that configs and recipes name.

`Entry.info` holds what must be known without loading: how to find the files (`locate`); their `default_path` and the
`channels` of images, if there are such; the `task` that the data is for, `images` by default; and the `options` of the
loader, with what they mean, what `kinds` of values they take (`options.py`), and which of them are `required`.
"""


def check(name: str, path: str | Path | None = None, options: Mapping[str, Any] | None = None) -> None:
    """Check a data source's options and that its files are there, without reading them or importing torch.

    Raises:
        UnknownNameError: No data source has this name.
        ConfigError: An option that the data source does not have, one that it wants and does not get, or a wrong value.
        DataError: A path or a file is missing.
    """
    info, given = data_sources.entry(name).info, options or {}
    known = info.get("options", {})
    for option in given:
        if option not in known:
            allowed = ", ".join(f"{key} ({meaning})" for key, meaning in known.items()) or "none"
            reason = f"dataset_options: {name!r} has no option {option!r}{suggest(option, known)}; allowed: {allowed}"
            raise ConfigError(reason)
        kind = info.get("kinds", {}).get(option)
        if kind is not None and not kind.fits(given[option]):
            raise ConfigError(f"dataset_options: {option} = {given[option]!r} is not {kind.wants}")
    for option in info.get("required", ()):
        if option not in given:
            raise ConfigError(f"dataset_options: {name!r} wants {option!r}: {known[option]}")
    info["locate"](name, path or info.get("default_path"))


def task_of(name: str) -> str:
    """Return the task that a data source is for: images, text, questions, translation or speech."""
    return str(data_sources.entry(name).info.get("task", "images"))


def check_data(data: object) -> None:
    """Check that what a user gives as data are some of those that data sources deliver, or None.

    Raises:
        ConfigError: They are not.
    """
    if data is None:
        return
    from nas_compress.data import base, speech, text, translation

    if not isinstance(data, base.ImageData | text.TextData | translation.TranslationData | speech.SpeechData):
        raise ConfigError(f"data is a {type(data).__name__}; wants data, as load_data returns them")


def load_data(name: str, path: str | Path | None = None, options: Mapping[str, Any] | None = None) -> Data:
    """Load a data source by name.

    Args:
        name: A name in `data_sources`.
        path: The folder of its files, where it has files and no default path (or other ones than the default).
        options: Options of its loader; see `data_sources`.

    Raises:
        UnknownNameError: No data source has this name.
        ConfigError: An option is wrong or missing.
        DataError: A path or a file is missing or damaged.
        MissingExtraError: A package that the data needs is not installed.
    """
    check(name, path, options)
    return data_sources.get(name)(path or data_sources.entry(name).info.get("default_path"), **(options or {}))
