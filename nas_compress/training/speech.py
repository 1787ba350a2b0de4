"""Utterances and their transcripts as training wants them: a row for each token of the decoder, and CTC besides."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.data import speech
from nas_compress.errors import ConfigError, DataError
from nas_compress.supernets.asr import encoded_lengths
from nas_compress.supernets.asr_config import BLANK
from nas_compress.training.config import Precision
from nas_compress.training.examples import Answers, Batch, Examples, Teacher, tensor_of


def ctc_loss(log_probabilities: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor) -> Tensor:
    """Return CTC's loss per token, a mean over utterances.

    Graves et al., 2006, "Connectionist Temporal Classification". An utterance of fewer encoder frames than its tokens
    need has no loss.

    Args:
        log_probabilities: Of the encoder's CTC output, shape (N, L, V).
        lengths: Frames of features of each utterance, shape (N,).
        tokens: Transcripts, shape (N, U), padded with anything.
        token_lengths: Tokens of each, shape (N,).
    """
    return F.ctc_loss(
        log_probabilities.transpose(0, 1),
        tokens,
        encoded_lengths(lengths),
        token_lengths,
        blank=BLANK,
        zero_infinity=True,
    )


class SpeechBatch(Batch):
    """Utterances; a row is a token of the transcript, or its end, told from the utterance and the right tokens before.

    The loss is the hybrid one of Watanabe et al., 2017, "Hybrid CTC/Attention Architecture for End-to-End Speech
    Recognition", equation 24: `ctc_weight` of CTC on the encoder, the rest the decoder's cross entropy.
    """

    def __init__(self, utterances: speech.SpeechBatch, precision: Precision, device: torch.device) -> None:
        following = utterances.following.flatten()
        rows = following.ne(BLANK).nonzero().squeeze(1)
        super().__init__(following[rows].to(device), precision)
        self._rows = rows.to(device)
        self._features, self._lengths = utterances.features.to(device), utterances.lengths.to(device)
        self._previous = utterances.previous.to(device)
        self._tokens, self._token_lengths = utterances.tokens.to(device), utterances.token_lengths.to(device)

    def answers(self, network: Teacher, resolution: int | None) -> Answers:
        """Return the decoder's logits, shape (tokens, vocabulary), and the CTC loss; see the base class."""
        if not isinstance(network, nn.Module):
            raise ConfigError(f"utterances want a module, got {type(network).__name__}")
        with self.autocast():
            outputs = network(self._features, self._previous, self._lengths)
        if not isinstance(outputs, tuple) or len(outputs) != 2:
            raise DataError(f"{type(network).__name__} does not give a pair: log-probabilities of CTC, and logits")
        log_probabilities, logits = (tensor_of(network, output) for output in outputs)
        ctc = ctc_loss(log_probabilities.float(), self._lengths, self._tokens, self._token_lengths)
        return Answers(logits.flatten(0, 1).index_select(0, self._rows).float(), ctc)


class SpeechExamples(Examples):
    """The utterances of a data source.

    Args:
        data: The data source.
        precision: fp32 or bf16.
    """

    def __init__(self, data: speech.SpeechData, precision: Precision) -> None:
        # How long an utterance takes is known by its transcript, without reading any audio.
        super().__init__(data, precision, torch.tensor([data.train.tokens(i) for i in range(len(data.train))]))
        self._data = data

    def batch(self, indices: Tensor, generator: torch.Generator | None, device: torch.device) -> SpeechBatch:
        """Return some training utterances, always unchanged; see the base class."""
        return SpeechBatch(self._data.train.batch(indices.tolist()), self._precision, device)

    def validation(self, indices: Tensor, device: torch.device) -> SpeechBatch:
        """Return some search-validation utterances; see the base class."""
        return SpeechBatch(self._data.val.batch(indices.tolist()), self._precision, device)
