"""pymoo operators for encoded architectures: discrete variation, duplicates by canonical form, fast tournaments.

Uniform crossover and random reset suit genes without a scale; simulated binary crossover and polynomial mutation hardly
ever change a rounded gene. Individuals hold the choice indices of the genes that can vary (`Genes`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.mating import Mating
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.selection import Selection
from pymoo.operators.crossover.ux import UniformCrossover
from pymoo.operators.selection.tournament import TournamentSelection

from nas_compress.errors import ConfigError
from nas_compress.search import pareto
from nas_compress.search.variation import random_reset, spread_unused
from nas_compress.space import SearchSpace
from nas_compress.space.search_space import FloatMatrix, IntMatrix

_MATING_ROUNDS = 10


class Genes:
    """The genes of a space that can vary, as columns of their own: an algorithm never sees the others.

    Args:
        space: The space.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.free = np.flatnonzero(space.cardinalities > 1)
        self.choices: IntMatrix = space.cardinalities[self.free]

    def rows(self, indices: IntMatrix) -> IntMatrix:
        """Return canonical rows, shape (n, genes), for choice indices of the free genes, shape (n, free)."""
        rows = np.zeros((len(indices), len(self.space.cardinalities)), dtype=np.int64)
        rows[:, self.free] = indices
        return self.space.canonical(rows)

    def rounded(self, x: FloatMatrix) -> IntMatrix:
        """Return canonical rows for anything numeric on the scale of choice indices, shape (n, free)."""
        near = np.rint(np.nan_to_num(np.asarray(x, dtype=np.float64)))
        return self.rows(np.clip(near, 0, self.choices - 1).astype(np.int64))

    def spread(self, rows: IntMatrix, rng: np.random.Generator) -> IntMatrix:
        """Return the free genes of rows with random values in inactive ones, shape (n, free)."""
        return spread_unused(self.space, rows, rng)[:, self.free]


def mating(genes: Genes, selection: Selection, *, crossover: float = 0.9, mutation: float | None = None) -> Mating:
    """Return the breeding of discrete genes.

    Args:
        genes: The genes.
        selection: Chooses the parents.
        crossover: Probability that two parents mix their genes; 0.9 in the paper on ConcurrentNAS, section 4.5.
        mutation: Probability that a gene is drawn anew; by default one over the number of genes that can vary.

    Raises:
        ConfigError: A probability outside 0 to 1.
    """
    crossover, rate = rates(genes, crossover, mutation)
    return Mating(
        selection,
        UniformCrossover(prob=crossover),
        RandomReset(genes, rate),
        eliminate_duplicates=Duplicates(genes),
        n_max_iterations=_MATING_ROUNDS,
    )


def rates(genes: Genes, crossover: float, mutation: float | None) -> tuple[float, float]:
    """Return the probabilities of crossover and mutation; raise `ConfigError` if one of them is none."""
    for name, value in {"crossover": crossover, "mutation": mutation}.items():
        if value is not None and not 0 <= value <= 1:
            raise ConfigError(f"{name}: {value} is no probability; want a number from 0 to 1")
    return crossover, 1 / max(1, len(genes.free)) if mutation is None else mutation


class RandomReset(Mutation):  # type: ignore[misc]
    """Gives each gene, with a probability of `rate`, another value."""

    def __init__(self, genes: Genes, rate: float) -> None:
        super().__init__()
        self._choices, self._rate = genes.choices, rate

    def _do(self, problem: Problem, x: IntMatrix, *_: Any, random_state: np.random.Generator, **__: Any) -> IntMatrix:
        return random_reset(x, self._choices, self._rate, random_state)


class Duplicates(DuplicateElimination):  # type: ignore[misc]
    """Drops offspring whose canonical form another individual has: unused genes make no difference."""

    def __init__(self, genes: Genes) -> None:
        super().__init__()
        self._genes = genes

    def do(self, offspring: Population, *others: Population, **_: Any) -> Population:
        """Return the offspring that equal neither one another nor any of the others."""
        taken = {key for other in others for key in self._keys(other)}
        keep = []
        for i, key in enumerate(self._keys(offspring)):
            if key not in taken:
                taken.add(key)
                keep.append(i)
        return offspring[keep]

    def _keys(self, population: Population) -> list[bytes]:
        if not len(population):
            return []
        return [row.tobytes() for row in self._genes.rows(np.array([one.X for one in population], dtype=np.int64))]


def crowded_tournament() -> TournamentSelection:
    """Return the crowded-comparison tournament: less excess, then the better rank, then the less crowded.

    Source: Deb et al., 2002, section III-B; Deb, 2000, for the excess.
    """
    return TournamentSelection(func_comp=_crowded)


def niche_tournament() -> TournamentSelection:
    """Return U-NSGA-III's tournament: less excess; in one niche the better rank, then the closer; else either.

    Source: Seada and Deb, 2016, "A unified evolutionary optimization procedure", Algorithm 1.
    """
    return TournamentSelection(func_comp=_niche)


def cost_tournament() -> TournamentSelection:
    """Return the tournament of one objective: less excess, then less cost (Deb, 2000)."""
    return TournamentSelection(func_comp=_cost)


class ArchiveSelection(Selection):  # type: ignore[misc]
    """C-TAEA's restricted mating: parents come from the archive that holds more of the joint front.

    The front is that of constrained dominance, and further parents come from an archive with the probability of its
    share of the front. The paper ignores limits here and counts shares of all: where the best costs lie beyond a limit,
    as they do with limits on latency or size, most children would then break it.

    Source: Li et al., 2019, "Two-archive evolutionary algorithm for constrained multiobjective optimization",
    Algorithm 6.
    """

    def _do(
        self,
        problem: Problem,
        pop: Population,
        n_select: int,
        n_parents: int,
        random_state: np.random.Generator,
        **_: Any,
    ) -> IntMatrix:
        """Return parents, shape (n_select, n_parents), of both archives: the first half of `pop`, and the second."""
        n = len(pop) // 2
        costs, excess = np.array([one.F for one in pop]), _excess(pop)[:, None]
        ranks = pareto.ranks(np.where(excess > 0, costs.max() + excess, costs))
        share = np.count_nonzero(ranks[:n] == 0) / np.count_nonzero(ranks == 0)
        pairs = random_state.integers(0, n, size=(n_select, n_parents, 2))
        pairs[:, 0] += n * (share <= 0.5)
        pairs[:, 1:] += n * (random_state.random((n_select, n_parents - 1, 1)) >= share)
        return _winners(pop, pairs.reshape(-1, 2), random_state, ranks.astype(np.float64)).reshape(n_select, n_parents)


def _crowded(population: Population, pairs: IntMatrix, random_state: np.random.Generator, **_: Any) -> IntMatrix:
    rank, crowding = _attributes(population, "rank", "crowding")
    return _winners(population, pairs, random_state, rank, -crowding)


def _niche(population: Population, pairs: IntMatrix, random_state: np.random.Generator, **_: Any) -> IntMatrix:
    niche, rank, distance = _attributes(population, "niche", "rank", "dist_to_niche")
    together = niche[pairs[:, 0]] == niche[pairs[:, 1]]
    return _winners(population, pairs, random_state, rank, distance, comparable=together)


def _cost(population: Population, pairs: IntMatrix, random_state: np.random.Generator, **_: Any) -> IntMatrix:
    return _winners(population, pairs, random_state, np.array([one.F[0] for one in population]))


def _attributes(population: Population, *names: str) -> list[NDArray[np.float64]]:
    """Return attributes of individuals, each of shape (n,), NaN where one has none."""
    return [np.array([one.data.get(name) for one in population], dtype=np.float64) for name in names]


def _excess(population: Population) -> NDArray[np.float64]:
    return np.array([one.CV[0] for one in population], dtype=np.float64)


def _winners(
    population: Population,
    pairs: IntMatrix,
    rng: np.random.Generator,
    *keys: NDArray[np.float64],
    comparable: NDArray[np.bool_] | None = None,
) -> IntMatrix:
    """Return the winner of each pair, shape (n, 1): excess decides, then smaller keys in order, then chance.

    Keys count between feasible individuals alone, and where the pair is comparable.
    """
    a, b = pairs.T
    excess = _excess(population)
    verdict = np.sign(excess[b] - excess[a])
    by_keys = (excess[a] <= 0) & (excess[b] <= 0)
    if comparable is not None:
        by_keys &= comparable
    for key in keys:
        with np.errstate(invalid="ignore"):
            verdict = np.where((verdict == 0) & by_keys, np.nan_to_num(np.sign(key[b] - key[a])), verdict)
    toss = rng.random(len(a)) < 0.5
    first = (verdict > 0) | ((verdict == 0) & toss)
    winners: IntMatrix = np.where(first, a, b)[:, None]
    return winners
