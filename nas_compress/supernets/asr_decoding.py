"""From a speech recognizer's outputs to tokens: greedy CTC, and beam search with the decoder.

A recognizer here is a `SpeechRecognizer`: an extracted sub-network, or `AsrSupernet.recognizer` within `activate`.
"""

from __future__ import annotations

from itertools import groupby

import torch
from torch import Tensor
from torch.nn import functional as F

from nas_compress.backends import Session
from nas_compress.errors import ConfigError, EvaluationError
from nas_compress.supernets.asr import SpeechRecognizer, encoded_lengths
from nas_compress.supernets.asr_config import BEGIN, BLANK, END


def greedy_ctc(log_probabilities: Tensor, lengths: Tensor) -> list[list[int]]:
    """Return the tokens of the likeliest path: repeats are one, blanks none.

    Graves et al., 2006, "Connectionist Temporal Classification", section 3.2 (best path decoding).

    Args:
        log_probabilities: CTC log-probabilities, shape (N, L, V).
        lengths: Frames of each before padding, on the encoder's side (see `encoded_lengths`), shape (N,).
    """
    paths = log_probabilities.argmax(2).tolist()
    return [
        [token for token, _ in groupby(path[:length]) if token != BLANK]
        for path, length in zip(paths, lengths.tolist(), strict=True)
    ]


@torch.no_grad()
def recognize_ctc(recognizer: SpeechRecognizer | Session, features: Tensor, lengths: Tensor) -> list[list[int]]:
    """Return the tokens of utterances by greedy CTC; the decoder of a module is not run.

    Args:
        recognizer: In evaluation mode; or a backend's session of one.
        features: Log-mel features, shape (N, T, mels).
        lengths: Frames of each before padding, shape (N,).

    Raises:
        EvaluationError: The encoder gives log-probabilities that are not finite.
    """
    if isinstance(recognizer, Session):
        log_probabilities: Tensor = recognizer(features, torch.full((len(features), 1), BEGIN), lengths)[0]
    else:
        log_probabilities = recognizer.encode(features, lengths)[2]
    frames = encoded_lengths(lengths)
    if not all(bool(torch.isfinite(p[:n]).all()) for p, n in zip(log_probabilities, frames, strict=True)):
        raise EvaluationError("the network gives log-probabilities that are not finite")
    return greedy_ctc(log_probabilities, frames)


@torch.no_grad()
def recognize_attention(
    recognizer: SpeechRecognizer,
    features: Tensor,
    lengths: Tensor,
    *,
    beam: int = 1,
    ctc_weight: float = 0.0,
    max_tokens: int = 200,
) -> list[list[int]]:
    """Return the tokens of utterances by beam search with the decoder (greedy with a beam of one).

    The `beam` best sentences of the decoder are scored again with the weighted sum of its log-probability and CTC's
    (rescoring in Watanabe et al., 2017, "Hybrid CTC/Attention Architecture for End-to-End Speech Recognition").

    Args:
        recognizer: In evaluation mode.
        features: Log-mel features, shape (N, T, mels).
        lengths: Frames of each before padding, shape (N,).
        beam: Sentences that are followed, 1 and more.
        ctc_weight: Share of CTC in the score, from 0 to 1.
        max_tokens: The most tokens of a sentence; no more than the encoder has frames in any case.

    Raises:
        ConfigError: `beam` or `ctc_weight` is out of range.
        EvaluationError: The decoder gives logits that are not finite.
    """
    if beam < 1:
        raise ConfigError(f"beam = {beam}; wants at least 1")
    if not 0 <= ctc_weight <= 1:
        raise ConfigError(f"ctc_weight = {ctc_weight}; wants 0 to 1")
    memory, _, log_probabilities = recognizer.encode(features, lengths)
    sentences = []
    for row, length in enumerate(encoded_lengths(lengths).tolist()):
        found = _search(recognizer, memory[row : row + 1, :length], beam, min(max_tokens, length))
        scores = torch.tensor([score for _, score in found])
        if ctc_weight:
            ctc = _ctc_scores(log_probabilities[row, :length], [tokens for tokens, _ in found])
            scores = (1 - ctc_weight) * scores + ctc_weight * ctc
        sentences.append(found[int(scores.argmax())][0])
    return sentences


def _search(recognizer: SpeechRecognizer, memory: Tensor, beam: int, most: int) -> list[tuple[list[int], float]]:
    """Return the best sentences for one utterance's encoder outputs (1, L, d), with their log-probabilities."""
    tokens, scores = torch.tensor([[BEGIN]]), torch.zeros(1)
    finished: list[tuple[list[int], float]] = []
    for step in range(most + 1):
        logits = recognizer.decode(tokens, memory.expand(len(tokens), -1, -1))[:, -1]
        if not torch.isfinite(logits).all():
            raise EvaluationError("the network gives logits that are not finite")
        following = logits.log_softmax(1)
        following[:, [BLANK, BEGIN]] = -torch.inf
        if step == most:
            following[:, END + 1 :] = -torch.inf
        total = (scores[:, None] + following).flatten()
        best = total.topk(min(beam, int(torch.isfinite(total).sum())))
        sources, chosen = best.indices // following.shape[1], best.indices % following.shape[1]
        ended = chosen == END
        kept = tokens[sources]
        for sentence, score in zip(kept[ended].tolist(), best.values[ended].tolist(), strict=True):
            finished.append((sentence[1:], score))
        tokens, scores = torch.cat([kept, chosen[:, None]], 1)[~ended], best.values[~ended]
        # Scores only fall: nothing that is unfinished can still get among the `beam` best.
        if not len(tokens) or (len(finished) >= beam and float(scores.max()) <= _nth(finished, beam)):
            break
    return sorted(finished, key=lambda pair: -pair[1])[:beam]


def _nth(finished: list[tuple[list[int], float]], n: int) -> float:
    return sorted((score for _, score in finished), reverse=True)[n - 1]


def _ctc_scores(log_probabilities: Tensor, sentences: list[list[int]]) -> Tensor:
    """Return CTC's log-probabilities of sentences, from outputs of shape (L, V); -inf for those that are too long."""
    repeated = log_probabilities[:, None].expand(-1, len(sentences), -1)
    lengths = torch.tensor([len(sentence) for sentence in sentences])
    targets = torch.tensor([token for sentence in sentences for token in sentence], dtype=torch.long)
    frames = torch.full((len(sentences),), len(log_probabilities))
    return -F.ctc_loss(repeated, targets, frames, lengths, blank=BLANK, reduction="none")
