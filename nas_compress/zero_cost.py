"""First architectures that no measurement chose: the best of a random sample by a train-free score."""

from __future__ import annotations

import math
from dataclasses import replace

from nas_compress.errors import EvaluationError
from nas_compress.objectives import objectives
from nas_compress.objectives.de_score import UntrainedTerms, sample_within
from nas_compress.search import SearchProblem, Trial
from nas_compress.supernets.base import Supernet
from nas_compress.warm_start import best_of

SAMPLE, BEST = 50, 5
"""Architectures that are scored, and those of them that are measured first."""


def scored_first(problem: SearchProblem, supernet: Supernet) -> SearchProblem:
    """Return a problem in which the best of a sample are asked for first, after those that it names itself.

    The sample keeps the limits on computed metrics and depends on space and limits alone. The logarithm of synflow, at
    one random initialisation, stands in for the first objective of quality; of the others, those that can be computed
    count, and MACs stand in for a measured cost, as in `best_of`.

    Source: Abdelfattah et al., 2021, "Zero-Cost Proxies for Lightweight NAS", section 5 (zero-cost warm-up).

    Args:
        problem: Has an objective of quality.
        supernet: Its family and configuration count, its weights do not.

    Raises:
        ConfigError: The super-network has no configuration to build untrained networks from.
        InfeasibleError: Nothing that keeps the limits was found.
    """
    goal = next(o for o in problem.objectives if o.name in objectives and objectives.entry(o.name).info.get("quality"))
    sign = 1 if goal.direction == "maximize" else -1
    terms, trials = UntrainedTerms(supernet, ["saliency"], seeds=1), []
    for architecture in sample_within(problem, SAMPLE):
        try:
            (value,) = terms(architecture)["saliency"]
        except EvaluationError:
            continue
        if value > 0:
            trials.append(Trial(architecture, {goal.name: sign * math.log(value)}))
    return replace(problem, first=[*problem.first, *best_of(trials, problem, BEST)])
