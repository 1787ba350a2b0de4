"""Regressions made of one member per fold of cross-validation, which chooses their hyper-parameters on the way."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np

from nas_compress.predictors.base import FloatMatrix, FloatVector, IntVector, Predictor, deal_folds

_FOLDS = 5
_SEED = 0


class Member(Protocol):
    """A fitted regression that was trained in stages."""

    def staged_predict(self, x: FloatMatrix) -> Iterator[FloatVector]:
        """Yield predictions, shape (n,), as of each stage."""


@dataclass(frozen=True)
class _Candidate:
    """Members with the same hyper-parameters, and how they did on the rows that each left out."""

    members: Sequence[Member]
    stage: int
    error: float


class Committee(Predictor):
    """The mean of members that each left out one fold; their errors there choose settings and stage.

    The variance is the members' mean squared error on what they left out, plus what they differ by.

    Source: Krogh and Vedelsby, 1995, "Neural network ensembles, cross validation, and active learning".
    """

    def _fit(self, x: FloatMatrix, y: FloatVector) -> None:
        folds = deal_folds(len(y), _FOLDS, np.random.default_rng(_SEED))
        candidates = (self._candidate(x, y, folds, settings) for settings in self._settings())
        self._best = min(candidates, key=lambda each: each.error)

    def _candidate(
        self, x: FloatMatrix, y: FloatVector, folds: Sequence[IntVector], settings: Mapping[str, Any]
    ) -> _Candidate:
        members, squares = [], []
        for seed, held_out in enumerate(folds):
            rest = np.setdiff1d(np.arange(len(y)), held_out)
            members.append(self._train(x[rest], y[rest], settings, seed))
            stages = np.array(list(members[-1].staged_predict(x[held_out])))
            squares.append((stages - y[held_out]) ** 2)
        errors = np.hstack(squares).mean(axis=1)
        stage = int(np.argmin(errors))
        return _Candidate(members, stage, float(errors[stage]))

    def _predict(self, x: FloatMatrix) -> tuple[FloatVector, FloatVector]:
        stage = self._best.stage
        each = np.array([next(islice(member.staged_predict(x), stage, None)) for member in self._best.members])
        return each.mean(axis=0), np.sqrt(self._best.error + each.var(axis=0))

    @abstractmethod
    def _settings(self) -> Sequence[Mapping[str, Any]]:
        """Return the hyper-parameters to choose from."""

    @abstractmethod
    def _train(self, x: FloatMatrix, y: FloatVector, settings: Mapping[str, Any], seed: int) -> Member:
        """Return a fitted member; every member has the same number of stages. There may be but one row."""
