"""Sentences and their translations as training wants them: a row for each target token."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas_compress.data import translation
from nas_compress.data.vocabulary import PAD
from nas_compress.errors import ConfigError
from nas_compress.training.config import Precision
from nas_compress.training.examples import Answers, Batch, Examples, Teacher, tensor_of


class TranslationBatch(Batch):
    """Sentences; a row is a target token that is no padding, told from the source and the right tokens before it."""

    def __init__(self, sentences: translation.TranslationBatch, precision: Precision, device: torch.device) -> None:
        target = sentences.target.flatten().to(device)
        self._rows = target.ne(PAD).nonzero().squeeze(1)
        super().__init__(target[self._rows], precision)
        self._source, self._previous = sentences.source.to(device), sentences.previous.to(device)

    def answers(self, network: Teacher, resolution: int | None) -> Answers:
        """Return a network's logits, shape (tokens, target vocabulary); see the base class."""
        if not isinstance(network, nn.Module):
            raise ConfigError(f"sentences want a module, got {type(network).__name__}")
        with self.autocast():
            logits = tensor_of(network, network(self._source, self._previous))
        return Answers(logits.flatten(0, 1).index_select(0, self._rows).float())


class TranslationExamples(Examples):
    """The sentences of a data source.

    Args:
        data: The data source.
        precision: fp32 or bf16.
    """

    def __init__(self, data: translation.TranslationData, precision: Precision) -> None:
        pairs = zip(data.train.sources, data.train.targets, strict=True)
        super().__init__(data, precision, torch.tensor([len(source) + len(target) for source, target in pairs]))
        self._data = data

    def batch(self, indices: Tensor, generator: torch.Generator | None, device: torch.device) -> TranslationBatch:
        """Return some training sentences, always unchanged; see the base class."""
        return TranslationBatch(self._data.train.batch(indices), self._precision, device)

    def validation(self, indices: Tensor, device: torch.device) -> TranslationBatch:
        """Return some search-validation sentences; see the base class."""
        return TranslationBatch(self._data.val.batch(indices), self._precision, device)
