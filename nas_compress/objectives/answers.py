"""Quality of answers to questions about texts, as a search measures it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from torch import nn

from nas_compress.data.qa import QuestionSplit
from nas_compress.data.text import TextData
from nas_compress.errors import ConfigError
from nas_compress.objectives.base import Measurement, Objective
from nas_compress.objectives.text import answer_scores, predict_answers
from nas_compress.space import Architecture

if TYPE_CHECKING:
    from nas_compress.agent import NAS


class AnswerF1(Objective):
    """Mean F1 of words in % on one part of the data; the spread is the standard error in points.

    Args:
        data: Where the questions come from.
        split: `"val"` in a search; `"test"` is for the final figures alone.
        batch_size: Rows per forward pass.
        fraction: Share of the questions to use, in (0, 1]: the first ones, the same for every architecture.

    Raises:
        ConfigError: `fraction` or `batch_size` out of range.
        DataError: The data has no such split.
    """

    name = "f1"
    direction = "maximize"
    unit = "%"
    column = "F1 (%)"
    _score: ClassVar[str] = "f1"

    def __init__(
        self, data: TextData[QuestionSplit], *, split: str = "val", batch_size: int = 32, fraction: float = 1.0
    ) -> None:
        if not 0 < fraction <= 1:
            raise ConfigError(f"{self.name}: fraction = {fraction!r} is out of range; allowed: more than 0, at most 1")
        if batch_size < 1:
            raise ConfigError(f"{self.name}: batch_size = {batch_size!r} is out of range; allowed: 1 and more")
        self._data, self._split_name, self._batch_size = data, split, batch_size
        self._split = data.split(split)
        self._questions = math.ceil(fraction * len(self._split.questions))

    @classmethod
    def from_agent(cls, agent: NAS) -> Self:
        """Return the score on an agent's search-validation questions; see `Objective.from_agent`."""
        section = agent.config.section
        data = cast(TextData[QuestionSplit], agent.data)
        return cls(data, batch_size=section.eval_batch_size, fraction=section.test_fraction)

    def measure(self, subnet: nn.Module, architecture: Architecture) -> Measurement:
        """Answer the questions and compare; see `Objective.measure`."""
        answers = predict_answers(subnet, self._split, self._batch_size, self._questions, trim=True)
        scores = answer_scores(answers, self._split.questions[: self._questions])
        measurement: Measurement = getattr(scores, self._score)
        return measurement

    def context(self) -> dict[str, Any]:
        """Return data, split and number of questions; see `Objective.context`."""
        return {
            "dataset": self._data.name,
            "data": self._data.fingerprint,
            "split": self._split_name,
            "questions": self._questions,
            "precision": "fp32",
        }


class ExactMatch(AnswerF1):
    """Share of questions answered exactly, in %; see `AnswerF1`."""

    name = "exact_match"
    column = "Exact Match (%)"
    _score = "exact_match"
