"""What generational strategies share: a queue of proposals, and a memory of what was proposed."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Sequence

import numpy as np

from nas_compress.errors import ConfigError
from nas_compress.search.base import SearchStrategy
from nas_compress.search.feasible import Feasible
from nas_compress.search.problem import Limits, SearchProblem
from nas_compress.search.trial import Trial
from nas_compress.space import Architecture
from nas_compress.space.search_space import IntMatrix

_MOST_DRAWS = 2**16


def check_counts(**counts: int) -> None:
    """Raise `ConfigError` for the first argument that is below 1."""
    for name, count in counts.items():
        if count < 1:
            raise ConfigError(f"{name}: {count} is not at least 1")


class GenerationalSearch(SearchStrategy):
    """Proposes generation after generation and hands each out in pieces of any size.

    However `ask` cuts it up, the sequence of architectures is the same: the next generation is made when the
    last one is used up, from everything told by then. Architectures that break a limit on a computed metric are
    never asked for, the problem's `first` and, where limits refer to it, the largest apart. The arguments are those
    of `SearchStrategy`.

    Raises:
        ConfigError: The population is below 1.
        InfeasibleError: Nothing that meets the limits on computed metrics was found.
    """

    def __init__(self, problem: SearchProblem, *, seed: int = 42, population: int = 50) -> None:
        check_counts(population=population)
        super().__init__(problem, seed=seed, population=population)
        self.limits = Limits(problem)
        self._feasible = Feasible(self.space, self.limits, self.rng) if self.limits.analytic else None
        self._size = self.space.size()
        self._seen: set[bytes] = set()
        self._told: list[Trial] = []
        first = [*problem.first, *([self.space.largest()] if self.limits.waits_for_largest else [])]
        self._queue = deque(self.space.decode(self._take(self.space.encode(first))))

    @abstractmethod
    def _generation(self, told: Sequence[Trial]) -> IntMatrix:
        """Return the next generation, claimed and encoded, shape (n, genes); no rows once the space is exhausted.

        Args:
            told: The trials since the last generation was made, failed ones included.
        """

    def ask(self, n: int) -> list[Architecture]:
        """See `SearchStrategy.ask`."""
        if not self._queue:
            told, self._told = self._told, []
            self._queue.extend(self.space.decode(self._generation(told)))
        return [self._queue.popleft() for _ in range(min(n, len(self._queue)))]

    def tell(self, trials: Sequence[Trial]) -> None:
        """See `SearchStrategy.tell`."""
        self.limits.learn(trials)
        self._told.extend(trials)

    def _claim(self, rows: IntMatrix, most: int | None = None) -> IntMatrix:
        """Return the rows that may be asked for, `most` at most, in canonical form, and remember them.

        Those are the ones that were never claimed before and that break no limit on a computed metric.
        """
        rows = self.space.canonical(rows)
        return self._take(rows if self._feasible is None else rows[self._feasible.mask(rows)], most)

    def _take(self, rows: IntMatrix, most: int | None = None) -> IntMatrix:
        fresh: list[IntMatrix] = []
        for row in rows:
            if len(fresh) == most:
                break
            if (key := row.tobytes()) not in self._seen:
                self._seen.add(key)
                fresh.append(row)
        return np.array(fresh, dtype=np.int64).reshape(-1, rows.shape[1])

    def _draw(self, n: int) -> IntMatrix:
        """Claim `n` random architectures, or all that are left: the exact size of the space says how many.

        Genes are drawn uniformly; the number of draws doubles until enough are new, so that the last few of a
        small space are found too. Under limits on computed metrics the tries are bounded, and may come short of what
        there is in a large space, see `Feasible.draw`.
        """
        wanted, draws = min(n, self._size - len(self._seen)), n
        if self._feasible is not None:
            return self._take(self._feasible.draw(wanted, self._seen))
        genes = len(self.space.cardinalities)
        rows = np.empty((0, genes), dtype=np.int64)
        while len(rows) < wanted:
            drawn = self.rng.integers(0, self.space.cardinalities, size=(draws, genes))
            rows = np.vstack([rows, self._claim(drawn, wanted - len(rows))])
            draws = min(2 * draws, _MOST_DRAWS)
        return rows
