"""Architectures that keep limits on computed metrics, found in a bounded number of tries."""

from __future__ import annotations

from collections.abc import Iterator, Set

import numpy as np
from numpy.typing import NDArray

from nas_compress.errors import InfeasibleError
from nas_compress.objectives.base import AnalyticObjective
from nas_compress.search.problem import FloatVector, Limits
from nas_compress.search.variation import offspring
from nas_compress.space import SearchSpace
from nas_compress.space.search_space import IntMatrix

SMALL = 2**14
"""Spaces of up to this many sub-networks are gone through one by one."""

_POOL, _START, _GENERATIONS, _ROUNDS, _DRAWS = 64, 256, 60, 20, 1024
_BLOCK, _BLOCKS, _BLOCKS_ONE_BY_ONE = 2**14, 48, 6
"""The last resort, a second or two: so many random draws, so often; less often where a metric is not vectorised."""


class Feasible:
    """The part of a space that keeps the limits on computed metrics.

    A small space is enumerated. In a large one, feasible architectures are first looked for by evolution on the
    excess alone, then, where that finds none, by some hundred thousand random draws; random draws and mutants of
    what was found supply more. The effort is counted in draws, not in seconds: the same seed finds the same.

    Args:
        space: The space.
        limits: The limits; those on measured metrics are not looked at.
        rng: Makes all random choices.

    Raises:
        InfeasibleError: None was found; the message gives the closest.
    """

    def __init__(self, space: SearchSpace, limits: Limits, rng: np.random.Generator) -> None:
        self._space, self._limits, self._rng = space, limits, rng
        self._small = space.size() <= SMALL
        self._tries, self._barren = 0, False
        one_by_one = any(type(o).compute_encoded is AnalyticObjective.compute_encoded for o in limits.analytic)
        self._blocks = _BLOCKS_ONE_BY_ONE if one_by_one else _BLOCKS
        rows = np.array(list(space.enumerate())) if self._small else self._evolve()
        if not self._small and not self.mask(rows).any():
            rows = self._cast(rows)
        excess = self._excess(rows)
        if not (excess == 0).any():
            raise InfeasibleError(self._closest(rows[[int(np.argmin(excess))]]))
        self._pool = rows[excess == 0]

    def mask(self, rows: IntMatrix) -> NDArray[np.bool_]:
        """Return which canonical rows, shape (n, genes), keep the limits."""
        mask: NDArray[np.bool_] = self._excess(rows) == 0
        return mask

    def draw(self, n: int, seen: Set[bytes]) -> IntMatrix:
        """Return `n` distinct canonical rows that keep the limits and whose keys are not in `seen`.

        There are fewer where no more are left or, in a large space, found in a bounded number of tries.
        """
        if self._small:
            left = np.array([row.tobytes() not in seen for row in self._pool], dtype=bool)
            return self._rng.permutation(self._pool[left])[: max(n, 0)]
        found: dict[bytes, IntMatrix] = {}
        supply = self._supply()
        while len(found) < n and (rows := next(supply, None)) is not None:
            found |= {key: row for row in rows if (key := row.tobytes()) not in seen}
        return np.array(list(found.values())[: max(n, 0)], dtype=np.int64).reshape(-1, self._pool.shape[1])

    def _supply(self) -> Iterator[IntMatrix]:
        """Yield rows that keep the limits, with more and more effort: a few draws, what is known, then many draws.

        Once many draws have found nothing that was not known, they are not made again.
        """
        for _ in range(_ROUNDS):
            yield self._try(_DRAWS)
        yield self._rng.permutation(self._pool)
        known = len(self._pool)
        for _ in range(0 if self._barren else self._blocks):
            rows = self._try(_BLOCK)
            self._pool = np.unique(np.vstack([self._pool, rows]), axis=0)
            yield rows
        self._barren = len(self._pool) == known

    def _try(self, n: int) -> IntMatrix:
        """Return those of `n` random rows and of a quarter as many mutants of the pool that keep the limits."""
        drawn = self._uniform(n)
        rows = np.vstack([drawn, offspring(self._space, self._pool, n // 4, self._rng, genes=2.0)])
        return rows[self.mask(rows)]

    def _uniform(self, n: int) -> IntMatrix:
        genes = len(self._space.cardinalities)
        return self._space.canonical(self._rng.integers(0, self._space.cardinalities, size=(n, genes)))

    def _cast(self, rows: IntMatrix) -> IntMatrix:
        """Return the closest of the rows and of blocks of random ones, up to the first block that keeps the limits."""
        for _ in range(self._blocks):
            rows = np.vstack([rows, self._uniform(_BLOCK)])
            excess = self._excess(rows)
            rows = rows[np.argsort(excess, kind="stable")[:_POOL]]
            if excess.min() == 0:
                break
        return rows

    def _excess(self, rows: IntMatrix) -> FloatVector:
        self._tries += len(rows)
        return self._limits.computed_excess(rows)

    def _evolve(self) -> IntMatrix:
        """Return a population after evolution towards less excess; it ends early once enough keep the limits."""
        corners = self._space.encode([self._space.smallest(), self._space.largest()])
        rows = self._rng.integers(0, self._space.cardinalities, size=(_START, corners.shape[1]))
        rows = np.vstack([corners, self._space.canonical(rows)])
        for _ in range(_GENERATIONS):
            excess = self._excess(rows)
            if np.count_nonzero(excess == 0) >= _POOL:
                break
            best = rows[np.argsort(excess, kind="stable")[:_POOL]]
            rows = np.unique(np.vstack([best, offspring(self._space, best, _START, self._rng, genes=2.0)]), axis=0)
        return rows

    def _closest(self, row: IntMatrix) -> str:
        architecture = self._space.decode(row)
        values = ", ".join(
            f"{o.name} {float(o.compute(architecture)[0]):.12g} {o.unit}".rstrip() for o in self._limits.analytic
        )
        tried = "" if self._small else f" found in {self._tries:,} tries"
        wanted = self._limits.describe()
        return f"no architecture of space {self._space.name!r}{tried} meets {wanted}; the closest found has {values}"
