"""Labelled sentences: files, tokenizers, parts, batches."""

import gzip
import json
from dataclasses import replace

import pytest
import torch

from nas_compress.data.fit import check_network
from nas_compress.data.text import batches, check_text_fit, load_sentences
from nas_compress.data.text_files import Sentence, read_sentences, text_parts
from nas_compress.data.tokenizer import Tokenizer
from nas_compress.errors import DataError, MissingExtraError
from nas_compress.supernets import supernets
from nas_compress.supernets.bert import BertSupernet

GOOD, BAD = "the film was good", "a badly long film"


def write(folder, **parts):
    """Files of a part each: a number of sentences, every third one of class 1."""
    for name, count in parts.items():
        rows = [f"{int(i % 3 == 0)}\t{(BAD, GOOD)[i % 3 == 0]} {'. ' * (i % 5)}" for i in range(count)]
        (folder / f"{name}.tsv").write_text("\n".join(["label\ttext", *rows]) + "\n")
    return folder


@pytest.fixture
def tokenizer(vocabulary):
    return Tokenizer(vocabulary)


def pieces(vocabulary, row):
    return [(vocabulary / "vocab.txt").read_text().split("\n")[i] for i in row.tolist()]


def test_word_pieces_mask_and_types(vocabulary, tokenizer):
    ids, mask, types = tokenizer.encode(["The film was BADLY long!"], ["good"], length=12)
    assert pieces(vocabulary, ids[0]) == [
        *("[CLS]", "the", "film", "was", "bad", "##ly", "long", "[UNK]", "[SEP]", "good", "[SEP]", "[PAD]")
    ]
    assert mask[0].tolist() == [1] * 11 + [0]
    assert types[0].tolist() == [0] * 9 + [1, 1, 0]
    cut, _, _ = tokenizer.encode([GOOD], length=4)
    assert pieces(vocabulary, cut[0]) == ["[CLS]", "the", "film", "[SEP]"]


def test_tokenizer_files_in_either_format_agree_and_capitals_count_if_asked(vocabulary, tokenizer, tmp_path):
    tokenizer._tokenizer.save(str(tmp_path / "tokenizer.json"))
    other = Tokenizer(tmp_path)
    assert other.fingerprint == tokenizer.fingerprint and other.vocabulary == tokenizer.vocabulary
    cased = tmp_path / "cased"
    cased.mkdir()
    (cased / "vocab.txt").write_text((vocabulary / "vocab.txt").read_text())
    (cased / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    ids, _, _ = Tokenizer(cased).encode(["The good"], length=4)
    assert pieces(vocabulary, ids[0]) == ["[CLS]", "[UNK]", "good", "[SEP]"]


def test_tokenizer_that_is_missing_or_damaged(vocabulary, tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"no tokenizer at .*; want tokenizer\.json, vocab\.txt"):
        Tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="is not a tokenizer"):
        Tokenizer(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"tokenizers is not installed.*pip install '\.\[hf\]'"):
        Tokenizer(vocabulary)


def test_all_three_parts_are_the_files(tokenizer, tmp_path):
    data = load_sentences(write(tmp_path, train=60, dev=21, test=30), tokenizer, length=16, name="films")
    assert [len(data.split(part)) for part in ("train", "val", "test")] == [60, 21, 30]
    assert (data.name, data.classes, data.length) == ("films", ("0", "1"), 16)
    with pytest.raises(DataError, match="split = 'dev' is not a part"):
        data.split("dev")


@pytest.mark.parametrize("last", ["dev", "test"])
def test_validation_is_carved_from_training_where_one_file_is_missing(tokenizer, tmp_path, last):
    data = load_sentences(write(tmp_path, train=60, **{last: 30}), tokenizer, length=16)
    assert [len(data.split(part)) for part in ("train", "val", "test")] == [54, 6, 30]
    assert data.val.labels.sum() == 2
    again = load_sentences(tmp_path, tokenizer, length=16)
    assert again.fingerprint == data.fingerprint
    assert torch.equal(again.val.tokens[0], data.val.tokens[0])


def test_the_fingerprint_knows_texts_labels_lengths_and_tokenizer(tokenizer, tmp_path, vocabulary):
    write(tmp_path, train=60, test=30)
    prints = [load_sentences(tmp_path, tokenizer, length=n).fingerprint for n in (16, 15)]
    cased = tmp_path / "cased"
    cased.mkdir()
    (cased / "vocab.txt").write_text((vocabulary / "vocab.txt").read_text() + "\nZ")
    prints.append(load_sentences(tmp_path, Tokenizer(cased), length=16).fingerprint)
    file = tmp_path / "test.tsv"
    file.write_text(file.read_text().replace("1\tthe", "0\tthe", 1))
    prints.append(load_sentences(tmp_path, tokenizer, length=16).fingerprint)
    assert len(set(prints)) == 4


def test_beginnings_of_parts_have_the_classes_in_proportion(tokenizer, tmp_path):
    data = load_sentences(write(tmp_path, train=300, dev=30, test=30), tokenizer, length=16)
    for count in (30, 60, 150):
        assert abs(int(data.train.labels[:count].sum()) - count / 3) <= 2


def test_sentences_keep_their_labels(vocabulary, tokenizer, tmp_path):
    data = load_sentences(write(tmp_path, train=60, test=30), tokenizer, length=16)
    good = tokenizer._tokenizer.token_to_id("good")
    for part in (data.train, data.val, data.test):
        assert torch.equal((part.tokens[0] == good).any(1), part.labels == 1)


def test_batches(tokenizer, tmp_path):
    data = load_sentences(write(tmp_path, train=60, test=30), tokenizer, length=16)
    whole = list(batches(data.train, 25))
    assert [len(labels) for _, labels in whole] == [25, 25, 4]
    assert {each.shape[1] for inputs, _ in whole for each in inputs} == {16}
    assert {each.dtype for inputs, _ in whole for each in inputs} == {torch.int64}
    for (inputs, labels), (trimmed, others) in zip(whole, batches(data.train, 25, trim=True), strict=True):
        used = trimmed[0].shape[1]
        assert torch.equal(labels, others) and used == int(inputs[1].sum(1).max()) < 16
        assert all(torch.equal(each[:, :used], short) for each, short in zip(inputs, trimmed, strict=True))
        assert not inputs[1][:, used:].any()
    assert sum(len(labels) for _, labels in batches(data.train, 25, limit=30)) == 30
    orders = [
        torch.cat([x[0] for x, _ in batches(data.train, 25, generator=torch.Generator().manual_seed(seed))])
        for seed in (0, 0, 1)
    ]
    assert torch.equal(orders[0], orders[1]) and not torch.equal(orders[0], orders[2])


def test_files_are_found_by_what_they_start_with(tmp_path):
    for name in ("stsa_binary_train.tsv.gz", "stsa_binary_dev.tsv.gz", "TREC_train.tsv", "TREC_test.csv", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert {k: v.name for k, v in text_parts(tmp_path / "TREC").items()} == {
        "train": "TREC_train.tsv",
        "test": "TREC_test.csv",
    }
    assert set(text_parts(tmp_path / "stsa_binary")) == {"train", "val"}
    with pytest.raises(DataError, match="several data sets; name one of .*TREC, .*stsa_binary"):
        text_parts(tmp_path)
    with pytest.raises(DataError, match=r"wants files .* for train and for test or dev; it has \[\]"):
        text_parts(tmp_path / "SST")
    with pytest.raises(DataError, match="there is no folder"):
        text_parts(tmp_path / "no" / "where")
    (tmp_path / "TREC_validation.tsv").write_bytes(b"")
    (tmp_path / "TREC_dev.tsv").write_bytes(b"")
    with pytest.raises(DataError, match="two files for val: TREC_dev.tsv, TREC_validation.tsv"):
        text_parts(tmp_path / "TREC")


def test_quotes_and_line_separators(tmp_path):
    tsv = tmp_path / "x.tsv.gz"
    tsv.write_bytes(gzip.compress("label\ttext\na\t\"quoted, \x85 and\u2028more\nb\t's\r\n".encode()))
    assert read_sentences(tsv) == [Sentence("a", '"quoted, \x85 and\u2028more'), Sentence("b", "'s")]
    file = tmp_path / "x.csv"
    file.write_text('text,extra,label,text_pair\n"one, two\nthree",7,pos,"he said ""no"""\n')
    assert read_sentences(file) == [Sentence("pos", "one, two\nthree", 'he said "no"')]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text\nx\n", "wants the columns label and text in its first line"),
        (b"label\ttext\n1\n", "line 2: 1 values, the header has 2"),
        (b"label\ttext\n", "holds no sentences"),
        (b"label\ttext\n0\ta\n\tb\n", "line 3: label is empty"),
        (b"label\ttext\n0\t \n", "line 2: text is empty"),
        (b"label\ttext\n0\ta\n0 \tb\n", "line 3: label '0 ' has spaces around it"),
        (b"label\ttext\n0\t" + 140_000 * b"a", r"line 2: field larger than field limit \(131072\)"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_damaged_files(tmp_path, content, message):
    (tmp_path / "x.tsv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_sentences(tmp_path / "x.tsv")
    (tmp_path / "x.tsv.gz").write_bytes(b"not gzip")
    with pytest.raises(DataError, match="cannot be read"):
        read_sentences(tmp_path / "x.tsv.gz")


@pytest.mark.parametrize("part", ["train", "dev"])
def test_parts_of_which_one_lacks_the_second_text_are_refused(tokenizer, tmp_path, part):
    for name in ("train", "dev", "test"):
        pair = ("\ttext_pair", "\tbad") if name != part else ("", "")
        lines = [f"label\ttext{pair[0]}", *(f"{i % 2}\tgood{pair[1]}" for i in range(20))]
        (tmp_path / f"{name}.tsv").write_text("\n".join(lines))
    has, lacks = ("dev", "train") if part == "train" else ("train", "dev")
    with pytest.raises(DataError, match=rf"{has}.tsv has pairs of texts, \S*{lacks}.tsv has single ones"):
        load_sentences(tmp_path, tokenizer)


def test_an_unknown_label_is_refused(tokenizer, tmp_path):
    write(tmp_path, train=60, test=30)
    (tmp_path / "dev.tsv").write_text("label\ttext\n7\tgood\n")
    with pytest.raises(DataError, match="has the label '7', which the training sentences lack"):
        load_sentences(tmp_path, tokenizer)


def test_data_and_network_must_fit(tokenizer, tmp_path):
    data = load_sentences(write(tmp_path, train=60, test=30), tokenizer, length=16)
    check_text_fit(data, data.vocabulary, 16, 2)
    for sizes, message in (
        ((data.vocabulary - 1, 16, 2), "word pieces, the net knows"),
        ((data.vocabulary, 15, 2), "rows of 16 word pieces, the net takes 15"),
        ((data.vocabulary, 16, 3), "wants 2 outputs, the net has 3"),
    ):
        with pytest.raises(DataError, match=message):
            check_text_fit(data, *sizes)


def test_sentences_of_two_classes_are_not_for_a_network_that_answers(tokenizer, tmp_path):
    data = load_sentences(write(tmp_path, train=60, test=30), tokenizer, length=16)
    net = supernets.get("tiny_bert")(seed=0)
    check_network(data, net)
    answering = BertSupernet("answering", replace(net.config, task="answering"))
    with pytest.raises(DataError, match="their tasks differ"):
        check_network(data, answering)


def test_published_sets(shared_data, tokenizer):
    sst = load_sentences(shared_data / "text_cls" / "stsa_binary", tokenizer, length=16)
    assert [len(sst.split(part)) for part in ("train", "val", "test")] == [6920, 872, 1821]
    trec = load_sentences(shared_data / "text_cls" / "TREC", tokenizer, length=16)
    assert [len(trec.split(part)) for part in ("train", "val", "test")] == [4907, 545, 500]
    assert trec.classes == ("0", "1", "2", "3", "4", "5")
