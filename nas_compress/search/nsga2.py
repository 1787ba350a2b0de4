"""NSGA-II with every candidate measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas_compress.objectives.base import Objective
from nas_compress.search.base import Trial
from nas_compress.search.evolution import Evolution
from nas_compress.search.generational import GenerationalSearch
from nas_compress.space import Architecture, SearchSpace
from nas_compress.space.search_space import IntMatrix


class NSGA2(GenerationalSearch):
    """NSGA-II (Deb et al., 2002): a random population, then its offspring, generation after generation.

    Trials that failed never become parents. Whatever breeding leaves open, random architectures fill. The
    arguments are those of `SearchStrategy`.
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
        super().__init__(space, objectives, seed=seed, population=population, first=first)
        self._evolution = Evolution(space, len(self.objectives), population, self.rng, self._seen)

    def _generation(self, told: Sequence[Trial]) -> IntMatrix:
        self._evolution.select(self.space.encode([t.architecture for t in told]), self._costs(told))
        if len(self._seen) < self.population:
            return self._draw(self.population - len(self._seen))
        offspring = self._evolution.breed(self.population)
        return np.vstack([offspring, self._draw(self.population - len(offspring))])
