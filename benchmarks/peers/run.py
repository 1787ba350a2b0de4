"""What a peer is given and what it returns; how its evaluations are answered, counted and timed."""

from __future__ import annotations

import contextlib
import io
import logging
import random
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nas_compress.objectives import Direction, objectives
from nas_compress.search import pareto
from nas_compress.space import Architecture, SearchSpace

FloatMatrix = NDArray[np.float64]


class Problem(Protocol):
    """What a peer is asked to search: a space, and the values of its architectures."""

    space: SearchSpace

    def values(self, metric: str, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """Return the values of a metric in its natural unit, shape (n,)."""


@dataclass(frozen=True)
class PeerRun:
    """What a search evaluated, and what it took besides.

    Attributes:
        architectures: The canonical architectures in the order of evaluation. One that the peer asks for again is
            there again: a repeat costs an evaluation, as in the peers' own accounting.
        own_cpu_s: CPU seconds of the whole search but its evaluations, what it did after the last one included.
        clock: CPU seconds of its own that the search had taken when it asked for each evaluation, shape (n,).
    """

    architectures: list[Architecture]
    own_cpu_s: float
    clock: NDArray[np.float64]


Peer = Callable[[Problem, Sequence[str], int, int, int], PeerRun]


class Evaluations:
    """Answers a search's evaluations, and notes what it asked for and when, by the CPU's clock.

    Args:
        problem: What is searched.
        metrics: Registered names of its objectives.
    """

    def __init__(self, problem: Problem, metrics: Sequence[str]) -> None:
        self.problem, self.metrics = problem, tuple(metrics)
        self.latest: dict[str, float] = {}
        self._asked: list[Architecture] = []
        self._clock: list[float] = []
        self._answering = 0.0
        self._start = time.process_time()

    @property
    def directions(self) -> list[Direction]:
        """The direction of each metric."""
        return [objectives.entry(metric).info["direction"] for metric in self.metrics]

    def __call__(self, architectures: Sequence[Architecture]) -> FloatMatrix:
        """Return the values of architectures in natural units, shape (n, metrics)."""
        start = time.process_time()
        self._clock += [start - self._start - self._answering] * len(architectures)
        asked = self.problem.space.decode(self.problem.space.encode(architectures))
        values = np.column_stack([self.problem.values(metric, asked) for metric in self.metrics])
        self._asked += asked
        self.latest = dict(zip(self.metrics, values[-1].tolist(), strict=True))
        self._answering += time.process_time() - start
        return values

    def costs(self, encoded: NDArray[np.int64]) -> FloatMatrix:
        """Return what is minimised for choice indices of shape (n, genes), shape (n, metrics)."""
        return pareto.costs(self(self.problem.space.decode(encoded)), self.directions)

    def finish(self, budget: int) -> PeerRun:
        """Return the run, of at most `budget` evaluations."""
        own = time.process_time() - self._start - self._answering
        return PeerRun(self._asked[:budget], own, np.array(self._clock[:budget]))


@contextlib.contextmanager
def quiet(seed: int) -> Iterator[None]:
    """Silence prints, logs and warnings; seed the global generators that a peer may use, and restore them."""
    python, numpy, disabled = random.getstate(), np.random.get_state(), logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    random.seed(seed)
    np.random.seed(seed)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        random.setstate(python)
        np.random.set_state(numpy)
