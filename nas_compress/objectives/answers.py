"""Quality of answers to questions about texts, as a search measures it."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from nas_compress.data.qa import QuestionSplit
from nas_compress.data.text import TextData
from nas_compress.objectives.base import Measurement
from nas_compress.objectives.on_data import DataObjective
from nas_compress.objectives.text import answer_scores, predict_answers
from nas_compress.space import Architecture


class AnswerF1(DataObjective[TextData[QuestionSplit]]):
    """Mean F1 of words in % on one part of the data; the spread is the standard error in points."""

    name = "f1"
    direction = "maximize"
    unit = "%"
    column = "F1 (%)"
    task = "questions"
    counted = "questions"
    _score: ClassVar[str] = "f1"

    def _rows(self) -> int:
        return len(self._split.questions)

    def measure(self, subnet: nn.Module, architecture: Architecture) -> Measurement:
        """Answer the questions and compare; see `Objective.measure`."""
        answers = predict_answers(subnet, self._split, self._batch_size, self._count, trim=True)
        scores = answer_scores(answers, self._split.questions[: self._count])
        measurement: Measurement = getattr(scores, self._score)
        return measurement


class ExactMatch(AnswerF1):
    """Share of questions answered exactly, in %; see `AnswerF1`."""

    name = "exact_match"
    column = "Exact Match (%)"
    _score = "exact_match"
