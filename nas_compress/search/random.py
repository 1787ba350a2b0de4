"""Random search."""

from __future__ import annotations

from collections.abc import Sequence

from nas_compress.search.generational import GenerationalSearch
from nas_compress.search.trial import Trial
from nas_compress.space.search_space import IntMatrix


class RandomSearch(GenerationalSearch):
    """Asks for architectures with every gene drawn uniformly, each once: the baseline of every comparison."""

    def _generation(self, told: Sequence[Trial]) -> IntMatrix:
        return self._draw(self.population)
