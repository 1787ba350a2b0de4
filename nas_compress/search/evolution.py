"""NSGA-II on encoded architectures, put together from pymoo's operators.

Source: Deb et al., 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II". Its real-valued operators
hardly ever change a rounded gene, so genes are swapped (uniform crossover) and drawn anew (random reset) instead.
Architectures with the same canonical form are duplicates.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.mating import Mating
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.repair import Repair
from pymoo.operators.crossover.ux import UniformCrossover
from pymoo.operators.selection.tournament import TournamentSelection
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

from nas_compress.search.generational import canonical
from nas_compress.space import SearchSpace
from nas_compress.space.search_space import FloatMatrix, IntMatrix


class Evolution:
    """Parents that breed architectures nobody has seen.

    Args:
        space: Where the architectures live.
        objectives: Number of objectives.
        population: Number of parents that survive.
        rng: Makes all random choices.
        seen: Keys (`row.tobytes()` of the canonical row) of what must not be bred; what is bred is added to it.
    """

    def __init__(
        self, space: SearchSpace, objectives: int, population: int, rng: np.random.Generator, seen: set[bytes]
    ) -> None:
        self._space, self._population, self._rng, self._seen = space, population, rng, seen
        self._problem = Problem(
            n_var=len(space.cardinalities), n_obj=objectives, xl=0, xu=space.cardinalities - 1, vtype=int
        )
        self._survival = RankAndCrowding()
        self._mating = Mating(
            TournamentSelection(func_comp=_tournament),
            UniformCrossover(prob=0.9),
            _RandomReset(space),
            repair=_Canonical(space),
            eliminate_duplicates=_Unseen(seen),
            n_max_iterations=20,
        )
        self._parents = Population.empty()

    def select(self, rows: IntMatrix, costs: FloatMatrix) -> None:
        """Let evaluated architectures, shape (n, genes), with costs of shape (n, objectives), compete as parents.

        Their unused genes are drawn at random, so that a block that an offspring switches on may be of any kind.
        """
        noise = self._rng.integers(0, self._space.cardinalities, size=rows.shape)
        newcomers = Population.new(X=np.where(self._space.active(rows), rows, noise), F=costs)
        everyone = Population.merge(self._parents, newcomers)
        self._parents = self._survival.do(self._problem, everyone, n_survive=self._population, random_state=self._rng)

    def breed(self, n: int) -> IntMatrix:
        """Return at most `n` new architectures, shape (k, genes); fewer when hardly anything unseen is near."""
        if not len(self._parents):
            return np.empty((0, self._problem.n_var), dtype=np.int64)
        offspring = self._mating.do(self._problem, self._parents, n, random_state=self._rng)
        rows = np.array([child.X for child in offspring], dtype=np.int64).reshape(-1, self._problem.n_var)
        self._seen.update(_keys(rows))
        return rows


def _keys(rows: IntMatrix) -> Iterator[bytes]:
    return (row.tobytes() for row in rows)


def _tournament(parents: Population, pairs: IntMatrix, **_: Any) -> IntMatrix:
    """Return the winner of each pair, shape (n, 1): the better rank, then the less crowded."""
    rank, crowding = (np.asarray(values, dtype=np.float64) for values in parents.get("rank", "crowding"))
    a, b = pairs.T
    second = (rank[b] < rank[a]) | ((rank[b] == rank[a]) & (crowding[b] > crowding[a]))
    winners: IntMatrix = np.where(second, b, a)[:, None]
    return winners


class _RandomReset(Mutation):  # type: ignore[misc]
    """Gives each gene, with probability one over the number of genes that can vary, another value."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self._cardinalities = space.cardinalities
        self._rate = 1 / max(1, int(np.sum(space.cardinalities > 1)))

    def _do(self, problem: Problem, x: IntMatrix, *_: Any, random_state: np.random.Generator, **__: Any) -> IntMatrix:
        step = random_state.integers(1, np.maximum(self._cardinalities, 2), size=x.shape)
        return np.where(random_state.random(x.shape) < self._rate, (x + step) % self._cardinalities, x)


class _Canonical(Repair):  # type: ignore[misc]
    """Brings offspring into canonical form."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self._space = space

    def _do(self, problem: Problem, x: IntMatrix, **_: Any) -> IntMatrix:
        return canonical(self._space, x)


class _Unseen(DuplicateElimination):  # type: ignore[misc]
    """Drops offspring that were seen before or that came out twice."""

    def __init__(self, seen: set[bytes]) -> None:
        super().__init__()
        self._seen = seen

    def do(self, offspring: Population, *others: Population, **_: Any) -> Population:
        taken = {key for other in others for key in _keys(other.get("X"))}
        keep = []
        for i, key in enumerate(_keys(offspring.get("X"))):
            if key not in self._seen and key not in taken:
                taken.add(key)
                keep.append(i)
        return offspring[keep]
