"""Accuracy on sentences; SQuAD's scores by hand, and against independent implementations."""

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nas_compress.data.qa import QuestionSplit
from nas_compress.data.text import TextSplit
from nas_compress.data.text_files import Question
from nas_compress.data.tokenizer import Windows
from nas_compress.errors import EvaluationError
from nas_compress.objectives.text import (
    answer_scores,
    best_spans,
    exact_match,
    normalize_answer,
    predict_answers,
    text_accuracy,
    token_f1,
)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Eiffel Tower!", "eiffel tower"),
        ("an apple, a day", "apple day"),
        ("U.S.-based", "usbased"),
        ("theatre", "theatre"),
        ("“A”", "“ ”"),
        ("the", ""),
        ("", ""),
    ],
)
def test_answers_are_normalised_as_in_squad(text, normal):
    assert normalize_answer(text) == normal


@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "f1"),
    [
        ("the 308 points", ["308 points", "308"], 1, 1),
        ("308 points", ["308"], 0, 2 / 3),
        ("in the year 1850", ["1850", "the year 1850 AD"], 0, 2 * (2 / 3) * (2 / 3) / (4 / 3)),
        ("red red blue", ["red blue blue"], 0, 2 / 3),
        ("Denver Broncos", ["Carolina Panthers"], 0, 0),
        ("", ["x"], 0, 0),
        ("", ["the"], 1, 1),
        ("the", ["x"], 0, 0),
    ],
)
def test_scores_by_hand(prediction, answers, exact, f1):
    assert exact_match(prediction, answers) == exact
    assert token_f1(prediction, answers) == pytest.approx(f1)


def question(number, answers, context="x"):
    return Question(str(number), "?", context, tuple(answers), (0,) * len(answers))


def test_scores_are_means_with_standard_errors_and_missing_predictions_are_wrong():
    questions = [question(0, ["good film"]), question(1, ["good film"]), question(2, ["x"]), question(3, ["y"])]
    scores = answer_scores({"0": "the good film", "1": "good", "2": "x"}, questions)
    assert scores.exact_match.value == 50 and scores.f1.value == pytest.approx(100 * (1 + 2 / 3 + 1 + 0) / 4)
    assert scores.exact_match.spread == pytest.approx(100 * math.sqrt(1 / 3) / 2)
    with pytest.raises(EvaluationError, match="at least one question"):
        answer_scores({}, [])


def test_scores_equal_an_independent_implementation():
    squad = pytest.importorskip("transformers.data.metrics.squad_metrics", reason="needs transformers, the reference")
    words, rng = ["the", "a", "An", "U.S.", "x", "y", "Y,", "1850", "-", "ä", "\u2014", " "], random.Random(0)

    def text():
        return " ".join(rng.choices(words, k=rng.randrange(5)))

    for _ in range(1000):
        answers, prediction = [text() for _ in range(rng.randint(1, 3))], text()
        assert exact_match(prediction, answers) == max(squad.compute_exact(a, prediction) for a in answers)
        assert token_f1(prediction, answers) == pytest.approx(max(squad.compute_f1(a, prediction) for a in answers))


def slow_best(start, end, allowed, n_best, longest):
    """The definition, word piece by word piece."""

    def top(logits):
        return [i for i in sorted(range(len(logits)), key=lambda i: -logits[i])[:n_best] if allowed[i]]

    logits = [[v if ok else -math.inf for v, ok in zip(row, allowed, strict=True)] for row in (start, end)]
    spans = [
        (start[i] + end[j], i, j)
        for i in top(logits[0])
        for j in top(logits[1])
        if i <= j < i + longest
    ]  # fmt: skip
    return sorted(spans, reverse=True)[: min(n_best, len(start))]


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 12))
def test_best_spans_are_those_of_the_definition(seed, n_best, longest):
    generator = torch.Generator().manual_seed(seed)
    start, end = torch.randn(2, 3, 8, generator=generator, dtype=torch.float64)
    allowed = torch.rand(3, 8, generator=generator) < 0.6
    scores, first, last = best_spans(start, end, allowed, n_best=n_best, longest=longest)
    assert scores.shape == first.shape == last.shape == (3, min(n_best, 8))
    for row in range(3):
        wanted = slow_best(start[row].tolist(), end[row].tolist(), allowed[row].tolist(), n_best, longest)
        got = [
            entry
            for entry in zip(*(x[row].tolist() for x in (scores, first, last)), strict=True)
            if entry[0] > -math.inf
        ]
        assert [(i, j) for _, i, j in got] == [(i, j) for _, i, j in wanted]
        assert [s for s, _, _ in got] == pytest.approx([s for s, _, _ in wanted])


class Logits(nn.Module):
    """A network that gives prepared logits, row by row, by the row's number in the first word piece."""

    def __init__(self, logits):
        super().__init__()
        self.logits, self.modes = logits, set()

    def forward(self, ids, mask, types):
        self.modes.add(self.training)
        rows = self.logits[ids[:, 0]]
        return rows[:, : ids.shape[1]] if rows.ndim == 3 else rows


def tokens(n, length, used=None):
    ids = torch.arange(n, dtype=torch.int32)[:, None].repeat(1, length)
    mask = (torch.arange(length) < (used or length)).int().repeat(n, 1)
    return ids, mask, torch.zeros_like(ids)


@pytest.fixture
def questions():
    """Two questions; the first has two windows of four word pieces, after one of its own."""
    context = "it was founded in 1850 by two"
    offsets = torch.full((3, 5, 2), -1, dtype=torch.int32)
    words = [(0, 2), (3, 6), (7, 14), (15, 17), (18, 22), (23, 25), (26, 29)]
    for row, start in enumerate((0, 3, 0)):
        offsets[row, 1:] = torch.tensor(words[start : start + 4])
    asked = [question(0, ["1850"], context), question(1, ["was founded", "founded"], context)]
    return QuestionSplit(asked, Windows(tokens(3, 5), torch.tensor([0, 0, 1]), offsets))


def test_answers_come_from_the_best_window_and_from_the_text_alone(questions):
    logits = torch.zeros(3, 5, 2)
    logits[0, 0] = 50.0  # the first word piece is none of the text's
    logits[0, 3, 0], logits[0, 4, 1] = 2.0, 1.0  # "founded in"
    logits[1, 2, 0], logits[1, 2, 1] = 3.0, 2.0  # "1850", in the second window
    logits[2, 2, 0], logits[2, 3, 1] = 4.0, 3.0  # "was founded"
    logits[2, 1, 1], logits[2, 1, 0] = 9.0, -9.0  # an end before the start does not count
    network = Logits(logits).train()
    assert predict_answers(network, questions, batch_size=2) == {"0": "1850", "1": "was founded"}
    assert predict_answers(network, questions, batch_size=2, limit=1) == {"0": "1850"}
    assert predict_answers(network, questions, longest=1)["1"] == "was"
    assert network.modes == {False} and network.training
    scores = answer_scores(predict_answers(network, questions), questions.questions)
    assert scores.exact_match.value == scores.f1.value == 100


def test_a_network_without_finite_logits(questions):
    with pytest.raises(EvaluationError, match="not finite"):
        predict_answers(Logits(torch.full((3, 5, 2), math.nan)), questions)
    split = TextSplit(tokens(3, 5), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(EvaluationError, match="not finite"):
        text_accuracy(Logits(torch.full((3, 2), math.inf)), split)


def test_accuracy_of_sentences_with_its_standard_error():
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    split = TextSplit(tokens(5, 6, used=4), torch.tensor([0, 1, 0, 0, 1]))
    network = Logits(logits).train()
    for options in ({}, {"batch_size": 2}, {"trim": True}):
        found = text_accuracy(network, split, **options)
        assert found.value == 80 and found.provenance == {"sentences": 5}
        assert found.spread == pytest.approx(100 * math.sqrt(5 / 7 * 2 / 7 / 7))
    assert text_accuracy(network, split, limit=2).value == 100
    assert network.modes == {False} and network.training
    with pytest.raises(EvaluationError, match="the split is empty"):
        text_accuracy(network, TextSplit(tokens(0, 4), torch.zeros(0, dtype=torch.int64)))
