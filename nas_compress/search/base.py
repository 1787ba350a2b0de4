"""The interface of a search: ask for architectures to evaluate, tell what they measured."""

from __future__ import annotations

import reprlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from nas_compress.errors import ConfigError
from nas_compress.search.problem import SearchProblem
from nas_compress.search.trial import Trial
from nas_compress.space import Architecture

__all__ = ["SearchProblem", "SearchStrategy", "Trial"]


class SearchStrategy(ABC):
    """Proposes architectures. Deterministic: the same seed and the same answers give the same questions.

    An interrupted search is resumed by asking again from the start and answering from the archive, so a
    strategy keeps no state on disk. It must not look at clocks, global generators or files, and what it asks
    must not depend on how many evaluations are left.

    Args:
        problem: What to search. Strategies use the metrics' names, directions and, for an `AnalyticObjective`,
            `compute`; they never call `measure`.
        seed: Seed of the strategy's own random generator.
        population: Number of architectures per generation, at least 1.
    """

    def __init__(self, problem: SearchProblem, *, seed: int = 42, population: int = 50) -> None:
        self.problem = problem
        self.space = problem.space
        self.population = population
        self.rng = np.random.default_rng(seed)

    @abstractmethod
    def ask(self, n: int) -> list[Architecture]:
        """Return at most `n` distinct, canonical architectures that were not asked for before.

        Every architecture asked for is told before the next call. The list holds the first `n` of the batch that
        the strategy would ask for anyway; it is empty only when there is nothing left to ask (the space is
        exhausted).
        """

    @abstractmethod
    def tell(self, trials: Sequence[Trial]) -> None:
        """Take the outcome of what was asked, in the same order, failed trials included."""

    def summary(self) -> dict[str, Any]:
        """Return what is worth knowing of the strategy's own work so far, as plain data; nothing by default."""
        return {}


def check_asked(strategy: SearchStrategy, asked: object, most: int) -> list[Architecture]:
    """Return what a strategy asked for.

    Raises:
        ConfigError: That is no list of architectures, or more of them than it was to ask for.
    """
    call = f"strategy: {type(strategy).__name__}.ask({most})"
    if not isinstance(asked, Sequence) or not all(isinstance(each, Architecture) for each in asked):
        raise ConfigError(f"{call} returned no list of architectures but {reprlib.repr(asked)}")
    if len(asked) > most:
        raise ConfigError(f"{call} returned {len(asked)} architectures; wants {most} at most")
    return list(asked)
