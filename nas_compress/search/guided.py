"""The core of the predictor-guided searches: measure, fit predictors, search on them, measure what they promise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from nas_compress.search import pareto
from nas_compress.search.algorithms import evolution, in_costs
from nas_compress.search.evolver import Evolver
from nas_compress.search.generational import GenerationalSearch
from nas_compress.search.problem import FloatMatrix, FloatVector, SearchProblem
from nas_compress.search.surrogate import Surrogate, choose, predicted_metrics
from nas_compress.search.trial import Trial
from nas_compress.space.search_space import IntMatrix

_MOST_CANDIDATES = 2000


class GuidedSearch(GenerationalSearch):
    """Base of the searches that measure what an evolutionary search on predictions found.

    Args:
        problem: See `SearchStrategy`.
        seed: See `SearchStrategy`.
        population: See `SearchStrategy`.
        predictor: Names in `nas_compress.predictors.predictors`: one for all measured metrics, or by metric; None for
            `defaults`.
        algorithm: What searches on the predictions: a strategy of the registry that says `inner`.
        algorithm_options: Options of `evolution` for it; `references` in natural units by metric, for all objectives.

    Raises:
        ConfigError: A number below 1, a predictor that does not exist or of what is not predicted, or an algorithm that
            does not fit the problem.
        InfeasibleError: Nothing that meets the limits on computed metrics was found.

    Attributes:
        defaults: Predictors by metric, `""` for those that are not named.
    """

    defaults: ClassVar[Mapping[str, str]] = {"": "gp"}

    def __init__(
        self,
        problem: SearchProblem,
        *,
        seed: int = 42,
        population: int = 50,
        predictor: str | Mapping[str, str] | None = None,
        algorithm: str = "nsga2",
        algorithm_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(problem, seed=seed, population=population)
        self.algorithm = algorithm
        names = choose(predictor, self._predicted(), self.defaults)
        self.surrogate = Surrogate(problem, self.limits, names, self.rng)
        self._options = in_costs(algorithm_options or {}, problem)
        if self._options.get("references") is not None:
            self._options["references"] = self._options["references"][:, self.surrogate.objectives]
        self._inner(1)  # so that an algorithm that does not fit the problem fails now
        self._rows: IntMatrix = np.empty((0, len(self.space.cardinalities)), dtype=np.int64)
        self._trials: list[Trial] = []

    def _predicted(self) -> list[str]:
        """Return the metrics to predict: those that cannot be computed."""
        return predicted_metrics(self.problem)

    def summary(self) -> dict[str, Any]:
        """Return how well the predictors do on held-out measurements, by metric."""
        trials = [*self._trials, *(trial for trial in self._told if trial.ok)]
        if not trials:
            return {}
        rows = self.space.encode([trial.architecture for trial in trials])
        return {"predictors": self.surrogate.scores(rows, self.problem.table(trials))}

    # -- what is known -------------------------------------------------------------------------------------

    def _learn(self, told: Sequence[Trial]) -> None:
        """Remember the trials that succeeded."""
        ok = [trial for trial in told if trial.ok]
        self._trials += ok
        self._rows = np.vstack([self._rows, self.space.encode([t.architecture for t in ok])])
        self._values = self.problem.table(self._trials)

    def _fit(self) -> bool:
        """Fit the predictors to all that is measured; return whether there is enough of it."""
        if len(self._rows) < 2:
            return False
        self.surrogate.fit(self._rows, self._values)
        return True

    def _measured(self) -> tuple[FloatMatrix, FloatVector]:
        """Return the measured costs that the search on predictions looks at, and the excess over the limits."""
        return self.problem.costs(self._values)[:, self.surrogate.objectives], self.limits.excess(self._values)

    # -- the search on predictions -------------------------------------------------------------------------

    def _inner(self, population: int) -> Evolver:
        objectives = len(self.surrogate.objectives)
        return evolution(self.algorithm, self.space, objectives, population, self.rng, **self._options)

    def _evolve(
        self, population: int, generations: int, start: IntMatrix | None = None, optimism: float = 0.0
    ) -> tuple[IntMatrix, FloatMatrix, FloatVector, int]:
        """Run the inner algorithm on the predictions.

        Args:
            population: Its population.
            generations: How many.
            start: Rows to begin with; random ones by default.
            optimism: See `Surrogate`.

        Returns:
            All that it saw, each once, survivors of the last generation first: rows (n, genes), costs, excess, and
            the number of these survivors.
        """
        inner = self._inner(population)
        if start is not None and len(start):
            inner.start(start, *self.surrogate(start, optimism))
        seen: list[tuple[IntMatrix, FloatMatrix, FloatVector]] = []
        for _ in range(generations):
            rows = inner.ask()
            if not len(rows):  # an algorithm of a user's own came to its end
                inner = self._inner(population)
                if seen:
                    inner.start(*(np.concatenate(parts) for parts in zip(*seen, strict=True)))
                rows = inner.ask()
            if not len(rows):
                inner = self._inner(population)  # one that proposes nothing from what is known begins at random
                rows = inner.ask()
            seen.append((rows, *self.surrogate(rows, optimism)))
            inner.tell(*seen[-1][1:])
        rows, costs, excess = (np.concatenate(parts) for parts in zip(*seen, strict=True))
        last = {row.tobytes() for row in inner.population()[0]}
        _, once = np.unique(rows, axis=0, return_index=True)
        survived = {i for i in once.tolist() if rows[i].tobytes() in last}
        order = sorted(once.tolist(), key=lambda i: (i not in survived, i))
        return rows[order], costs[order], excess[order], len(survived)

    def _unseen(
        self, rows: IntMatrix, costs: FloatMatrix, excess: FloatVector
    ) -> tuple[IntMatrix, FloatMatrix, FloatVector]:
        """Return what was never asked for."""
        fresh = np.array([row.tobytes() not in self._seen for row in rows], dtype=bool)
        return rows[fresh], costs[fresh], excess[fresh]

    def _improving(self, n: int, costs: FloatMatrix, excess: FloatVector) -> list[int]:
        """Return the indices of candidates in the order in which to measure them, `n` or more if there are.

        First, greedily, each the one that improves the hypervolume of the measured front most; then by rank; those
        beyond a limit last.
        """
        measured, beyond = self._measured()
        front = measured[beyond == 0]
        front = front[pareto.non_dominated(front)]
        feasible = np.flatnonzero(excess == 0)
        rank = pareto.ranks(costs[feasible])
        order = feasible[np.argsort(rank, kind="stable")]
        pool = order[:_MOST_CANDIDATES]
        pool = pool[: max(n, int(np.count_nonzero(rank <= 2)))]
        best = pool[pareto.greedy_improvement(costs[pool], front, pareto.reference_point(measured), n)]
        broken = np.flatnonzero(excess > 0)
        rest = np.concatenate([order, broken[np.argsort(excess[broken], kind="stable")]])
        return list(dict.fromkeys([*best.tolist(), *rest.tolist()]))

    def _ask_for(self, rows: IntMatrix, n: int) -> IntMatrix:
        """Claim the first `n` rows that were never asked for; random ones fill what is lacking."""
        chosen = self._claim(rows, n)
        return np.vstack([chosen, self._draw(n - len(chosen))]) if len(chosen) < n else chosen
