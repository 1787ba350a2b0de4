"""Architectures that keep limits on computed metrics, found in a bounded number of tries."""

from __future__ import annotations

from collections.abc import Set

import numpy as np
from numpy.typing import NDArray

from nas_compress.errors import InfeasibleError
from nas_compress.search.problem import FloatVector, Limits
from nas_compress.search.variation import offspring
from nas_compress.space import SearchSpace
from nas_compress.space.search_space import IntMatrix

SMALL = 2**14
"""Spaces of up to this many sub-networks are gone through one by one."""

_POOL, _START, _GENERATIONS, _ROUNDS, _DRAWS = 64, 256, 60, 20, 1024


class Feasible:
    """The part of a space that keeps the limits on computed metrics.

    A small space is enumerated. In a large one, feasible architectures are first looked for by evolution on the
    excess alone; random draws and mutants of what was found then supply more.

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
        rows = np.array(list(space.enumerate())) if self._small else self._evolve()
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

        There are fewer where no more are left or, in a large space, found in a bounded number of rounds.
        """
        if self._small:
            left = np.array([row.tobytes() not in seen for row in self._pool], dtype=bool)
            return self._rng.permutation(self._pool[left])[: max(n, 0)]
        found: dict[bytes, IntMatrix] = {}
        for _ in range(_ROUNDS):
            if len(found) >= n:
                break
            drawn = self._rng.integers(0, self._space.cardinalities, size=(_DRAWS, self._pool.shape[1]))
            near = offspring(self._space, self._pool, _DRAWS // 4, self._rng, genes=2.0)
            rows = np.vstack([self._space.canonical(drawn), near])
            found |= {key: row for row in rows[self.mask(rows)] if (key := row.tobytes()) not in seen}
        return np.array(list(found.values())[: max(n, 0)], dtype=np.int64).reshape(-1, self._pool.shape[1])

    def _excess(self, rows: IntMatrix) -> FloatVector:
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
            f"{o.name} {float(o.compute(architecture)[0]):.6g} {o.unit}".rstrip() for o in self._limits.analytic
        )
        wanted = self._limits.describe()
        return f"no architecture of space {self._space.name!r} meets {wanted}; the closest found has {values}"
