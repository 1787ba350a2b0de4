"""Options of data sources: what is wrong with one is said before anything is loaded."""

import re
from pathlib import Path

import pytest

from nas_compress.data import check, data_sources
from nas_compress.errors import ConfigError

TOKENIZER = {"tokenizer": "vocab.txt"}
LANGUAGES = {"languages": ["de", "en"]}


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("sentences", {"tokenizer": 3}, "tokenizer = 3 is not a path"),
        ("sentences", {"tokenizer": ""}, "tokenizer = '' is not a path"),
        ("sentences", {"tokenizer": None}, "tokenizer = None is not a path"),
        ("sentences", {"tokenizer": ["a", "b"]}, "tokenizer = ['a', 'b'] is not a path"),
        ("sentences", TOKENIZER | {"length": "many"}, "length = 'many' is not a whole number >= 4"),
        ("sentences", TOKENIZER | {"length": 3}, "length = 3 is not a whole number >= 4"),
        ("sentences", TOKENIZER | {"length": True}, "length = True is not a whole number >= 4"),
        ("questions", TOKENIZER | {"stride": -1}, "stride = -1 is not a whole number >= 0"),
        ("translation", {"languages": "de"}, "languages = 'de' is not a list of two texts"),
        ("translation", {"languages": ["de"]}, "languages = ['de'] is not a list of two texts"),
        ("translation", {"languages": ["de", 3]}, "languages = ['de', 3] is not a list of two texts"),
        ("translation", LANGUAGES | {"vocabulary": "x"}, "vocabulary = 'x' is not a whole number >= 1"),
        ("translation", LANGUAGES | {"longest": 2.5}, "longest = 2.5 is not a whole number >= 1"),
        ("translation", LANGUAGES | {"cache": 3}, "cache = 3 is not a path, or null"),
        ("translation", LANGUAGES | {"dictionaries": "a"}, "dictionaries = 'a' is not a list of two paths, or null"),
        ("fsdd", {"speakers": "jackson"}, "speakers = 'jackson' is not a list of at least one text, or null"),
        ("fsdd", {"speakers": 3}, "speakers = 3 is not a list of at least one text, or null"),
        ("fsdd", {"speakers": []}, "speakers = [] is not a list of at least one text, or null"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_wanted(tmp_path: Path, source: str, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"dataset_options: {message}")):
        check(source, tmp_path, options)


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("sentences", {"tokenizer": Path("vocab.txt"), "length": 4}),
        ("sentences", {"tokenizer": object()}),  # from Python, a tokenizer itself
        ("questions", TOKENIZER | {"stride": 0, "length": 384}),
        ("translation", {"languages": ("de", "en"), "cache": None, "dictionaries": (Path("a"), "b"), "longest": 1}),
        ("fsdd", {"speakers": ["jackson"]}),
        ("fsdd", {"speakers": None}),
    ],
)
def test_right_values_pass(tmp_path: Path, source: str, options: dict) -> None:
    try:
        check(source, tmp_path, options)
    except ConfigError as error:
        pytest.fail(str(error))
    except Exception as error:
        assert "dataset_options" not in str(error)  # files are missing, which is checked after the options


def test_every_option_has_a_kind() -> None:
    for name in data_sources:
        info = data_sources.entry(name).info
        assert set(info.get("kinds", {})) == set(info.get("options", {})), name
