"""Strategies of a user's own: a subclass of `SearchStrategy`, anything that makes one, or an algorithm of pymoo's."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from nas_compress.approaches import PREDICTING
from nas_compress.errors import ConfigError
from nas_compress.search.base import SearchStrategy
from nas_compress.search.problem import SearchProblem

OwnStrategy = Callable[..., SearchStrategy] | Any
"""A callable `(problem, seed=, population=)` that makes a strategy, or a pymoo `Algorithm` object."""

_ADDRESS = re.compile(" at 0x[0-9a-fA-F]+")


def check_own(strategy: OwnStrategy) -> None:
    """Check that an object can serve as a strategy.

    Raises:
        ConfigError: It is neither callable nor a pymoo algorithm, or a strategy that is made already.
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


def _is_pymoo(strategy: object) -> bool:
    from pymoo.core.algorithm import Algorithm

    return isinstance(strategy, Algorithm)


def is_inner(strategy: OwnStrategy | None, approach: str) -> bool:
    """Return whether what `check_own` accepts searches on predictions: a pymoo algorithm, with such an approach."""
    return approach in PREDICTING and strategy is not None and not callable(strategy)


def make_own(strategy: OwnStrategy, problem: SearchProblem, *, seed: int, population: int) -> SearchStrategy:
    """Return a fresh strategy from what `check_own` accepts.

    Raises:
        ConfigError: What the callable made is no strategy.
    """
    if callable(strategy):
        made = strategy(problem, seed=seed, population=population)
        if not isinstance(made, SearchStrategy):
            raise ConfigError(f"strategy: {describe_own(strategy)} made a {type(made).__name__}, not a SearchStrategy")
        return made
    from nas_compress.search.evolutionary import Evolutionary

    return Evolutionary(problem, algorithm=strategy, seed=seed, population=population)


def describe_own(strategy: OwnStrategy) -> str:
    """Return a name that tells strategies apart, for the record of a search."""
    if isinstance(strategy, partial):
        named = (f"{name}={_described(value)}" for name, value in strategy.keywords.items())
        given = ", ".join([*map(_described, strategy.args), *named])
        return f"{describe_own(strategy.func)}({given})"
    kind = strategy if hasattr(strategy, "__qualname__") else type(strategy)
    return f"{kind.__module__}.{kind.__qualname__}"


def _described(value: object) -> str:
    """Return a text for a value that is the same in every process: without addresses in memory."""
    return _ADDRESS.sub("", repr(value))
