"""NSGA-II on arrays: what searches on predictions spend most of their own time in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas_compress.search import pareto
from nas_compress.search.evolver import Evolver, Scale, survivors
from nas_compress.search.operators import rates
from nas_compress.search.variation import crossover as cross
from nas_compress.search.variation import random_reset
from nas_compress.space import SearchSpace
from nas_compress.space.search_space import FloatMatrix, IntMatrix

_ROUNDS = 5


class NSGA2Evolver(Evolver):
    """NSGA-II with genes that are swapped (uniform crossover) and drawn anew (random reset).

    Architectures that differ in unused genes alone are one; parents' unused genes are random, so that a block that an
    offspring switches on may be of any kind. Limits come first in every comparison. pymoo's NSGA-II with the same
    operators finds the same in several times the CPU time, which goes into an object per individual.

    Source: Deb et al., 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II", sections III and VI.

    Args:
        space: See `Evolver`.
        objectives: See `Evolver`.
        population: See `Evolver`.
        rng: See `Evolver`.
        crossover: Probability that two parents mix their genes.
        mutation: Probability that a gene is drawn anew; by default one over the number of genes that can vary.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: int,
        population: int,
        rng: np.random.Generator,
        *,
        crossover: float = 0.9,
        mutation: float | None = None,
    ) -> None:
        super().__init__(space, objectives, population, rng)
        self._crossover, self._mutation = rates(self._genes, crossover, mutation)

    def population(self) -> tuple[IntMatrix, FloatMatrix]:
        """See `Evolver.population`."""
        if self._scale is None:
            return self._asked[:0], np.empty((0, self.objectives))
        return survivors(self._rows, self._costs, self._excess)

    def _start(self, rows: IntMatrix, costs: FloatMatrix, excess: NDArray[np.float64], scale: Scale) -> None:
        self._keep(rows, self._genes.spread(rows, self.rng), costs, scale(costs), excess)

    def _ask(self) -> IntMatrix:
        taken = {row.tobytes() for row in self._rows}
        genes: list[IntMatrix] = []
        rows: list[IntMatrix] = []
        for _ in range(_ROUNDS):
            bred = self._breed(self.size)
            for x, row in zip(bred, self._genes.rows(bred), strict=True):
                if len(rows) < self.size and (key := row.tobytes()) not in taken:
                    taken.add(key)
                    genes.append(x)
                    rows.append(row)
            if len(rows) == self.size:
                break
        if not rows:
            self._bred = self.rng.integers(0, self._genes.choices, size=(self.size, len(self._genes.free)))
            return self._genes.rows(self._bred)
        self._bred = np.array(genes)
        return np.array(rows)

    def _breed(self, n: int) -> IntMatrix:
        """Return the free genes of `n` offspring, shape (n, free)."""
        x = self._x[self._tournament(2 * n)].reshape(2, n, -1)
        children = cross(x[0], x[1], self.rng, self._crossover)
        return random_reset(children, self._genes.choices, self._mutation, self.rng)

    def _tournament(self, n: int) -> IntMatrix:
        """Return the indices of `n` winners among random pairs: individuals are kept in the order of their fitness."""
        turns = -(-2 * n // len(self._x))
        entrants = np.concatenate([self.rng.permutation(len(self._x)) for _ in range(turns)])[: 2 * n]
        return np.asarray(entrants.reshape(n, 2).min(axis=1))

    def _tell(self, costs: FloatMatrix, scaled: FloatMatrix, excess: NDArray[np.float64]) -> None:
        told = np.isfinite(excess)
        self._keep(
            np.vstack([self._rows, self._asked[told]]),
            np.vstack([self._x, self._bred[told]]),
            np.vstack([self._costs, costs[told]]),
            np.vstack([self._scaled, scaled[told]]),
            np.concatenate([self._excess, excess[told]]),
        )

    def _keep(
        self, rows: IntMatrix, x: IntMatrix, costs: FloatMatrix, scaled: FloatMatrix, excess: NDArray[np.float64]
    ) -> None:
        best = pareto.fittest(scaled, excess, self.size)
        self._rows, self._x, self._costs = rows[best], x[best], costs[best]
        self._scaled, self._excess = scaled[best], excess[best]
