"""Any algorithm of pymoo, run by ask and tell on encoded architectures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pymoo.core.algorithm import Algorithm
from pymoo.core.individual import Individual
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination

from nas_compress.search.evolver import Evolver, Scale, penalised, survivors
from nas_compress.search.operators import Genes
from nas_compress.search.problem import FloatVector
from nas_compress.space import SearchSpace
from nas_compress.space.search_space import FloatMatrix, IntMatrix

Maker = Callable[[Genes, int, int, Scale], Algorithm]
"""Makes a fresh algorithm for genes, a number of objectives, a population size, and the scale of the costs."""


class PymooEvolution(Evolver):
    """Runs an algorithm that has pymoo's interface.

    The algorithm sees the genes that can vary as variables from 0 to their number of choices less one; what it
    proposes is rounded and brought into canonical form. Its own sampling and termination are not used.

    Args:
        space: See `Evolver`.
        objectives: See `Evolver`.
        population: See `Evolver`.
        rng: See `Evolver`.
        make: Makes the algorithm; called at each start.
        native: Whether it handles constraints; if not, excess is a penalty on all costs.
        aligned: Whether all it asked for must be told, in order; if not, failed individuals are left out.
        full: Whether it must begin with a full population; if so, a smaller one is repeated.
        doubled: Whether one objective is told twice: the algorithm cannot do with one.
        discrete: Whether its operators work on indices; if so, unused genes are drawn at random, so that a block
            that offspring switch on may be of any kind.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: int,
        population: int,
        rng: np.random.Generator,
        make: Maker,
        *,
        native: bool = True,
        aligned: bool = False,
        full: bool = False,
        doubled: bool = False,
        discrete: bool = True,
    ) -> None:
        super().__init__(space, objectives, population, rng)
        self._make = make
        self._native, self._aligned, self._full, self._discrete = native, aligned, full, discrete
        self._copies = 2 if doubled and objectives == 1 else 1
        self._infills: Population | Individual = Population.empty()
        self._algorithm: Algorithm = None

    def population(self) -> tuple[IntMatrix, FloatMatrix]:
        """See `Evolver.population`."""
        told = [] if self._scale is None else [one for one in _members(self._algorithm.pop) if "costs" in one.data]
        if not told:
            return self._asked[:0], np.empty((0, self.objectives))
        rows, costs, excess = (np.array([one.data[key] for one in told]) for key in ("row", "costs", "excess"))
        return survivors(rows, costs, excess)

    def _start(self, rows: IntMatrix, costs: FloatMatrix, excess: FloatVector, scale: Scale) -> None:
        genes, objectives = self._genes, self.objectives * self._copies
        self._algorithm = self._make(genes, objectives, self.size, scale)
        problem = Problem(
            n_var=len(genes.free), n_obj=objectives, n_ieq_constr=int(self._native), xl=0.0, xu=genes.choices - 1.0
        )
        self._algorithm.setup(problem, seed=int(self.rng.integers(2**31)), termination=NoTermination())
        if self._full:
            turn = np.arange(max(len(rows), self._algorithm.pop_size or 0)) % len(rows)
            rows, costs, excess = rows[turn], costs[turn], excess[turn]
        known = Population.new(X=genes.spread(rows, self.rng).astype(np.int64 if self._discrete else np.float64))
        self._record(known, rows, costs, scale(costs), excess)
        self._algorithm.initialization = _Known(known)
        self._algorithm.advance(infills=self._algorithm.infill())

    def _ask(self) -> IntMatrix:
        self._infills = None if self._algorithm.termination.has_terminated() else self._algorithm.infill()
        if self._discrete and not len(_members(self._infills)):
            self._algorithm.termination.force_termination = False
            shape = (self.size, len(self._genes.free))
            self._infills = Population.new(X=self.rng.integers(0, self._genes.choices, size=shape))
        members = _members(self._infills)
        if not len(members):
            return self._asked[:0]
        rows = self._genes.rounded(np.array([one.X for one in members]))
        if self._discrete:
            for one, x in zip(members, self._genes.spread(rows, self.rng), strict=True):
                one.X = x
        return rows

    def _tell(self, costs: FloatMatrix, scaled: FloatMatrix, excess: FloatVector) -> None:
        self._record(_members(self._infills), self._asked, costs, scaled, excess)
        infills = self._infills if self._aligned else self._infills[np.isfinite(excess)]
        if self._aligned or len(infills):
            self._algorithm.advance(infills=infills)

    def _record(
        self, members: Population, rows: IntMatrix, costs: FloatMatrix, scaled: FloatMatrix, excess: FloatVector
    ) -> None:
        """Give individuals what the algorithm compares, and what `population` returns."""
        compared = np.tile(scaled if self._native else penalised(scaled, excess), self._copies)
        violation = excess if self._native else np.zeros(len(excess))
        for i, one in enumerate(members):
            one.F, one.G, one.CV = compared[i], violation[i : i + 1], violation[i : i + 1]
            one.evaluated = {"F", "G", "H"}
            one.data["row"], one.data["costs"], one.data["excess"] = rows[i], costs[i], excess[i]


class _Known:
    """Stands in for an algorithm's own sampling: its first population is known."""

    def __init__(self, population: Population) -> None:
        self._population = population

    def do(self, *_: object, **__: object) -> Population:
        """Return the known individuals, evaluated."""
        return self._population


def _members(infills: Population | Individual | None) -> Population:
    """Return what an algorithm proposes as a population: some propose a single individual, or nothing."""
    if infills is None:
        return Population.empty()
    return Population.create(infills) if isinstance(infills, Individual) else infills
