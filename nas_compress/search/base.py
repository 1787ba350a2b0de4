"""The interface of a search: ask for architectures to evaluate, tell what they measured."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nas_compress.objectives.base import Objective
from nas_compress.space import Architecture, SearchSpace


@dataclass(frozen=True)
class Trial:
    """One evaluated architecture.

    Attributes:
        architecture: In canonical form.
        values: The value of every objective in natural units; empty if the evaluation failed.
        error: Why it failed, else None.
        spreads: The uncertainty of values in the same units, for the objectives that have one.
    """

    architecture: Architecture
    values: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    spreads: Mapping[str, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every objective has a value."""
        return self.error is None


class SearchStrategy(ABC):
    """Proposes architectures. Deterministic: the same seed and the same answers give the same questions.

    An interrupted search is resumed by asking again from the start and answering from the archive, so a
    strategy keeps no state on disk. It must not look at clocks, global generators or files, and what it asks
    must not depend on how many evaluations are left.

    Args:
        space: Where to search.
        objectives: What to optimise, in order. Strategies use their names, directions and, for an
            `AnalyticObjective`, `compute`; they never call `measure`.
        seed: Seed of the strategy's own random generator.
        population: Number of architectures per generation, at least 1.
        first: Architectures to ask for before any others (a warm start).
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        *,
        seed: int = 42,
        population: int = 50,
        first: Sequence[Architecture] = (),
    ) -> None:
        self.space = space
        self.objectives = tuple(objectives)
        self.population = population
        self.first = tuple(dict.fromkeys(space.canonicalize(a) for a in first))
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
