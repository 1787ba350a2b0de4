"""Evolutionary search with every candidate measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from pymoo.core.algorithm import Algorithm

from nas_compress.search.algorithms import check_objectives, evolution, in_costs
from nas_compress.search.generational import GenerationalSearch
from nas_compress.search.problem import FloatVector, SearchProblem
from nas_compress.search.trial import Trial
from nas_compress.space.search_space import FloatMatrix, IntMatrix

_STALE = 5
"""Generations without anything new after which random architectures are measured instead."""


class Evolutionary(GenerationalSearch):
    """A random population, then what an evolutionary algorithm proposes, generation after generation.

    Architectures that come up again are answered from memory, those that break a limit on a computed metric by how
    far they do: neither costs an evaluation. Trials that failed never become parents. An algorithm that proposes
    nothing new for some generations begins anew from the best of all that is known, after random architectures.

    Args:
        problem: See `SearchStrategy`.
        algorithm: A name that `nas_compress.search.algorithms.evolution` takes, or an algorithm object of pymoo, which
            is copied; None for the class's own.
        seed: See `SearchStrategy`.
        population: See `SearchStrategy`; an algorithm object has its own population size.
        options: The algorithm's own, see `evolution`; `references` in natural units by metric
            (`[{"acc": 77.0, "macs": 3e8}]`).

    Raises:
        ConfigError: An option out of range, or several objectives for an algorithm that takes one.
        InfeasibleError: Nothing that meets the limits on computed metrics was found.
    """

    name: ClassVar[str] = "nsga2"

    def __init__(
        self,
        problem: SearchProblem,
        *,
        algorithm: str | Algorithm | None = None,
        seed: int = 42,
        population: int = 50,
        **options: Any,
    ) -> None:
        algorithm = self.name if algorithm is None else algorithm
        if isinstance(algorithm, str):
            check_objectives(algorithm, len(problem.objectives))
        options = in_costs(options, problem)
        super().__init__(problem, seed=seed, population=population)
        self._evolution = evolution(algorithm, self.space, len(problem.objectives), population, self.rng, **options)
        self._known: dict[bytes, Trial] = {}
        self._asked: IntMatrix | None = None

    def _generation(self, told: Sequence[Trial]) -> IntMatrix:
        rows = self.space.encode([trial.architecture for trial in told])
        self._known.update(zip((row.tobytes() for row in rows), told, strict=True))
        if len(self._seen) >= self._size:
            return rows[:0]
        missing = self.population - len(self._seen)
        if missing > 0 and len(drawn := self._draw(missing)):
            return drawn
        if self._asked is None:
            self._begin()
        else:
            self._evolution.tell(*self._recall(self._asked))
        for _ in range(_STALE if any(trial.ok for trial in self._known.values()) else 0):
            self._asked = self._evolution.ask()
            if len(fresh := self._claim(self._asked)):
                return fresh
            if not len(self._asked):
                break
            self._evolution.tell(*self._recall(self._asked))
        self._asked = None
        return self._draw(self.population)

    def _begin(self) -> None:
        rows = np.array([np.frombuffer(key, dtype=np.int64) for key in self._known])
        self._evolution.start(rows, *self._recall(rows))

    def _recall(self, rows: IntMatrix) -> tuple[FloatMatrix, FloatVector]:
        """Return costs, shape (n, objectives), and excess, shape (n,), of rows that were measured or must not be.

        What was not measured has no costs (NaN); what failed has infinite excess.
        """
        costs = np.full((len(rows), len(self.problem.objectives)), np.nan)
        excess = np.full(len(rows), np.inf)
        trials = [self._known.get(row.tobytes()) for row in rows]
        if measured := [i for i, trial in enumerate(trials) if trial is not None and trial.ok]:
            table = self.problem.table([trial for trial in trials if trial is not None and trial.ok])
            costs[measured], excess[measured] = self.problem.costs(table), self.limits.excess(table)
        if barred := [i for i, trial in enumerate(trials) if trial is None]:
            excess[barred] = self.limits.computed_excess(rows[barred])
        return costs, excess


class NSGA2(Evolutionary):
    """NSGA-II (Deb et al., 2002, "A fast and elitist multiobjective genetic algorithm")."""

    name = "nsga2"


class RNSGA2(Evolutionary):
    """R-NSGA-II (Deb and Sundar, 2006, "Reference point based multi-objective optimization")."""

    name = "rnsga2"


class AGEMOEA(Evolutionary):
    """AGE-MOEA (Panichella, 2019, "An adaptive evolutionary algorithm based on non-Euclidean geometry")."""

    name = "age"


class UNSGA3(Evolutionary):
    """U-NSGA-III (Seada and Deb, 2016, "A unified evolutionary optimization procedure")."""

    name = "unsga3"


class MOEAD(Evolutionary):
    """MOEA/D (Zhang and Li, 2007, "A multiobjective evolutionary algorithm based on decomposition")."""

    name = "moead"


class CTAEA(Evolutionary):
    """C-TAEA (Li et al., 2019, "Two-archive evolutionary algorithm for constrained multiobjective optimization")."""

    name = "ctaea"


class MOCMAES(Evolutionary):
    """MO-CMA-ES (Igel et al., 2007, "Covariance matrix adaptation for multi-objective optimization")."""

    name = "mocmaes"


class GA(Evolutionary):
    """A genetic algorithm with tournaments and elitism, for one objective (Goldberg, 1989)."""

    name = "ga"


class CMAES(Evolutionary):
    """CMA-ES, for one objective (Hansen and Ostermeier, 2001, "Completely derandomized self-adaptation")."""

    name = "cmaes"
