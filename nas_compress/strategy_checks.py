"""Checks of options that a strategy or an algorithm of a user's own leaves without effect."""

from __future__ import annotations

from collections.abc import Iterator

from nas_compress.approaches import STRATEGY_OPTIONS, CommonOptions
from nas_compress.settings import Location, Problem, show


def own_strategy_problems(options: CommonOptions, here: Location) -> Iterator[Problem]:
    """Check that no option of the approach's strategy is set beside a strategy of one's own.

    Args:
        options: The options of the approach.
        here: Where they stand.
    """
    for name in STRATEGY_OPTIONS:
        field = type(options).model_fields.get(name)
        if field is not None and (given := getattr(options, name)) != field.default:
            reason = f"{show(given)} has no effect beside a strategy of your own"
            yield Problem((*here, name), f"{reason}; leave it out, and give it to the strategy")


def named_problems(algorithm: str | None, search: Location) -> Iterator[Problem]:
    """Check that no algorithm is named beside a strategy or an algorithm that is given as an object.

    Args:
        algorithm: `search_algorithm`.
        search: Where it stands.
    """
    if algorithm is not None:
        reason = f"{show(algorithm)} has no effect beside a strategy of your own"
        yield Problem((*search, "search_algorithm"), f"{reason}; leave it out")
