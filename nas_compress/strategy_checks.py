"""Checks of options that an algorithm does not take, or that one of a user's own leaves without effect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nas_compress.approaches import (
    STRATEGY_OPTIONS,
    AlgorithmicOptions,
    CommonOptions,
    SearchOptions,
    approaches_with,
    default_algorithm,
)
from nas_compress.point_checks import point_problems
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


def named_problems(
    options: CommonOptions, algorithm: str | None, here: Location, search: Location
) -> Iterator[Problem]:
    """Check that no algorithm is named, nor given options, beside a strategy or an algorithm that is an object.

    Args:
        options: The options of the approach.
        algorithm: `search_algorithm`.
        here: Where the options stand.
        search: Where `search_algorithm` stands.
    """
    if algorithm is not None:
        reason = f"{show(algorithm)} has no effect beside a strategy of your own"
        yield Problem((*search, "search_algorithm"), f"{reason}; leave it out")
    for name in given_options(options):
        reason = "has no effect beside a strategy of your own"
        yield Problem((*here, "algorithm_options", name), f"{reason}; leave it out, and give it to the strategy")


def algorithm_option_problems(
    options: SearchOptions, approach: str, algorithm: str | None, here: Location
) -> Iterator[Problem]:
    """Check that an algorithm takes the options it is given.

    Args:
        options: The options of the approach.
        approach: Its name.
        algorithm: `search_algorithm`; None for the approach's default.
        here: Where the options stand.
    """
    from nas_compress.search import strategies

    name = algorithm or default_algorithm(options, approach)
    if name not in strategies or approach not in approaches_with("algorithm_options"):  # reported where it stands
        return
    known = strategies.entry(strategies.canonical(name)).info.get("options", ())
    where = (*here, "algorithm_options")
    for option in given_options(options):
        if option not in known:
            takers = [each for each in strategies if option in strategies.entry(each).info.get("options", ())]
            reason = f"goes with search_algorithm {', '.join(takers)} alone, which is {show(name)} here"
            yield Problem((*where, option), f"{reason}; {name} takes {', '.join(known) or 'none'}")
    for index, point in enumerate(given_options(options).get("references", [])):
        yield from point_problems(point, options, (*where, "references", index))


def given_options(options: CommonOptions) -> dict[str, Any]:
    """Return the options of the algorithm that are set."""
    given = options.algorithm_options if isinstance(options, AlgorithmicOptions) else None
    return {} if given is None else given.given()
