"""What generational strategies share: a queue of proposals, and a memory of what was proposed."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Sequence

import numpy as np

from nas_compress.objectives.base import Objective
from nas_compress.search import pareto
from nas_compress.search.base import SearchStrategy, Trial
from nas_compress.space import Architecture, SearchSpace
from nas_compress.space.search_space import FloatMatrix, IntMatrix

_MOST_DRAWS = 2**16


class GenerationalSearch(SearchStrategy):
    """Proposes generation after generation and hands each out in pieces of any size.

    However `ask` cuts it up, the sequence of architectures is the same: the next generation is made when the
    last one is used up, from everything told by then. The arguments are those of `SearchStrategy`.
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
        self._size = space.size()
        self._seen: set[bytes] = set()
        self._told: list[Trial] = []
        self._queue = deque(space.decode(self._claim(space.encode(self.first))))

    @abstractmethod
    def _generation(self, told: Sequence[Trial]) -> IntMatrix:
        """Return the next generation, claimed and encoded, shape (n, genes); no rows once the space is exhausted.

        Args:
            told: The trials that succeeded since the last generation was made.
        """

    def ask(self, n: int) -> list[Architecture]:
        """See `SearchStrategy.ask`."""
        if not self._queue:
            told, self._told = self._told, []
            self._queue.extend(self.space.decode(self._generation(told)))
        return [self._queue.popleft() for _ in range(min(n, len(self._queue)))]

    def tell(self, trials: Sequence[Trial]) -> None:
        """See `SearchStrategy.tell`."""
        self._told.extend(trial for trial in trials if trial.ok)

    def _costs(self, trials: Sequence[Trial]) -> FloatMatrix:
        """Return the values to minimise of successful trials, shape (n, objectives)."""
        values = np.array([[t.values[o.name] for o in self.objectives] for t in trials], dtype=np.float64)
        return pareto.costs(values.reshape(-1, len(self.objectives)), [o.direction for o in self.objectives])

    def _claim(self, rows: IntMatrix, most: int | None = None) -> IntMatrix:
        """Return the rows that were never claimed before, `most` at most, in canonical form, and remember them."""
        fresh: list[IntMatrix] = []
        for row in canonical(self.space, rows):
            if len(fresh) == most:
                break
            if (key := row.tobytes()) not in self._seen:
                self._seen.add(key)
                fresh.append(row)
        return np.array(fresh, dtype=np.int64).reshape(-1, rows.shape[1])

    def _draw(self, n: int) -> IntMatrix:
        """Claim `n` random architectures, or all that are left: the exact size of the space says how many.

        Genes are drawn uniformly; the number of draws doubles until enough are new, so that the last few of a
        small space are found too.
        """
        genes = len(self.space.cardinalities)
        wanted, draws = min(n, self._size - len(self._seen)), n
        rows = np.empty((0, genes), dtype=np.int64)
        while len(rows) < wanted:
            drawn = self.rng.integers(0, self.space.cardinalities, size=(draws, genes))
            rows = np.vstack([rows, self._claim(drawn, wanted - len(rows))])
            draws = min(2 * draws, _MOST_DRAWS)
        return rows


def canonical(space: SearchSpace, rows: IntMatrix) -> IntMatrix:
    """Return encoded architectures, shape (n, genes), with index 0 in every inactive gene."""
    return rows * space.active(rows)
