"""The outcome of one evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nas_compress.space import Architecture


@dataclass(frozen=True)
class Trial:
    """One evaluated architecture.

    Attributes:
        architecture: In canonical form.
        values: The value of every metric in natural units; empty if the evaluation failed.
        error: Why it failed, else None.
        spreads: The uncertainty of values in the same units, for the metrics that have one.
        predicted: What the search went by, for metrics that were predicted in it and measured afterwards.
    """

    architecture: Architecture
    values: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    spreads: Mapping[str, float] = field(default_factory=dict)
    predicted: Mapping[str, float] = field(default_factory=dict)

    @property
    def searched(self) -> Mapping[str, float]:
        """The values that the search went by."""
        return {**self.values, **self.predicted}

    @property
    def ok(self) -> bool:
        """Whether every metric has a value."""
        return self.error is None
