"""BLEU of translations, by sacrebleu."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self, cast

import torch
from torch import nn

from nas_compress.data.translation import TranslationData, TranslationSplit, check_fit, length_batches
from nas_compress.errors import ConfigError, EvaluationError, MissingExtraError
from nas_compress.objectives.base import Measurement, Objective
from nas_compress.objectives.modes import evaluating
from nas_compress.space import Architecture
from nas_compress.supernets.decoding import BeamSettings, beam_search, greedy
from nas_compress.supernets.translator import Translator

if TYPE_CHECKING:
    from nas_compress.agent import NAS

RESAMPLES = 1000
"""Bootstrap resamples behind the spread of BLEU."""


def bleu(hypotheses: Sequence[str], references: Sequence[str]) -> Measurement:
    """Return the corpus BLEU (0 to 100) of detokenised translations, with its standard error.

    The value is sacrebleu's in its default configuration (Post, 2018, "A Call for Clarity in Reporting BLEU Scores"),
    whose signature is in the provenance. The standard error is that of a normal distribution with the 95 % interval of
    sacrebleu's bootstrap over sentences (Koehn, 2004), with a fixed seed.

    Args:
        hypotheses: The translations.
        references: A right translation for each of them.

    Raises:
        EvaluationError: There are none, or another number of references.
        MissingExtraError: `sacrebleu` is not installed.
    """
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError:
        raise MissingExtraError("sacrebleu", "translation") from None
    if not hypotheses or len(hypotheses) != len(references):
        raise EvaluationError(
            f"BLEU wants as many references as translations, got {len(references)}, {len(hypotheses)}"
        )
    metric = BLEU()
    score = metric.corpus_score(list(hypotheses), [list(references)], n_bootstrap=RESAMPLES)
    signature = metric.get_signature().format()
    half_width = json.loads(score.format(width=6, signature=signature, is_json=True)).get("confidence_var", 0.0)
    return Measurement(float(score.score), half_width / 1.96, {"sentences": len(hypotheses), "signature": signature})


def translate(
    net: Translator,
    split: TranslationSplit,
    data: TranslationData,
    settings: BeamSettings | None = None,
    *,
    tokens: int = 2000,
    limit: int | None = None,
) -> list[str]:
    """Return the translations of the sentences of a part, in its order.

    A translation has at most twice as many tokens as the source, and ten more, as far as the network has positions.

    Args:
        net: The network, which is evaluated in evaluation mode.
        split: The part.
        data: Has the vocabulary.
        settings: Of beam search; `BeamSettings()` by default. With one beam, decoding is greedy, which is faster.
        tokens: The most tokens of a batch; it does not change the result.
        limit: Translate the first so many sentences alone.

    Raises:
        DataError: The network has other numbers of tokens than the data.
        EvaluationError: A sentence is longer than the network has positions, or its logits are not finite.
    """
    check_fit(data, net.table(0).num_embeddings, net.table(2).num_embeddings)
    settings = settings or BeamSettings()
    count = len(split) if limit is None else min(limit, len(split))
    longest = max(len(row) for row in split.sources[:count])
    if longest > net.source.longest:
        raise EvaluationError(f"a sentence has {longest} tokens, the network takes {net.source.longest} at most")
    translated: dict[int, list[int]] = {}
    with torch.no_grad(), evaluating(net):
        for indices in length_batches(split, tokens, limit=limit):
            source = split.batch(indices).source
            lengths = torch.tensor([len(split.sources[i]) for i in indices.tolist()])
            limits = (2 * lengths + 10).clamp(max=net.target.longest - 1)
            if settings.beams == 1:
                decoded = greedy(net, source, limits)
            else:
                decoded = [found[0].tokens for found in beam_search(net, source, limits, settings)]
            translated.update(zip(indices.tolist(), decoded, strict=True))
    return data.target_vocabulary.decode([translated[i] for i in range(count)])


class Bleu(Objective):
    """Corpus BLEU on one part of the data; the spread is the standard error.

    Args:
        data: Where the sentences come from.
        split: `"val"` in a search; `"test"` is for the final figures alone.
        settings: Of beam search; greedy decoding by default.
        fraction: Share of the split to use, in (0, 1]: its first sentences, the same ones for every architecture.

    Raises:
        ConfigError: `fraction` out of range.
        DataError: The data has no such split.
        MissingExtraError: `sacrebleu` is not installed.
    """

    name = "bleu"
    direction = "maximize"
    unit = ""
    column = "BLEU"
    best = 100.0

    def __init__(
        self,
        data: TranslationData,
        *,
        split: str = "val",
        settings: BeamSettings | None = None,
        fraction: float = 1.0,
    ) -> None:
        if not 0 < fraction <= 1:
            raise ConfigError(f"bleu: fraction = {fraction!r} is out of range; allowed: more than 0, at most 1")
        bleu(["checked before any work"], ["checked before any work"])
        self._data = data
        self._split_name = split
        self._split = data.split(split)
        self._settings = settings or BeamSettings(beams=1)
        self._sentences = math.ceil(fraction * len(self._split))

    @classmethod
    def from_agent(cls, agent: NAS) -> Self:
        """Return the BLEU on an agent's search-validation sentences; see `Objective.from_agent`."""
        return cls(cast(Any, agent.data), fraction=agent.config.section.test_fraction)

    def measure(self, subnet: nn.Module, architecture: Architecture) -> Measurement:
        """Translate and compare; see `Objective.measure`."""
        texts = translate(cast(Translator, subnet), self._split, self._data, self._settings, limit=self._sentences)
        return bleu(texts, self._split.references[: self._sentences])

    def context(self) -> dict[str, Any]:
        """Return data, split, number of sentences and how they are decoded; see `Objective.context`."""
        return {
            "dataset": self._data.name,
            "data": self._data.fingerprint,
            "split": self._split_name,
            "sentences": self._sentences,
            "decoding": asdict(self._settings),
            "precision": "fp32",
        }
