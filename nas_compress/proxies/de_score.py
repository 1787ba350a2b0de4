"""DE-Score: what an untrained network promises (expressivity, complexity, diversity, saliency), its size and latency.

Sources: the DE-NAS article (Intel, 2023), section "Train-Free Score", for the terms; the published configuration of
DE-NAS for which of them a task uses. The article adds terms up as they are, so that the one with the largest numbers
decides alone; here every term is a logarithm, in units of its spread over a population. Entropy and the number of MACs
are terms of our own, without which the score ranks networks of published tables no better than their size does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nas_compress.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from nas_compress.supernets.base import Inputs

FloatVector = NDArray[np.float64]
Terms = Mapping[str, FloatVector]
"""Values of each term, of shape (n,), or (n, seeds) where they are to be averaged."""

SIGNS: Mapping[str, int] = {
    "expressivity": 1,
    "complexity": -1,
    "diversity": 1,
    "saliency": 1,
    "entropy": 1,
    "macs": 1,
    "latency": -1,
}
"""The terms, and whether more of one is better: a large condition number and a long latency are not."""

LOGARITHMS = ("expressivity", "entropy")
"""The terms that are logarithms already."""

PUBLISHED_TERMS: Mapping[str, Sequence[str]] = {
    "cnn": ("expressivity", "complexity", "saliency"),
    "transformer": ("diversity", "saliency"),
}
"""The terms of DE-NAS's published configurations, by the kind of network."""

ORIGINAL_WEIGHTED: Mapping[str, Sequence[str]] = {"cnn": (), "transformer": ("diversity", "saliency", "latency")}
"""The terms that have a weight in the original formula, by the kind of network."""

DEFAULT_WEIGHTS: Mapping[str, Mapping[str, float]] = {
    "cnn": {"expressivity": 1.0, "complexity": 5.0, "saliency": 1.0, "macs": 3.0},
    "transformer": {"diversity": 1.0, "saliency": 2.0, "entropy": 6.0, "macs": 1.0},
}
"""Weights by the kind of network, fitted by `benchmarks/zero_cost --fit-weights` on one table each: those of
convolutional networks on 1,000 networks of NAS-Bench-Macro, those of transformers on 250 small BERTs."""

_MAD = 1.4826
"""The standard deviation of a normal distribution over its median absolute deviation."""


def network_terms(
    module: nn.Module, inputs: Inputs, names: Collection[str], seed: int = 0, *, original: bool = False
) -> dict[str, float]:
    """Return terms of a network as it is initialised, MACs and latency apart.

    Expressivity is the Zen-Score; complexity is the condition number of the neural tangent
    kernel; diversity the sum over attention's weights of their norm times that of their gradient, Frobenius norms for
    nuclear ones, as in the original program: they rank alike in a tenth of the time; saliency is synflow; entropy is
    `nas_compress.proxies.entropy`. The original
    program leaves batch norms out of the Zen-Score (its Gaussian complexity) and in synflow, and lets samples act on
    each other in the kernel.

    Args:
        module: The network; it is left as it was found.
        inputs: Inputs, the batch first, at least two.
        names: Which terms; what is not asked for is not computed.
        seed: Seed of what the terms draw.
        original: Whether to compute terms as the original program does.

    Raises:
        EvaluationError: A term is not finite, or the network has nothing that it is about.
        ConfigError: An unknown term.
    """
    from nas_compress.proxies.entropy import entropy
    from nas_compress.proxies.ntk import ntk_condition_number
    from nas_compress.proxies.nuclear_norm import nuclear_norm_diversity
    from nas_compress.proxies.synflow import synflow
    from nas_compress.proxies.zen import gaussian_complexity, zen_score

    expressivity = gaussian_complexity if original else zen_score
    functions: Mapping[str, Callable[[], float]] = {
        "expressivity": lambda: expressivity(module, inputs, seed=seed),
        "complexity": lambda: ntk_condition_number(module, inputs, coupled=original),
        "diversity": lambda: nuclear_norm_diversity(module, inputs, norm="frobenius"),
        "saliency": lambda: synflow(module, inputs, normalisation=original),
        "entropy": lambda: entropy(module),
    }
    check_terms(names, functions)
    return {name: functions[name]() for name in names}


def check_terms(names: Collection[str], known: Collection[str] = tuple(SIGNS)) -> None:
    """Raise `ConfigError` for an unknown term, or if there is none."""
    if not names:
        raise ConfigError(f"DE-Score wants at least one term with a weight over 0; terms: {', '.join(known)}")
    for name in names:
        if name not in known:
            raise ConfigError(f"DE-Score has no term {name!r}; terms: {', '.join(known)}")


def oriented(name: str, values: FloatVector) -> FloatVector:
    """Return values of a term on the scale on which they are added up: logarithms, more is better.

    What is missing (not finite) or has no logarithm is the worst, -inf: no output of such a network depends on its
    weights, or it has nothing that the term is about (diversity without attention).
    """
    values = np.asarray(values, dtype=np.float64)
    known = np.isfinite(values)
    if name not in LOGARITHMS:
        known &= values > 0
        values = np.log(values, where=known, out=np.zeros_like(values))
    return np.where(known, SIGNS[name] * values, -np.inf)


@dataclass(frozen=True)
class Scale:
    """What a term is measured from, and its unit: median and spread over a population.

    Attributes:
        center: The medians, by term, of oriented values.
        spread: The spreads; 0 for a term that is the same everywhere, which then does not count.
    """

    center: Mapping[str, float]
    spread: Mapping[str, float]

    @classmethod
    def of(cls, terms: Terms) -> Scale:
        """Return the scale of a population's terms, shape (n,) each, or (n, seeds).

        The spread is 1.4826 times the median absolute deviation, or the standard deviation where that is 0. Networks
        without a term do not count for it; a term that no network has is all 0.
        """
        means = {name: averaged(oriented(name, value)) for name, value in terms.items()}
        values = {
            name: mean[np.isfinite(mean)] if np.isfinite(mean).any() else np.zeros(1) for name, mean in means.items()
        }
        center = {name: float(np.median(value)) for name, value in values.items()}
        deviations = {name: np.abs(value - center[name]) for name, value in values.items()}
        spread = {name: _MAD * float(np.median(d)) or float(np.std(values[name])) for name, d in deviations.items()}
        return cls(center, spread)

    def normalised(self, name: str, values: FloatVector) -> FloatVector:
        """Return values of a term in units of its spread, of the same shape: 0 for the median, -inf for the worst."""
        spread, found = self.spread[name], oriented(name, values)
        if spread:
            return (found - self.center[name]) / spread
        return np.where(np.isfinite(found), 0.0, found)


def averaged(values: FloatVector) -> FloatVector:
    """Return the means over seeds, shape (n,), of values of shape (n,) or (n, seeds)."""
    means: FloatVector = values if values.ndim == 1 else values.mean(axis=1)
    return means


def de_score(terms: Terms, weights: Mapping[str, float], scale: Scale | None = None) -> FloatVector:
    """Return the scores of networks, shape (n,), or (n, seeds) if the terms are: higher is better.

    The score is the weighted mean of the normalised terms; -inf for a network without one of them, see `oriented`.

    Args:
        terms: Every term that has a weight over 0; others are not looked at.
        weights: Weights by term, from 0.
        scale: The unit of each term; that of these very networks by default.

    Raises:
        ConfigError: No term has a weight, or one that has is not given.
    """
    used = {name: weight for name, weight in weights.items() if weight > 0}
    check_terms(used)
    if missing := [name for name in used if name not in terms]:
        raise ConfigError(f"DE-Score lacks values of {', '.join(missing)}; given: {', '.join(terms)}")
    scale = scale or Scale.of({name: terms[name] for name in used})
    parts = [weight * scale.normalised(name, terms[name]) for name, weight in used.items()]
    scores: FloatVector = np.sum(parts, axis=0) / sum(used.values())
    return scores


def de_score_original(terms: Terms, kind: str, weights: Mapping[str, float] | None = None) -> FloatVector:
    """Return the scores by the formula of the original program, shape (n,), -inf where it has no value: for comparison.

    Convolutional networks: expressivity / saliency - complexity. Others: (diversity + saliency) / (1 + w latency), with
    the latency in seconds, each of the two times its weight. Nothing is normalised: the condition number decides alone
    among convolutional networks, and two seeds hardly agree.

    Args:
        terms: Terms as they are; `latency` in ms, where it has a weight.
        kind: `"cnn"` or `"transformer"`.
        weights: Weights of diversity, saliency (1 by default) and latency (0 by default).
    """
    given = {"diversity": 1.0, "saliency": 1.0, "latency": 0.0, **(weights or {})}
    raw = {name: averaged(np.asarray(value, dtype=np.float64)) for name, value in terms.items()}
    if kind == "cnn":
        with np.errstate(divide="ignore", invalid="ignore"):
            score = raw["expressivity"] / raw["saliency"] - raw["complexity"]
    else:
        score = given["diversity"] * raw["diversity"] + given["saliency"] * raw["saliency"]
        score = score / (1 + given["latency"] * raw["latency"] / 1e3) if given["latency"] else score
    return np.where(np.isfinite(score), score, -np.inf)


def stacked(terms: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, FloatVector]:
    """Return the terms of networks, each with its values by seed, as arrays of shape (n, seeds)."""
    return {name: np.array([each[name] for each in terms], dtype=np.float64) for name in terms[0]} if terms else {}
