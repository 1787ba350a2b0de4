"""Values that the options of searches take: limits, points, predictors, plain data, options of algorithms."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from nas_compress.constraints import MULTIPLES
from nas_compress.settings import Location, Settings, show


def _limits(value: object) -> object:
    """Let a limit be a text or a list of texts; a bare number does not say on which side it lies."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise ValueError(f"{show(value)} is not a limit; write '<= {value}' or '>= {value}'")
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{show(value)} is not a limit; write '<= 300M', or a list of such texts")
    return value


def _number(value: object) -> object:
    """Let numbers be texts that end in k, M or G, as in limits."""
    match = re.fullmatch(r"\s*(\S*?\d\.?)\s*([kKMG])\s*", value) if isinstance(value, str) else None
    try:
        return float(match[1]) * MULTIPLES[match[2]] if match else value
    except ValueError:
        return value


def _predictors(value: object) -> object:
    names = list(value.items()) if isinstance(value, dict) else [value]
    if value is not None and not all(isinstance(n, (str, tuple)) and all(isinstance(x, str) for x in n) for n in names):
        raise ValueError(f"{show(value)} is not a predictor's name, nor a mapping of metrics to names")
    return value


def _plain(value: object) -> object:
    """Return an option of a dataset as a config file holds it: paths as texts; what no file can hold is refused."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError(f"{type(value).__name__} is not plain data; give what it was read from, or NAS(config, data=...)")


Constraints = dict[str, Annotated[str | list[str], BeforeValidator(_limits)]]
"""Limits per metric: a text, or a list of texts that must all be met."""

_Number = Annotated[float, BeforeValidator(_number, json_schema_input_type=float | str), Field(allow_inf_nan=False)]

Point = dict[str, _Number]
"""A value per metric, in natural units."""

Predictors = Annotated[str | dict[str, str] | None, BeforeValidator(_predictors)]

Plain = Annotated[Any, BeforeValidator(_plain)]
"""What a config file can hold."""

Probability = Annotated[float, Field(ge=0, le=1)]


class AlgorithmOptions(Settings):
    """Options of the algorithm that `search_algorithm` names; null = its own default."""

    where: ClassVar[Location] = ("algorithm_options",)

    crossover: Probability | None = Field(None, description="Probability that two parents mix their genes.")
    mutation: Probability | None = Field(None, description="Probability that a gene is drawn anew.")
    references: Annotated[list[Point], Field(min_length=1)] | None = Field(
        None, description="`rnsga2`: points to search near, a value per metric each."
    )
    epsilon: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        None, description="`rnsga2`: distance under which two individuals count as close, in parts of the first range."
    )
    neighbours: Annotated[int, Field(ge=2)] | None = Field(
        None, description="`moead`: sub-problems that share parents and children."
    )
    step: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="`cmaes`, `mocmaes`: first standard deviation, in parts of a gene's range."
    )

    def given(self) -> dict[str, Any]:
        """Return the options that are set."""
        return {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}
