"""BLEU of translations, by sacrebleu."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, cast

import torch
from torch import nn

from nas_compress.data.translation import TranslationData, TranslationSplit, check_fit, length_batches
from nas_compress.errors import EvaluationError, MissingExtraError
from nas_compress.objectives.base import Measurement
from nas_compress.objectives.modes import evaluating
from nas_compress.objectives.on_data import DataObjective
from nas_compress.space import Architecture
from nas_compress.supernets.decoding import BeamSettings, beam_search, greedy
from nas_compress.supernets.translator import Translator

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


class Bleu(DataObjective[TranslationData]):
    """Corpus BLEU on one part of the data; the spread is the standard error.

    Args:
        data: Where the sentences come from.
        settings: Of beam search; greedy decoding by default.
        options: `split` and `fraction`; see `DataObjective`.

    Raises:
        MissingExtraError: `sacrebleu` is not installed.
    """

    name = "bleu"
    direction = "maximize"
    unit = ""
    column = "BLEU"
    best = 100.0
    task = "translation"
    counted = "sentences"

    def __init__(self, data: TranslationData, *, settings: BeamSettings | None = None, **options: Any) -> None:
        super().__init__(data, **options)
        bleu(["checked before any work"], ["checked before any work"])
        self._settings = settings or BeamSettings(beams=1)

    def measure(self, subnet: nn.Module, architecture: Architecture) -> Measurement:
        """Translate and compare; see `Objective.measure`."""
        texts = translate(cast(Translator, subnet), self._split, self._data, self._settings, limit=self._count)
        return bleu(texts, self._split.references[: self._count])

    def context(self) -> dict[str, Any]:
        """Return data, split, number of sentences and how they are decoded; see `Objective.context`."""
        return super().context() | {"decoding": asdict(self._settings)}
