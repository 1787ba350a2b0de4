"""Questions about texts: files, windows, spans, parts."""

import json
import random
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from nas_compress.data.qa import load_questions
from nas_compress.data.text import batches
from nas_compress.data.text_files import read_questions
from nas_compress.data.tokenizer import Tokenizer
from nas_compress.errors import DataError
from nas_compress.objectives.text import answer_scores, predict_answers
from nas_compress.supernets.bert import BertSupernet
from nas_compress.supernets.bert_config import TINY_BERT

TEXT = "the river runs through a town . it was founded in 1850 ."


def squad(contexts, asked=2):
    """A file's content: questions about each text, answered by two of its words."""
    paragraphs = []
    for number, context in enumerate(contexts):
        qas = []
        for which in range(asked):
            words = context.split()[2 + which : 4 + which]
            answer = {"text": " ".join(words), "answer_start": context.index(" ".join(words))}
            qas.append({"id": f"{number}-{which}", "question": "how long is it ?", "answers": [answer] * 3})
        paragraphs.append({"context": context, "qas": qas})
    return {"version": "1.1", "data": [{"title": "towns", "paragraphs": paragraphs}]}


@pytest.fixture
def tokenizer(vocabulary):
    return Tokenizer(vocabulary)


@pytest.fixture
def file(tmp_path):
    contexts = [f"{TEXT} {'long ' * (number + 1)}{'wide river miles ' * number}." for number in range(10)]
    path = tmp_path / "questions.json"
    path.write_text(json.dumps(squad(contexts)))
    return path


def test_windows_cover_long_texts_with_the_stride_shared(tokenizer):
    context = " ".join(["river", "town"] * 10)
    windows = tokenizer.windows(["who ?", "when is it ?"], [context, "good"], length=13, stride=3)
    ids, mask, types = windows.tokens
    assert windows.pair_of.tolist() == [0, 0, 0, 0, 1]
    spans = [[tuple(pair) for pair in row.tolist() if pair[0] >= 0] for row in windows.offsets]
    assert [len(row) for row in spans] == [8, 8, 8, 5, 1]
    assert spans[0][-3:] == spans[1][:3] and spans[2][-3:] == spans[3][:3]
    words = [context[a:b] for a, b in sorted({pair for row in spans[:4] for pair in row})]
    assert " ".join(words) == context
    assert types[0].tolist() == [0] * 4 + [1] * 9
    assert mask.sum(1).tolist() == [13, 13, 13, 10, 8]
    assert windows.offsets[0, :4].eq(-1).all() and windows.offsets[0, 12].eq(-1).all()


def test_windows_without_room_are_refused_and_endless_questions_are_cut(tokenizer):
    with pytest.raises(DataError, match="length = 10 word pieces leave no room"):
        tokenizer.windows(["how many miles is it ?"], ["good"], length=10, stride=2)
    windows = tokenizer.windows(["how " * 200], ["good film"], length=80, stride=5)
    assert int(windows.tokens[1].sum()) == 64 + 2 + 3


def test_labels_are_the_word_pieces_of_the_answer(tokenizer, file):
    data = load_questions(file, tokenizer, length=24, stride=4)
    for part in (data.train, data.val, data.test):
        assert len(part) > len(part.questions)
        found = set()
        for row, (first, last) in enumerate(part.labels.tolist()):
            number = int(part.question_of[row])
            question = part.questions[number]
            begin, end = question.starts[0], question.starts[0] + len(question.answers[0])
            if first:
                assert (int(part.offsets[row, first, 0]), int(part.offsets[row, last, 1])) == (begin, end)
                found.add(number)
            else:
                inside = [pair for pair in part.offsets[row].tolist() if pair[0] >= 0]
                assert last == 0 and (begin < inside[0][0] or end > inside[-1][1])
        assert found == set(range(len(part.questions)))


def test_one_file_is_shared_out_by_texts(tokenizer, file):
    data = load_questions(file, tokenizer, length=24, stride=4)
    contexts = [{q.context for q in part.questions} for part in (data.train, data.val, data.test)]
    assert [len(each) for each in contexts] == [7, 1, 2]
    assert len(set.union(*contexts)) == 10
    assert sum(len(part.questions) for part in (data.train, data.val, data.test)) == 20
    again = load_questions(file, tokenizer, length=24, stride=4)
    assert again.fingerprint == data.fingerprint and again.test.questions == data.test.questions
    assert load_questions(file, tokenizer, length=25, stride=4).fingerprint != data.fingerprint
    assert all((part.question_of.diff() >= 0).all() for part in (data.train, data.val, data.test))


@pytest.mark.parametrize("files", [("train-v1.1", "dev-v1.1"), ("train", "dev", "test")])
def test_files_of_parts(tokenizer, tmp_path, files):
    for count, name in zip((8, 3, 2), files, strict=False):
        contexts = [f"{name} {number} {TEXT}" for number in range(count)]
        (tmp_path / f"{name}.json").write_text(json.dumps(squad(contexts)))
    data = load_questions(tmp_path, tokenizer, length=64, stride=4)
    sizes = [len(part.questions) for part in (data.train, data.val, data.test)]
    assert sizes == ([14, 2, 6] if len(files) == 2 else [16, 6, 4])
    assert all(q.context.startswith(files[-1]) for q in data.test.questions)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("data"), "not in SQuAD's format.*KeyError 'data'"),
        (lambda c: c["data"][0]["paragraphs"][0]["qas"][0].pop("answers"), "KeyError 'answers'"),
        (
            lambda c: c["data"][0]["paragraphs"][0]["qas"][0].update(answers=[]),
            "question '0-0' has no answer; SQuAD 1.1",
        ),
        (
            lambda c: c["data"][0]["paragraphs"][0]["qas"][0]["answers"][0].update(answer_start=999),
            "answer of question '0-0' starts at 999, outside",
        ),
        (
            lambda c: c["data"][0]["paragraphs"][0]["qas"][0]["answers"][0].update(answer_start=0),
            "answer 'runs through' of question '0-0' is not at answer_start = 0, where 'the river ru' stands",
        ),
        (
            lambda c: c["data"][0]["paragraphs"][0]["qas"][0]["answers"][0].update(text=""),
            "an answer of question '0-0' is empty",
        ),
        (lambda c: c["data"].clear(), "holds no questions"),
        (
            lambda c: c["data"][0]["paragraphs"].append(c["data"][0]["paragraphs"][0]),
            "the id '0-0' stands for 2 questions",
        ),
    ],
)
def test_damaged_files(tmp_path, change, message):
    content = squad([TEXT])
    change(content)
    path = tmp_path / "x.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_questions(path)


def test_too_few_texts(tokenizer, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(squad([TEXT])))
    with pytest.raises(DataError, match="too few texts"):
        load_questions(path, tokenizer)


def test_published_questions(shared_data):
    questions = read_questions(shared_data / "qa" / "xquad_en.json.gz")
    assert (len(questions), len({q.context for q in questions})) == (1190, 240)
    for question in questions:
        for answer, start in zip(question.answers, question.starts, strict=True):
            assert question.context[start : start + len(answer)] == answer


def test_a_small_net_learns_to_answer(tokenizer, tmp_path):
    """It is always 1850: from the file by way of training to SQuAD's scores, on texts never seen."""
    words, rng = "river film bad good wide long miles".split(), random.Random(0)
    paragraphs = []
    for number in range(160):
        drawn = [*rng.sample(words, 4), "town", "1850"]
        rng.shuffle(drawn)
        context = " ".join(drawn)
        answers = [{"text": "1850", "answer_start": context.index("1850")}]
        paragraphs.append({"context": context, "qas": [{"id": str(number), "question": "when ?", "answers": answers}]})
    (tmp_path / "x.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    data = load_questions(tmp_path / "x.json", tokenizer, length=16, stride=2)
    config = replace(TINY_BERT, task="answering", vocabulary=data.vocabulary, layers=(1, 2), length=16)
    net = BertSupernet("answers", config, seed=0)
    optimizer, generator = torch.optim.AdamW(net.parameters(), lr=3e-3), torch.Generator().manual_seed(0)
    for _ in range(5):
        for inputs, spans in batches(data.train, 16, generator=generator):
            start, end = net(*inputs).unbind(-1)
            (F.cross_entropy(start, spans[:, 0]) + F.cross_entropy(end, spans[:, 1])).backward()
            optimizer.step()
            optimizer.zero_grad()
    subnet = net.extract(net.space.largest())
    scores = answer_scores(predict_answers(subnet, data.test), data.test.questions)
    assert scores.f1.value >= scores.exact_match.value > 80
