"""DE-Score as an objective: what an untrained sub-network is worth, against a sample of its space."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from nas_compress.errors import ConfigError, EvaluationError
from nas_compress.latency.objective import PredictedLatency
from nas_compress.objectives.base import AnalyticObjective, Measurement, Objective
from nas_compress.objectives.config import ScoreOptions
from nas_compress.proxies.de_score import (
    DEFAULT_WEIGHTS,
    ORIGINAL_WEIGHTED,
    PUBLISHED_TERMS,
    Scale,
    check_terms,
    de_score,
    de_score_original,
    network_terms,
    oriented,
    stacked,
)
from nas_compress.records import context_hash
from nas_compress.search.problem import SearchProblem
from nas_compress.search.random import RandomSearch
from nas_compress.space import Architecture
from nas_compress.supernets.base import Supernet

if TYPE_CHECKING:
    from torch import nn

    from nas_compress.agent import NAS

CONVOLUTIONAL = ("conv_chain", "mobilenet", "resnet")
"""Families whose score is that of convolutional networks; all others have attention."""

SMALLER: Mapping[str, Mapping[str, int]] = {
    "conv_chain": {"resolution": 16},
    "vit": {"patches": 4},
    "bert": {"length": 32, "vocabulary": 1000},
    "asr": {"frames": 100, "tokens": 8, "vocabulary": 200},
}
"""Sizes of inputs, by family, at which scores rank architectures as at full size, in a fraction of the time."""

ORIGINAL_WEIGHTS: Mapping[str, Mapping[str, float]] = {"bert": {"diversity": 1e-5}}
"""Weights of the original program's formula by family, where they are not 1."""

_LEAST = 4

Sample = Callable[[], Sequence[Architecture]]


def small_twin(supernet: Supernet, seed: int) -> Supernet:
    """Return an untrained super-network of the same space, on smaller inputs where its family can have them."""
    config: Any = supernet.config
    sizes = dict(SMALLER.get(str(supernet.describe().get("family")), {}))
    if patches := sizes.pop("patches", None):
        sizes["image_size"] = patches * config.patch_size
    smaller = {name: size for name, size in sizes.items() if size < getattr(config, name)}
    make = cast("Callable[..., Supernet]", type(supernet))
    return make(supernet.name, replace(config, **smaller), seed).eval()


class UntrainedTerms:
    """The terms of DE-Score of a super-network's architectures, at random weights of fixed seeds.

    Weights are the family's own initialisation; a checkpoint has no part in it. Nothing is built before it is needed.

    Args:
        supernet: Its family and configuration count.
        names: Which terms; those of weight 0 are not computed.
        seeds: How many random initialisations, from seed 0 on.
        batch: Inputs that terms are computed on: noise, or random tokens.
        latency: Predicts the latency, if that is a term.
        original: Whether terms are computed as in the original program.

    Raises:
        ConfigError: An unknown term, or latency without a prediction of it; the super-network has no configuration.
    """

    def __init__(
        self,
        supernet: Supernet,
        names: Sequence[str],
        *,
        seeds: int = 2,
        batch: int = 8,
        latency: PredictedLatency | None = None,
        original: bool = False,
    ) -> None:
        check_terms(names)
        if "latency" in names and latency is None:
            raise ConfigError("latency_weight: wants a latency table (latency.lut); without one, optimise latency too")
        if getattr(supernet, "config", None) is None:
            raise ConfigError(f"de_score: {type(supernet).__name__} has no `config` to build untrained networks from")
        self._supernet, self._names, self._latency = supernet, tuple(names), latency
        self._seeds, self._batch, self._original = seeds, batch, original

    @cached_property
    def _twins(self) -> list[Supernet]:
        return [small_twin(self._supernet, seed) for seed in range(self._seeds)]

    def __call__(self, architecture: Architecture) -> dict[str, list[float]]:
        """Return the terms of an architecture, one value per seed each; the latency in ms.

        Raises:
            EvaluationError: A term has no value.
        """
        wanted = [name for name in self._names if name not in ("macs", "latency")]
        found = [self._of_seed(seed, architecture, wanted) for seed in range(self._seeds)] if wanted else []
        terms = {name: [each[name] for each in found] for name in wanted}
        if "macs" in self._names:
            terms["macs"] = [float(self._supernet.macs(architecture))] * self._seeds
        if self._latency is not None and "latency" in self._names:
            terms["latency"] = [float(self._latency.compute([architecture])[0])] * self._seeds
        return terms

    def _of_seed(self, seed: int, architecture: Architecture, names: Sequence[str]) -> dict[str, float]:
        twin = self._twins[seed]
        network, inputs = twin.extract(architecture), twin.example_input(self._batch, architecture)
        return network_terms(network, inputs, names, seed, original=self._original)

    def describe(self) -> dict[str, Any]:
        """Return what the terms depend on besides the architecture, as plain data."""
        own: dict[str, Any] = {"supernet": self._supernet.describe(), "terms": list(self._names)}
        own |= {"seeds": self._seeds, "batch": self._batch, "inputs": dict(SMALLER.get(own["supernet"]["family"], {}))}
        return own | ({"latency": self._latency.context()} if self._latency is not None else {})


class DEScore(Objective):
    """DE-Score of an untrained sub-network; the spread is the standard error over its seeds.

    Terms are normalised by a sample of random architectures of the space that keep the limits on computed metrics.
    The sample follows from space, limits and size alone, so that the score of an architecture is a fixed number, the
    same in every search and after every interruption. It is scored when the first value is asked for.

    Args:
        terms: Computes the terms.
        weights: Weights by term, from 0.
        sample: Returns the random architectures.
        conditions: What the sample depends on, as plain data.
    """

    name = "de_score"
    direction = "maximize"
    unit = ""
    column = "DE-Score"
    best = 10.0
    depends_on_weights = False
    uses_subnet = False

    def __init__(
        self, terms: UntrainedTerms, weights: Mapping[str, float], sample: Sample, conditions: Mapping[str, Any]
    ) -> None:
        self._terms, self._weights, self._sample = terms, dict(weights), sample
        self._conditions = dict(conditions)

    @classmethod
    def from_agent(cls, agent: NAS) -> Self:
        """Return the score with the options of an agent's section; see `Objective.from_agent`."""
        section = agent.config.section
        options = section if isinstance(section, ScoreOptions) else ScoreOptions()
        weights, count = _weights(agent.supernet, options), options.score_reference
        limits = [f"{name} {text}" for name, text in section.limits]
        conditions = {"space": context_hash(agent.space.describe()), "limits": limits, "sample": count}
        terms = untrained_terms(agent, options, list(weights))
        return cls(terms, weights, lambda: sample_within(agent.problem(), count), conditions)

    @cached_property
    def scale(self) -> Scale:
        """The unit of each term.

        Raises:
            ConfigError: Fewer than four architectures of the sample have a score, or not all of fewer.
        """
        found, why = [], ""
        sample = self._sample()
        for architecture in sample:
            try:
                found.append(self._whole(architecture))
            except EvaluationError as error:
                why = f"; the last one that has none: {error}"
        least = max(1, min(_LEAST, len(sample)))  # a space may have fewer than four
        if len(found) < least:
            raise ConfigError(f"de_score: {len(found)} random architectures have a score, wants {least}{why}")
        return Scale.of(stacked(found))

    def measure(self, subnet: nn.Module | None, architecture: Architecture) -> Measurement:
        """Return the score; the sub-network is not looked at.

        Raises:
            EvaluationError: A term has no value; searches record that, never choose such a network, and go on.
            ConfigError: See `scale`.
        """
        terms = self._whole(architecture)
        scores = de_score(stacked([terms]), self._weights, self.scale)[0]
        spread = float(np.std(scores, ddof=1) / np.sqrt(len(scores))) if len(scores) > 1 else None
        return Measurement(float(scores.mean()), spread, {"terms": terms})

    def _whole(self, architecture: Architecture) -> dict[str, list[float]]:
        """Return the terms, or raise `EvaluationError` if one has no value on the scale on which they are added up."""
        terms = self._terms(architecture)
        for name in self._weights:
            if not np.isfinite(oriented(name, np.array(terms[name]))).all():
                raise EvaluationError(f"{name} is {min(terms[name]):.3g}: the network has no score")
        return terms

    def context(self) -> dict[str, Any]:
        """Return terms, weights, seeds, inputs and what the sample depends on; see `Objective.context`."""
        return {**self._terms.describe(), "weights": self._weights, "reference": self._conditions}


class DEScoreOriginal(Objective):
    """The score by the formula of DE-NAS's original program: for comparison.

    Args:
        terms: Computes the terms, `original`.
        kind: See `de_score_original`.
        weights: See `de_score_original`.
    """

    name = "de_score_original"
    direction = "maximize"
    unit = ""
    column = "DE-Score (original)"
    depends_on_weights = False
    uses_subnet = False

    def __init__(self, terms: UntrainedTerms, kind: str, weights: Mapping[str, float]) -> None:
        self._terms, self._kind, self._weights = terms, kind, dict(weights)

    @classmethod
    def from_agent(cls, agent: NAS) -> Self:
        """Return the score of an agent's super-network, with the weights that are set; see `Objective.from_agent`."""
        section, kind = agent.config.section, kind_of(agent.supernet)
        options = section if isinstance(section, ScoreOptions) else ScoreOptions()
        given = {name: weight for name, weight in options.weights().items() if name in ORIGINAL_WEIGHTED[kind]}
        weights = {**ORIGINAL_WEIGHTS.get(str(agent.supernet.describe().get("family")), {}), **given}
        latency = ["latency"] if weights.get("latency") else []
        terms = untrained_terms(agent, options, [*PUBLISHED_TERMS[kind], *latency], original=True)
        return cls(terms, kind, weights)

    def measure(self, subnet: nn.Module | None, architecture: Architecture) -> Measurement:
        """Return the score at one initialisation; the sub-network is not looked at."""
        terms = self._terms(architecture)
        value = float(de_score_original(stacked([terms]), self._kind, self._weights)[0])
        return Measurement(value, None, {"terms": terms})

    def context(self) -> dict[str, Any]:
        """Return terms and weights; see `Objective.context`."""
        return {**self._terms.describe(), "weights": self._weights}


def kind_of(supernet: Supernet) -> str:
    """Return `"cnn"` or `"transformer"`: which default weights a super-network has."""
    return "cnn" if supernet.describe().get("family") in CONVOLUTIONAL else "transformer"


def untrained_terms(
    agent: NAS, options: ScoreOptions, names: Sequence[str], *, original: bool = False
) -> UntrainedTerms:
    """Return the terms of an agent's super-network; those of the original program at one initialisation, as there.

    Raises:
        ConfigError: Latency is a term, and the section names no latency table.
    """
    latency = None
    if "latency" in names and agent.config.section.latency.lut is not None:
        from nas_compress.objectives.latency import Latency

        latency = cast(PredictedLatency, Latency.from_agent(agent))
    seeds, batch = 1 if original else options.score_seeds, options.score_batch
    return UntrainedTerms(agent.supernet, names, seeds=seeds, batch=batch, latency=latency, original=original)


def sample_within(problem: SearchProblem, count: int) -> list[Architecture]:
    """Return random architectures that keep a problem's limits on computed metrics, always the same.

    Raises:
        InfeasibleError: Nothing that keeps them was found.
    """
    computed = {o.name for o in problem.metrics if isinstance(o, AnalyticObjective)}
    limits = [c for c in problem.constraints if c.name in computed]
    part = replace(problem, constraints=limits, first=(), prior=())
    return RandomSearch(part, seed=0, population=count).ask(count)


def _weights(supernet: Supernet, options: ScoreOptions) -> dict[str, float]:
    """Return the weights over 0."""
    weights = options.weights_over(DEFAULT_WEIGHTS[kind_of(supernet)])
    return {name: weight for name, weight in weights.items() if weight > 0}
