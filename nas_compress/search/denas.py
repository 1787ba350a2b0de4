"""DE-NAS's hardware-aware evolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nas_compress.denas_keys import children
from nas_compress.errors import ConfigError
from nas_compress.search import pareto
from nas_compress.search.generational import GenerationalSearch
from nas_compress.search.problem import FloatVector, SearchProblem
from nas_compress.search.trial import Trial
from nas_compress.search.variation import crossover, spread_unused
from nas_compress.space.search_space import FloatMatrix, IntMatrix

PARENTS, M_PROB, S_PROB = 10, 0.2, 0.4
"""AutoFormer's published number of parents, and its probabilities that a gene and that the whole net's sizes change."""

MANY = 8
"""Ordered genes with more values than so many move in steps, at most a quarter of their range, when they mutate."""

_ROUNDS = 10

Breed = Callable[[IntMatrix, int], IntMatrix]


class DeNAS(GenerationalSearch):
    """A random population, then generations of mutants and crossovers of the best so far, limits checked first.

    Limits on computed metrics (parameters, MACs, latency by a look-up table) are checked before an architecture is
    asked for, so that nothing is built or scored in vain; those on measured metrics decide who becomes a parent. The
    best are the best of all trials so far; with several objectives, by rank and crowding. Two parents mix half of their
    genes. What repeats a known architecture is bred again, at most 10 times; random architectures fill the rest.

    Published genes have few values, and are drawn anew when they mutate. Ordered genes with many (channels in
    eights) move to a value near by instead: from a good width, a random one is hardly ever a better one.

    Source: Table 1 of the DE-NAS article (Intel, 2023); Chen et al., 2021, "AutoFormer", and its published
    configuration: 10 parents, half of a generation mutants, half crossovers, probabilities .2 and .4.

    Args:
        problem: See `SearchStrategy`.
        seed: See `SearchStrategy`.
        population: Size of the random population, and of a generation where `crossovers` and `mutants` do not say.
        parents: How many of the best breed.
        crossovers: Children of two parents per generation; None for half of the population.
        mutants: Children of one parent per generation; None for the other half.
        m_prob: Probability that a gene mutates.
        s_prob: The same for genes of the whole network: those that other genes depend on, and dimensions of one gene.

    Raises:
        ConfigError: A number out of range, or no children at all.
        InfeasibleError: Nothing that meets the limits on computed metrics was found.
    """

    def __init__(
        self,
        problem: SearchProblem,
        *,
        seed: int = 42,
        population: int = 50,
        parents: int = PARENTS,
        crossovers: int | None = None,
        mutants: int | None = None,
        m_prob: float = M_PROB,
        s_prob: float = S_PROB,
    ) -> None:
        _check(parents=parents, crossovers=crossovers, mutants=mutants, m_prob=m_prob, s_prob=s_prob)
        super().__init__(problem, seed=seed, population=population)
        self._parents = parents
        self._crossovers, self._mutants = children(population, crossovers, mutants)
        if self._crossovers + self._mutants == 0:
            raise ConfigError(f"crossovers and mutants of a population of {population} are 0; wants at least one child")
        self._rates = np.where(_of_the_whole(problem), s_prob, m_prob)
        self._rows: IntMatrix = np.empty((0, len(self.space.cardinalities)), dtype=np.int64)
        self._trials: list[Trial] = []

    def _generation(self, told: Sequence[Trial]) -> IntMatrix:
        ok = [trial for trial in told if trial.ok]
        self._trials += ok
        self._rows = np.vstack([self._rows, self.space.encode([trial.architecture for trial in ok])])
        missing = self.population - len(self._seen)
        if missing > 0 and len(drawn := self._draw(missing)):
            return drawn
        if not self._trials:
            return self._draw(self.population)
        best = self._best()
        crossed = self._children(self._cross, best, self._crossovers)
        mutated = self._children(self._mutate, best, self._mutants)
        lacking = self._crossovers + self._mutants - len(crossed) - len(mutated)
        return np.vstack([crossed, mutated, self._draw(lacking)])

    def _best(self) -> IntMatrix:
        costs, excess = self._told_costs()
        scale = np.ptp(costs, axis=0)
        return self._rows[pareto.fittest(costs / np.where(scale > 0, scale, 1.0), excess, self._parents)]

    def _told_costs(self) -> tuple[FloatMatrix, FloatVector]:
        table = self.problem.table(self._trials)
        return self.problem.costs(table), self.limits.excess(table)

    def _children(self, breed: Breed, parents: IntMatrix, n: int) -> IntMatrix:
        """Claim at most `n` new children."""
        found = self._rows[:0]
        for _ in range(_ROUNDS):
            if len(found) == n:
                break
            found = np.vstack([found, self._claim(breed(parents, n), n - len(found))])
        return found

    def _cross(self, parents: IntMatrix, n: int) -> IntMatrix:
        pairs = parents[self.rng.integers(0, len(parents), size=2 * n)]
        mothers, fathers = spread_unused(self.space, pairs, self.rng).reshape(2, n, -1)
        return crossover(mothers, fathers, self.rng, 1.0)

    def _mutate(self, parents: IntMatrix, n: int) -> IntMatrix:
        rows = spread_unused(self.space, parents[self.rng.integers(0, len(parents), size=n)], self.rng)
        choices = self.space.cardinalities
        fresh = self.rng.integers(0, choices, size=rows.shape)
        reach = np.maximum(choices // 4, 1)
        near = np.clip(rows + self.rng.integers(-reach, reach + 1, size=rows.shape), 0, choices - 1)
        changed = np.where(self.space.ordered & (choices > MANY), near, fresh)
        return np.where(self.rng.random(rows.shape) < self._rates, changed, rows)


def _of_the_whole(problem: SearchProblem) -> np.ndarray:
    """Return which genes are about the whole network, shape (genes,)."""
    space = problem.space
    controllers = {condition.controller for condition in space.conditions}
    return np.array(
        [d.slots == 1 or (d.name, slot) in controllers for d in space.dimensions for slot in range(d.slots)]
    )


def _check(**options: float | None) -> None:
    for name, value in options.items():
        if value is None:
            continue
        if name.endswith("_prob") and not 0 <= value <= 1:
            raise ConfigError(f"{name}: {value} is no probability; want a number from 0 to 1")
        if value < (1 if name == "parents" else 0):
            raise ConfigError(f"{name}: {value} is not allowed; wants at least {1 if name == 'parents' else 0}")
