"""A tokenizer small enough to read, for tests on texts."""

import pytest

WORDS = "a the good bad film was is it how many who when river long wide miles runs through town founded in 1850 , . ?"


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory):
    """A folder with BERT's `vocab.txt`; tests that need it skip without the package `tokenizers`."""
    pytest.importorskip("tokenizers", reason="needs tokenizers, which reads word pieces")
    folder = tmp_path_factory.mktemp("vocabulary")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split(), "##ly", "##s"]
    (folder / "vocab.txt").write_text("\n".join(pieces))
    return folder
