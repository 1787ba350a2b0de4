"""Strategies of a user's own: a subclass of `SearchStrategy`, anything that makes one, or an algorithm of pymoo's."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from nas_compress.approaches import PREDICTING
from nas_compress.errors import ConfigError
from nas_compress.search.base import SearchStrategy, check_asked
from nas_compress.search.problem import Limits, SearchProblem
from nas_compress.search.trial import Trial
from nas_compress.space import Architecture

OwnStrategy = Callable[..., SearchStrategy] | Any
"""A callable `(problem, seed=, population=)` that makes a strategy, or a pymoo `Algorithm` object."""

_ROUNDS = 100
"""How often in a row a strategy may ask for nothing but what it knows."""

_ADDRESS = re.compile(" at 0x[0-9a-fA-F]+")


def check_own(strategy: OwnStrategy) -> None:
    """Check that an object can serve as a strategy.

    Raises:
        ConfigError: It is neither callable nor a pymoo algorithm, cannot be called as it will be, or is a strategy that
            is made already.
    """
    if isinstance(strategy, SearchStrategy):
        name = type(strategy).__name__
        raise ConfigError(f"strategy: a {name} object is given; give the class: every start of a search makes its own")
    if isinstance(strategy, type) and not issubclass(strategy, SearchStrategy):
        raise ConfigError(f"strategy: class {strategy.__name__} is no subclass of SearchStrategy")
    if not callable(strategy) and not _is_pymoo(strategy):
        raise ConfigError(
            f"strategy: {type(strategy).__name__} object is given; wants a subclass of SearchStrategy, a function "
            "(problem, seed=, population=) that makes one, or a pymoo algorithm"
        )
    if isinstance(strategy, type) and inspect.isabstract(strategy):
        lacking = ", ".join(sorted(getattr(strategy, "__abstractmethods__", ())))
        raise ConfigError(f"strategy: class {strategy.__name__} lacks {lacking}")
    if callable(strategy):
        _check_call(strategy)


def _check_call(strategy: Callable[..., Any]) -> None:
    try:
        signature = inspect.signature(strategy)
    except ValueError:  # some callables do not tell
        return
    try:
        signature.bind(None, seed=0, population=1)
    except TypeError as error:
        raise ConfigError(
            f"strategy: {describe_own(strategy)}{signature} cannot be called as (problem, seed=, population=): {error}"
        ) from None


def _is_pymoo(strategy: object) -> bool:
    from pymoo.core.algorithm import Algorithm

    return isinstance(strategy, Algorithm)


def is_inner(strategy: OwnStrategy | None, approach: str) -> bool:
    """Return whether what `check_own` accepts searches on predictions: a pymoo algorithm, with such an approach."""
    return approach in PREDICTING and strategy is not None and not callable(strategy)


def make_own(strategy: OwnStrategy, problem: SearchProblem, *, seed: int, population: int) -> SearchStrategy:
    """Return a fresh strategy from what `check_own` accepts; one that a callable makes is a `Guest`.

    Raises:
        ConfigError: What the callable made is no strategy.
    """
    if callable(strategy):
        made = strategy(problem, seed=seed, population=population)
        if not isinstance(made, SearchStrategy):
            raise ConfigError(f"strategy: {describe_own(strategy)} made a {type(made).__name__}, not a SearchStrategy")
        return Guest(problem, made)
    from nas_compress.search.evolutionary import Evolutionary

    return Evolutionary(problem, algorithm=strategy, seed=seed, population=population)


class Guest(SearchStrategy):
    """A strategy of a user's own, which need not know of `first`, nor remember what it asked for.

    What the problem asks for first, and the largest architecture where limits refer to it, comes first. What is known
    is answered from memory; when the strategy asks for nothing else, many times in a row, the search ends.

    Args:
        problem: See `SearchStrategy`.
        own: The strategy.
    """

    def __init__(self, problem: SearchProblem, own: SearchStrategy) -> None:
        super().__init__(problem)
        self._own = own
        first = [*problem.first, *([self.space.largest()] if Limits(problem).waits_for_largest else [])]
        self._first = list(dict.fromkeys(self.space.canonicalize(each) for each in first))
        self._known: dict[Architecture, Trial] = {}
        self._asked: list[Architecture] = []

    def ask(self, n: int) -> list[Architecture]:
        """See `SearchStrategy.ask`."""
        if self._first:
            chosen, self._first = self._first[:n], self._first[n:]
            return chosen
        for _ in range(_ROUNDS):
            self._asked = [self.space.canonicalize(each) for each in check_asked(self._own, self._own.ask(n), n)]
            if fresh := [each for each in dict.fromkeys(self._asked) if each not in self._known]:
                return fresh
            if not self._asked:
                break
            self._own.tell([self._known[each] for each in self._asked])
        self._asked = []
        return []

    def tell(self, trials: Sequence[Trial]) -> None:
        """See `SearchStrategy.tell`."""
        self._known.update((trial.architecture, trial) for trial in trials)
        if self._asked:
            self._own.tell([self._known[each] for each in self._asked])

    def summary(self) -> dict[str, Any]:
        """See `SearchStrategy.summary`."""
        return self._own.summary()


def describe_own(strategy: OwnStrategy) -> str:
    """Return a name that tells strategies apart, for the record of a search."""
    if isinstance(strategy, partial):
        return f"{describe_own(strategy.func)}({describe_arguments(strategy)})"
    kind = strategy if hasattr(strategy, "__qualname__") else type(strategy)
    sizes = ((name, getattr(strategy, name, None)) for name in ("pop_size", "n_offsprings") if _is_pymoo(strategy))
    given = ", ".join(f"{name}={size}" for name, size in sizes if size is not None)
    return f"{kind.__module__}.{kind.__qualname__}" + (f"({given})" if given else "")


def describe_arguments(bound: partial[Any]) -> str:
    """Return the arguments that a function is bound to, as a text that is the same in every process."""
    named = (f"{name}={_described(value)}" for name, value in bound.keywords.items())
    return ", ".join([*map(_described, bound.args), *named])


def _described(value: object) -> str:
    """Return a text for a value that is the same in every process: without addresses in memory."""
    return _ADDRESS.sub("", repr(value))
