"""From logits to sentences: greedy and beam search over any encoder-decoder that keeps a cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from nas_compress.data.vocabulary import BOS, EOS, PAD
from nas_compress.errors import ConfigError, EvaluationError


class State(Protocol):
    """What decoding goes on with, for N sentences with B hypotheses each."""

    def select(self, hypotheses: Tensor, sentences: Tensor | None = None) -> None:
        """Keep the hypotheses of these numbers (of N * B), in this order, and these sentences (all by default)."""


S = TypeVar("S", bound=State)


class EncoderDecoder(Protocol[S]):
    """A network that decodes token by token, such as `Translator`, in evaluation mode."""

    def begin(self, source: Tensor) -> S:
        """Encode the sources, the batch first, and return what decoding starts from."""

    def step(self, tokens: Tensor, state: S) -> Tensor:
        """Return the logits of the next tokens, shape (N, B, tokens), after tokens (N, B); EOS comes first."""


@dataclass(frozen=True)
class Hypothesis:
    """A decoded sentence.

    Attributes:
        tokens: Its tokens, without EOS.
        score: Log-probability over length to the power of the length penalty (both with EOS).
    """

    tokens: list[int]
    score: float


@dataclass(frozen=True)
class BeamSettings:
    """How beam search goes; the defaults are those of DyNAS-T's figures on WMT.

    Attributes:
        beams: Hypotheses that go on, for each sentence.
        length_penalty: Power of the length that log-probabilities are divided by; larger ones favour long sentences.
        early_stop: Whether a sentence is done when `beams` finished hypotheses are better than all others as these
            stand; if not, it goes on until no other can become better. (fairseq stops at the first `beams` finished
            ones, however bad, which loses sentences that the network is sure of.)

    Raises:
        ConfigError: A value is out of range.
    """

    beams: int = 5
    length_penalty: float = 0.6
    early_stop: bool = True

    def __post_init__(self) -> None:
        if self.beams < 1:
            raise ConfigError(f"beams = {self.beams}; wants at least 1")
        if self.length_penalty < 0:
            raise ConfigError(f"length_penalty = {self.length_penalty}; wants at least 0")


@torch.no_grad()
def greedy(net: EncoderDecoder[S], source: Tensor, limits: Tensor) -> list[list[int]]:
    """Return the sentences of the most probable next tokens, without EOS.

    Args:
        net: The network.
        source: What it encodes, the batch first.
        limits: The most tokens of each sentence, EOS not counted, shape (N,), on the device of `source`.

    Raises:
        EvaluationError: The network gives logits that are not finite.
    """
    state = net.begin(source)
    going = torch.arange(len(source), device=source.device)
    tokens = torch.full((len(source), 1), EOS, device=source.device)
    decoded: list[list[int]] = [[] for _ in range(len(source))]
    for length in range(1, int(limits.max()) + 1):
        tokens = _without_specials(net.step(tokens, state)).argmax(2)
        for sentence, token in zip(going.tolist(), tokens[:, 0].tolist(), strict=True):
            if token != EOS:
                decoded[sentence].append(token)
        kept = (tokens[:, 0].ne(EOS) & (limits[going] > length)).nonzero()[:, 0]
        if not len(kept):
            break
        if len(kept) < len(tokens):
            going, tokens = going[kept], tokens[kept]
            state.select(kept, kept)
    return decoded


def beam_search(
    net: EncoderDecoder[S], source: Tensor, limits: Tensor, settings: BeamSettings | None = None
) -> list[list[Hypothesis]]:
    """Return the best hypotheses found for each sentence, at most `beams`, the best one first.

    Hypotheses that finish are taken out of the beam if they are among its `beams` best, as in fairseq; those that reach
    their limit are finished with the probability of EOS.

    Args:
        net: The network.
        source: What it encodes, the batch first.
        limits: The most tokens of each sentence, EOS not counted, shape (N,), on the device of `source`.
        settings: `BeamSettings()` by default.

    Raises:
        EvaluationError: The network gives logits that are not finite.
    """
    return _Beams(net, source, limits, settings or BeamSettings()).search()


class _Beams(Generic[S]):
    """The state of one beam search."""

    def __init__(self, net: EncoderDecoder[S], source: Tensor, limits: Tensor, settings: BeamSettings) -> None:
        self._net, self._settings = net, settings
        self._source, self._limits = source, limits
        self._found: list[list[Hypothesis]] = [[] for _ in range(len(source))]

    @torch.no_grad()
    def search(self) -> list[list[Hypothesis]]:
        """Run it; see `beam_search`."""
        device, n = self._source.device, len(self._source)
        self._state = self._net.begin(self._source)
        self._going = torch.arange(n, device=device)
        self._scores = torch.zeros(n, 1, device=device)
        self._tokens = torch.full((n, 1, 1), EOS, device=device)
        for length in range(1, int(self._limits.max()) + 2):
            scores, parents, tokens = self._candidates(length)
            self._finish(length, scores, parents, tokens)
            self._go_on(scores, parents, tokens)
            self._drop_done(length)
            if not len(self._going):
                break
        return self._found

    def _candidates(self, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores, parents and tokens of the best continuations, shape (n, c) each, the best ones first.

        There are twice as many as beams: at most half of them end the sentence, so that all beams can go on.
        """
        logits = _without_specials(self._net.step(self._tokens[:, :, -1], self._state))
        scores = logits.float().log_softmax(2)
        last = (self._limits[self._going] < length)[:, None, None]
        scores = scores.masked_fill(last & (torch.arange(scores.shape[2], device=scores.device) != EOS), -torch.inf)
        scores = scores + self._scores.unsqueeze(2)
        vocabulary = scores.shape[2]
        scores = scores.flatten(1)
        best, chosen = scores.topk(min(2 * self._settings.beams, scores.shape[1]), dim=1)
        return best, chosen.div(vocabulary, rounding_mode="floor"), chosen % vocabulary

    def _finish(self, length: int, scores: Tensor, parents: Tensor, tokens: Tensor) -> None:
        """Note the hypotheses that end now and are among the best."""
        beams, penalty = self._settings.beams, length**self._settings.length_penalty
        ended = (tokens.eq(EOS) & scores.isfinite())[:, :beams]
        for row, rank in ended.nonzero().tolist():
            text = self._tokens[row, int(parents[row, rank]), 1:].tolist()
            found = self._found[int(self._going[row])]
            found.append(Hypothesis(text, float(scores[row, rank]) / penalty))
            found.sort(key=lambda hypothesis: -hypothesis.score)
            del found[beams:]

    def _go_on(self, scores: Tensor, parents: Tensor, tokens: Tensor) -> None:
        """Take the best continuations that do not end."""
        rows = torch.arange(len(scores), device=scores.device).unsqueeze(1)
        open_scores = scores.masked_fill(tokens.eq(EOS), -torch.inf)
        count = min(self._settings.beams, scores.shape[1])
        before = self._tokens.shape[1]
        self._scores, chosen = open_scores.topk(count, dim=1)
        parents, tokens = parents[rows, chosen], tokens[rows, chosen]
        self._tokens = torch.cat((self._tokens[rows, parents], tokens.unsqueeze(2)), 2)
        self._state.select((rows * before + parents).flatten())

    def _drop_done(self, length: int) -> None:
        """Leave out the sentences that no better hypothesis can be found for."""
        going = [not self._is_done(row, length) for row in range(len(self._going))]
        if all(going):
            return
        kept = torch.tensor(going, device=self._going.device).nonzero()[:, 0]
        beams = self._tokens.shape[1]
        hypotheses = kept.unsqueeze(1) * beams + torch.arange(beams, device=kept.device)
        self._state.select(hypotheses.flatten(), kept)
        self._going, self._scores, self._tokens = self._going[kept], self._scores[kept], self._tokens[kept]

    def _is_done(self, row: int, length: int) -> bool:
        s, found = self._settings, self._found[int(self._going[row])]
        best = float(self._scores[row, 0])
        if best == -torch.inf:
            return True
        if len(found) < s.beams:
            return False
        # Log-probabilities fall from token to token; at best they stay, and the longest sentence divides by most.
        divisor = length if s.early_stop else int(self._limits[self._going[row]]) + 1
        return bool(best / divisor**s.length_penalty <= found[-1].score)


def _without_specials(logits: Tensor) -> Tensor:
    """Return logits under which padding and beginnings of sentences are never chosen."""
    if not torch.isfinite(logits).all():
        raise EvaluationError("the network gives logits that are not finite")
    logits = logits.clone()
    logits[..., [BOS, PAD]] = -torch.inf
    return logits


class FixedLengthDecoding(nn.Module, Generic[S]):
    """What HAT times as the latency of a sentence: the encoder once, then the decoder so many times with a cache.

    HAT runs the decoder on 5 hypotheses at once for `length` steps (30 for WMT, 23 for IWSLT), without search and
    without stopping; so does this module, with the most probable tokens. One teacher-forced pass of a `Translator` over
    `length` tokens, which is what `example_input` and the blocks of look-up tables are about, has the same MACs but for
    causal attention, yet computes all positions at once: it is several times faster, and favours deep decoders.

    Args:
        net: A network, such as `Translator`, in evaluation mode.
        length: Number of steps.
        beams: Hypotheses for each sentence; all the same.
    """

    def __init__(self, net: EncoderDecoder[S], length: int = 30, beams: int = 5) -> None:
        super().__init__()
        self.net, self.length, self.beams = net, length, beams  # a module registers as such

    def forward(self, source: Tensor) -> Tensor:
        """Map source tokens (N, S) to the last tokens, shape (N, beams)."""
        state = self.net.begin(source)
        tokens = torch.full_like(source[:, :1], EOS).expand(-1, self.beams)
        for _ in range(self.length):
            tokens = self.net.step(tokens, state).argmax(2)
        return tokens
