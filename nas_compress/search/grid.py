"""Grid search."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np

from nas_compress.search.generational import GenerationalSearch
from nas_compress.search.problem import SearchProblem
from nas_compress.search.trial import Trial
from nas_compress.space.search_space import IntMatrix

_BLOCK, _BLOCKS = 256, 64


class GridSearch(GenerationalSearch):
    """Asks for every architecture of the space, smallest values first, the last genes varying fastest.

    The whole of a space takes `space.size()` evaluations: restrict a large one first. Where limits on computed metrics
    leave nothing for some ten thousand architectures in a row, random ones that keep them come next. The arguments
    are those of `SearchStrategy`; the seed has no effect but on these.
    """

    def __init__(self, problem: SearchProblem, *, seed: int = 42, population: int = 50) -> None:
        super().__init__(problem, seed=seed, population=population)
        self._left = self.space.enumerate()

    def _generation(self, told: Sequence[Trial]) -> IntMatrix:
        for _ in range(_BLOCKS):
            block = list(islice(self._left, _BLOCK))
            if not block:
                break
            if len(rows := self._claim(np.array(block))):
                return rows
        return self._draw(self.population)
