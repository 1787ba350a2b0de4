"""How well networks classify and answer: accuracy on sentences, SQuAD's exact match and F1."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas_compress.data.qa import QuestionSplit
from nas_compress.data.text import TextSplit, batches
from nas_compress.data.text_files import Question
from nas_compress.errors import EvaluationError
from nas_compress.objectives.base import Measurement
from nas_compress.objectives.modes import evaluating
from nas_compress.objectives.on_data import proportion

Network = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Maps word pieces, mask and token types to logits: a module, evaluated in evaluation mode, or a backend's session."""


def text_accuracy(
    network: Network, split: TextSplit, batch_size: int = 64, limit: int | None = None, *, trim: bool = False
) -> Measurement:
    """Return the share of sentences classified right in %, with its standard error in points; see `proportion`.

    Args:
        network: Gives logits of shape (n, classes).
        split: Labelled sentences.
        batch_size: Sentences per forward pass.
        limit: Use the first so many sentences alone.
        trim: Whether the network takes batches of any length; see `batches`.

    Raises:
        EvaluationError: The network gives logits that are not finite, or the split is empty.
    """
    correct = seen = 0
    with _evaluated(network):
        for inputs, labels in batches(split, batch_size, limit=limit, trim=trim):
            correct += int((_finite(network(*inputs)).argmax(1) == labels).sum())
            seen += len(labels)
    return proportion(correct, seen, "sentences")


# -- answers to questions ----------------------------------------------------------------------------------


def normalize_answer(text: str) -> str:
    """Return an answer as SQuAD compares it: lower case, without ASCII punctuation, articles and extra spaces."""
    bare = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def exact_match(prediction: str, answers: Iterable[str]) -> float:
    """Return 1 if a normalised answer equals the normalised prediction, else 0."""
    wanted = normalize_answer(prediction)
    return float(any(normalize_answer(answer) == wanted for answer in answers))


def token_f1(prediction: str, answers: Iterable[str]) -> float:
    """Return the largest F1, over the answers, of normalised words that prediction and answer share.

    Where nothing is left of prediction or answer it is 1 if that is so of both, else 0 (SQuAD's evaluation of v2.0).
    """
    return max(_f1(normalize_answer(prediction).split(), normalize_answer(answer).split()) for answer in answers)


def _f1(prediction: Sequence[str], answer: Sequence[str]) -> float:
    if not prediction or not answer:
        return float(prediction == answer)
    return 2 * (Counter(prediction) & Counter(answer)).total() / (len(prediction) + len(answer))


@dataclass(frozen=True)
class AnswerScores:
    """SQuAD's scores in %, with standard errors of the mean over questions in points.

    Attributes:
        exact_match: Share of questions answered exactly.
        f1: Mean F1 of words.
    """

    exact_match: Measurement
    f1: Measurement


def answer_scores(predictions: Mapping[str, str], questions: Sequence[Question]) -> AnswerScores:
    """Return the scores of predicted answers (Rajpurkar et al., 2016, "SQuAD", section 6.1).

    Args:
        predictions: Answers by the questions' `id`; a missing one counts as wrong.
        questions: The questions.

    Raises:
        EvaluationError: There are no questions.
    """
    if not questions:
        raise EvaluationError("answers want at least one question, there is none")
    given = [predictions.get(question.id) for question in questions]
    pairs = list(zip(given, questions, strict=True))
    exact = [0.0 if text is None else exact_match(text, question.answers) for text, question in pairs]
    words = [0.0 if text is None else token_f1(text, question.answers) for text, question in pairs]
    return AnswerScores(_mean(exact), _mean(words))


def _mean(scores: Sequence[float]) -> Measurement:
    values = 100 * torch.tensor(scores, dtype=torch.float64)
    spread = float(values.std()) / math.sqrt(len(scores)) if len(scores) > 1 else None
    return Measurement(float(values.mean()), spread, {"questions": len(scores)})


def best_spans(
    start: Tensor, end: Tensor, allowed: Tensor, *, n_best: int = 20, longest: int = 30
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best spans of word pieces by the sum of the logits of their ends (Devlin et al., 2019, section 4.2).

    Candidates start at one of the `n_best` best starts and end at one of the `n_best` best ends.

    Args:
        start: Logits of being the first word piece of the answer, shape (n, length).
        end: Logits of being the last, same shape.
        allowed: Which word pieces are of the text, same shape.
        n_best: Candidates per end, and spans to return at most.
        longest: The most word pieces of an answer.

    Returns:
        Scores, first and last word pieces, shape (n, k) each, k = min(n_best, length), the best first; scores of spans
        that are not allowed are minus infinity.
    """
    count = min(n_best, start.shape[1])
    (first_scores, first), (last_scores, last) = (
        torch.where(allowed, logits, -torch.inf).topk(count, dim=1) for logits in (start, end)
    )
    spread = last[:, None, :] - first[:, :, None]
    scores = (first_scores[:, :, None] + last_scores[:, None, :]).masked_fill(
        (spread < 0) | (spread >= longest), -torch.inf
    )
    best, place = scores.flatten(1).topk(count, dim=1)
    return best, first.gather(1, place // count), last.gather(1, place % count)


def predict_answers(
    network: Network,
    split: QuestionSplit,
    batch_size: int = 32,
    limit: int | None = None,
    *,
    n_best: int = 20,
    longest: int = 30,
    trim: bool = False,
) -> dict[str, str]:
    """Return the answer to each question, by its `id`: the best span over all rows of its text, or an empty text.

    Args:
        network: Gives logits of shape (n, length, 2), of starts and ends.
        split: Questions.
        batch_size: Rows per forward pass.
        limit: Answer the first so many questions alone.
        n_best: See `best_spans`.
        longest: See `best_spans`.
        trim: Whether the network takes batches of any length; see `batches`.

    Raises:
        EvaluationError: The network gives logits that are not finite.
    """
    questions = split.questions[:limit]
    rows = int((split.question_of < len(questions)).sum())
    best = [(-math.inf, "")] * len(questions)
    position = 0
    with _evaluated(network):
        for inputs, _ in batches(split, batch_size, limit=rows, trim=trim):
            start, end = _finite(network(*inputs)).unbind(-1)
            offsets = split.offsets[position : position + len(start), : start.shape[1]]
            scores, first, last = best_spans(start, end, offsets[..., 0] >= 0, n_best=n_best, longest=longest)
            for row in range(len(start)):
                number, score = int(split.question_of[position + row]), float(scores[row, 0])
                if score > best[number][0]:
                    begin, stop = int(offsets[row, first[row, 0], 0]), int(offsets[row, last[row, 0], 1])
                    best[number] = score, questions[number].context[begin:stop]
            position += len(start)
    return {question.id: text for question, (_, text) in zip(questions, best, strict=True)}


@contextmanager
def _evaluated(network: Network) -> Iterator[None]:
    with torch.no_grad():
        if isinstance(network, nn.Module):
            with evaluating(network):
                yield
        else:
            yield


def _finite(logits: Tensor) -> Tensor:
    if not torch.isfinite(logits).all():
        raise EvaluationError("the network gives logits that are not finite")
    return logits
