"""Labelled sentences, and questions about texts, as training wants them: batches of similar length."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.data.qa import QuestionSplit
from nas_compress.data.text import TextData, TextSplit
from nas_compress.data.tokenizer import Tokens
from nas_compress.errors import DataError
from nas_compress.training.config import Precision, TrainOptions
from nas_compress.training.distillation import distillation_loss
from nas_compress.training.examples import Answers, Batch, Examples, Teacher, tensor_of

PADDED = -1e9
"""Logit of padding, which holds no start and no end of an answer: its probability is 0 at any temperature in use."""


class TextBatch(Batch):
    """Sentences: a row of logits each, one for every class.

    Args:
        tokens: Word pieces, mask and token types, int64 of shape (n, length) each, on the device of the network.
        labels: Class indices, shape (n,).
        precision: fp32 or bf16.
        classes: Number of classes.

    Attributes:
        tokens: As given, without the columns that are padding in all rows.
    """

    def __init__(self, tokens: Tokens, labels: Tensor, precision: Precision, classes: int) -> None:
        super().__init__(labels, precision)
        ids, mask, types = tokens
        used = int(mask.sum(1).max())
        self.tokens: Tokens = (ids[:, :used], mask[:, :used], types[:, :used])
        self._classes = classes

    def answers(self, network: Teacher, resolution: int | None) -> Answers:
        """Return a network's logits, shape (sentences, classes); see the base class.

        Raises:
            DataError: It gives outputs of another shape.
        """
        return Answers(self._outputs(network, (len(self.labels), self._classes)))

    def _outputs(self, network: Teacher, wanted: tuple[int, ...]) -> Tensor:
        module = cast(nn.Module, network)
        with self.autocast():
            output = tensor_of(module, module(*self.tokens))
        if output.shape != wanted:
            raise DataError(f"the network gives outputs of shape {tuple(output.shape)}, the data wants {wanted}")
        return output.float()


class QuestionBatch(TextBatch):
    """Questions with their texts: two rows each, of logits over the word pieces, first all starts, then all ends.

    Source: Devlin et al., 2019, "BERT", section 4.2: the loss is the cross entropy of start and of end. Where a row
    does not hold the answer, both are the first word piece of all. Padding is never an answer.

    Args:
        tokens: See `TextBatch`.
        spans: First and last word piece of the answers, shape (n, 2).
        precision: fp32 or bf16.
    """

    def __init__(self, tokens: Tokens, spans: Tensor, precision: Precision) -> None:
        super().__init__(tokens, spans.T.flatten(), precision, 2)

    def answers(self, network: Teacher, resolution: int | None) -> Answers:
        """Return a network's logits, shape (2 * questions, length), padding masked; see `TextBatch`."""
        mask = self.tokens[1]
        rows = self._outputs(network, (*mask.shape, 2)).permute(2, 0, 1).flatten(0, 1)
        return Answers(rows.masked_fill(mask.repeat(2, 1) == 0, PADDED))

    def loss(
        self,
        answers: Answers,
        teacher: Tensor | None,
        options: TrainOptions,
        *,
        weight: float = 1.0,
        temperature: float = 1.0,
    ) -> Tensor:
        """Return the loss, a mean over rows; label smoothing spreads over what is no padding. See the base class."""
        smoothing = options.label_smoothing
        loss = distillation_loss(
            answers.logits, self.labels, teacher, weight=weight, label_smoothing=0.0, temperature=temperature
        )
        hard = 1.0 if teacher is None else 1 - weight
        if smoothing == 0 or hard == 0:
            return loss
        # The smoothed target is (1 - s) times the label and s times a uniform one: s times their difference is added.
        kept = self.tokens[1].repeat(2, 1).float()
        log_p = answers.logits.log_softmax(1)
        uniform = -(log_p * kept / kept.sum(1, keepdim=True)).sum(1).mean()
        return loss + hard * smoothing * (uniform - F.nll_loss(log_p, self.labels))


class TextExamples(Examples):
    """The sentences of a data source, or its questions.

    Args:
        data: The data source.
        precision: fp32 or bf16.
    """

    def __init__(self, data: TextData[TextSplit] | TextData[QuestionSplit], precision: Precision) -> None:
        super().__init__(data, precision, data.train.tokens[1].sum(1))
        self._train, self._val = data.train, data.val
        self._classes = len(data.classes)

    def batch(self, indices: Tensor, generator: torch.Generator | None, device: torch.device) -> TextBatch:
        """Return some training examples, which nothing is changed in; see the base class."""
        return self._batch(self._train, indices, device)

    def validation(self, indices: Tensor, device: torch.device) -> TextBatch:
        """Return some search-validation examples; see the base class."""
        return self._batch(self._val, indices, device)

    def _batch(self, split: TextSplit, indices: Tensor, device: torch.device) -> TextBatch:
        ids, mask, types = (each.to(device) for each in split.rows(indices))
        labels = split.labels[indices].to(device)
        if isinstance(split, QuestionSplit):
            return QuestionBatch((ids, mask, types), labels, self._precision)
        return TextBatch((ids, mask, types), labels, self._precision, self._classes)
