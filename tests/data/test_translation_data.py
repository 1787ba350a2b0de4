import gzip
import sys

import pytest
import torch

from nas_compress.data.translation import length_batches, load, load_multi30k
from nas_compress.data.vocabulary import EOS, PAD, SPECIALS, UNK, BytePairEncoding, FairseqDictionary
from nas_compress.errors import ConfigError, DataError, MissingExtraError

pytest.importorskip("tokenizers")

WORDS = ["Zwei", "Männer", "sehen", "den", "Hund,", "im", "Park", "(heute)", "„ja“", "gut.", "fährt"]


def write(folder, part, lines, language, *, packed=False):
    text = "\n".join(lines) + "\n"
    if packed:
        (folder / f"{part}.{language}.gz").write_bytes(gzip.compress(text.encode()))
    else:
        (folder / f"{part}.{language}").write_text(text, encoding="utf-8")


def corpus(folder, rows=60):
    folder.mkdir(exist_ok=True)
    for number, part in enumerate(("data_train", "valid", "test_2016")):
        generator = torch.Generator().manual_seed(number)
        for language in ("de", "en"):
            picks = [torch.randint(len(WORDS), (int(1 + i % 9),), generator=generator) for i in range(rows)]
            write(folder, part, [" ".join(WORDS[j] for j in row) for row in picks], language, packed=number == 0)
    return folder


@pytest.fixture
def files(tmp_path):
    return corpus(tmp_path / "files")


def test_texts_come_back_and_parts_are_aligned(files):
    data = load(files, ("de", "en"), vocabulary=90)
    assert [len(data.split(part)) for part in ("train", "val", "test")] == [60, 60, 60]
    for split in (data.train, data.val, data.test):
        assert data.target_vocabulary.decode(split.targets) == list(split.references)
        assert all(row[-1] == EOS and PAD not in row for row in (*split.sources, *split.targets))
    lines = (files / "valid.de").read_text().splitlines(), (files / "valid.en").read_text().splitlines()
    pairs = zip(data.source_vocabulary.decode(data.val.sources), data.val.references, strict=True)
    assert sorted(pairs) == sorted(zip(*lines, strict=True))
    assert list(data.val.references) != lines[1]
    with pytest.raises(DataError, match="split = 'dev' is not a part"):
        data.split("dev")


def test_batches_are_shifted_and_padded(files):
    data = load(files, ("de", "en"), vocabulary=90)
    source, previous, target = data.train.batch(torch.tensor([3, 11, 40]))
    assert source.dtype == torch.int64 and previous.shape == target.shape
    for row, number in enumerate((3, 11, 40)):
        assert source[row][source[row] != PAD].tolist() == data.train.sources[number]
        tokens = target[row][target[row] != PAD].tolist()
        assert tokens == data.train.targets[number]
        assert previous[row][: len(tokens)].tolist() == [EOS, *tokens[:-1]]


def test_batches_hold_every_sentence_once_and_few_pads(files):
    data = load(files, ("de", "en"), vocabulary=90)
    split = data.train
    for generator in (None, torch.Generator().manual_seed(0)):
        batches = list(length_batches(split, 60, generator))
        assert sorted(torch.cat(batches).tolist()) == list(range(60))
        for indices in batches:
            batch = split.batch(indices)
            assert len(indices) * max(batch.source.shape[1], batch.target.shape[1]) <= 60
    shuffled = [list(length_batches(split, 60, torch.Generator().manual_seed(s)))[0].tolist() for s in (1, 1, 2)]
    assert shuffled[0] == shuffled[1] != shuffled[2]
    assert sorted(torch.cat(list(length_batches(split, 1, limit=7))).tolist()) == list(range(7))


def test_the_encoding_is_kept_and_the_same_data_have_one_fingerprint(files, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    first = load(files, ("de", "en"), vocabulary=90, cache=cache)
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(BytePairEncoding, "train", None)
    assert load(files, ("de", "en"), vocabulary=90, cache=cache).fingerprint == first.fingerprint
    monkeypatch.undo()
    prints = {
        first.fingerprint,
        load(files, ("de", "en"), vocabulary=90).fingerprint,
        load(files, ("de", "en"), vocabulary=50).fingerprint,
        load(files, ("en", "de"), vocabulary=90).fingerprint,
    }
    assert len(prints) == 3
    write(files, "valid", ["Hund"] * 60, "en")
    assert load(files, ("de", "en"), vocabulary=90).fingerprint not in prints


def test_long_training_sentences_are_left_out(files):
    data = load(files, ("de", "en"), vocabulary=90, longest=12)
    assert 0 < len(data.train) < 60 and len(data.val) == 60
    assert max(map(len, (*data.train.sources, *data.train.targets))) <= 12
    with pytest.raises(DataError, match="no training sentence of at most 1 tokens"):
        load(files, ("de", "en"), vocabulary=90, longest=1)


def test_dictionaries_of_fairseq(files, tmp_path):
    path = tmp_path / "dict.txt"
    path.write_text("Park 10\nHu@@ 7\nnd 7\n, 2\n", encoding="utf-8")
    dictionary = FairseqDictionary.read(path)
    assert len(dictionary) == 4 + len(SPECIALS)
    tokens = dictionary.encode(["Hu@@ nd , Park Haus"])
    assert tokens == [[5, 6, 7, 4, UNK, EOS]]
    assert dictionary.decode(tokens) == ["Hund , Park <unk>"]
    assert dictionary.decode([[5, EOS]]) == ["Hu"]
    data = load(files, ("de", "en"), dictionaries=(path, path))
    assert data.source_vocabulary is data.target_vocabulary and len(data.target_vocabulary) == 8
    path.write_text("Park 10\nwrong\n")
    with pytest.raises(DataError, match=r"dict.txt, line 2: want a token and its count, got 'wrong'"):
        FairseqDictionary.read(path)


def test_paths_of_options_may_begin_at_home(files, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    load(files, ("de", "en"), vocabulary=90, cache="~/cache")
    assert len(list((tmp_path / "cache").iterdir())) == 1
    (tmp_path / "dict.txt").write_text("Park 10\n")
    data = load(files, ("de", "en"), dictionaries=("~/dict.txt", tmp_path / "dict.txt"))
    assert data.source_vocabulary is data.target_vocabulary


def test_wrong_files(files, tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        load(tmp_path / "nowhere", ("de", "en"))
    with pytest.raises(DataError, match=r"no file train.fr or train.fr.gz"):
        load(files, ("de", "fr"))
    write(files, "other_train", ["a"], "de")
    with pytest.raises(DataError, match="more than one file for the train part.*data_train.de.gz, other_train.de"):
        load(files, ("de", "en"))
    (files / "other_train.de").unlink()
    write(files, "valid", ["a"], "de")
    with pytest.raises(DataError, match="valid.de has 1 lines, .*valid.en 60"):
        load(files, ("de", "en"))
    (files / "data_train.de.gz").write_bytes(b"not gzip")
    with pytest.raises(DataError, match="data_train.de.gz cannot be read"):
        load(files, ("de", "en"))


def test_a_part_without_translations(files):
    (files / "valid.en").write_text(" \n" * len((files / "valid.de").read_text().splitlines()))
    with pytest.raises(DataError, match=r"valid.en holds no sentences"):
        load(files, ("de", "en"))


def test_byte_order_marks_are_no_part_of_sentences(files):
    content = (files / "valid.en").read_bytes()
    before = load(files, ("de", "en")).val.references
    (files / "valid.en").write_bytes(b"\xef\xbb\xbf" + content)
    assert load(files, ("de", "en")).val.references == before


def test_wrong_encodings(files, tmp_path):
    with pytest.raises(ConfigError, match="vocabulary size = 6; the characters of the texts alone take"):
        load(files, ("de", "en"), vocabulary=6)
    with pytest.raises(ConfigError, match="vocabulary size = 4"):
        load(files, ("de", "en"), vocabulary=4)
    broken = tmp_path / "bpe.json"
    broken.write_text("{")
    with pytest.raises(DataError, match="cannot read the tokenizer"):
        BytePairEncoding.read(broken)


def test_without_the_library(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"tokenizers is not installed.*pip install '\.\[translation\]'"):
        load(files, ("de", "en"))


def test_multi30k(shared_data):
    data = load_multi30k(shared_data / "mt")
    assert [len(data.split(part)) for part in ("train", "val", "test")] == [29000, 1014, 1000]
    assert len(data.source_vocabulary) == 4000
    assert data.target_vocabulary.decode(data.test.targets) == list(data.test.references)
    assert UNK not in {token for row in data.val.sources for token in row}
    padding = sum(data.train.batch(b).target.eq(PAD).sum().item() for b in length_batches(data.train, 2000))
    assert padding < 0.12 * sum(map(len, data.train.targets))
