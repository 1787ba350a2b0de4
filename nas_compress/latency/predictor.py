"""What predicts latency from a table, and how well it does."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nas_compress.errors import ConfigError
from nas_compress.latency.coverage import Coverage
from nas_compress.latency.table import LatencyTable, read_table
from nas_compress.predictors.base import FloatVector, scores
from nas_compress.records import differences, plain
from nas_compress.space import Architecture, SearchSpace

if TYPE_CHECKING:
    from nas_compress.supernets.base import Supernet


@dataclass(frozen=True)
class PredictionErrors:
    """How well latencies were predicted of sub-networks that the predictor had not seen.

    Attributes:
        subnets: How many.
        kendall_tau: Rank correlation of predicted and measured latencies.
        mape: Mean absolute error in % of the measured latency.
        std: Standard deviation of the errors, as a part of the measured latency.
    """

    subnets: int
    kendall_tau: float
    mape: float
    std: float

    @classmethod
    def of(cls, predicted: FloatVector, measured: FloatVector) -> PredictionErrors:
        """Return the errors of predictions, shape (n,), n >= 2."""
        both = scores(predicted, measured)
        return cls(len(measured), both.kendall_tau, both.mape, float(np.std(predicted / measured - 1, ddof=1)))

    def __str__(self) -> str:
        return (
            f"Kendall tau {self.kendall_tau:.3f}, mean error {self.mape:.2g} %, standard deviation of the errors "
            f"{100 * self.std:.2g} %, on {self.subnets} sub-networks"
        )


class LatencyPredictor(ABC):
    """Latencies of architectures from a table.

    Args:
        supernet: The super-network of the table.
        table: The measurements.

    Attributes:
        source: What is predicted from, in words.
        fewest_subnets: How many whole sub-networks of a space it wants to learn from.
        table: As given.
        errors: On the table's own sub-networks, each predicted from a fit to others; None where they are too few.

    Raises:
        ConfigError: The table is one of another super-network, or does not hold enough.
    """

    source: ClassVar[str]
    fewest_subnets: ClassVar[int]
    errors: PredictionErrors | None = None

    def __init__(self, supernet: Supernet, table: LatencyTable) -> None:
        changed = list(differences(table.conditions["supernet"], plain(supernet.describe(), "supernet")))
        if changed:
            raise ConfigError(f"the latency table is one of another super-network ({'; '.join(changed[:3])})")
        self._supernet = supernet
        self.table = table
        drawn = [each for each in table.finished if each.subnets >= self.fewest_subnets]
        self._learned_on = Coverage(supernet.space, drawn)

    @abstractmethod
    def predict(self, architectures: Sequence[Architecture]) -> FloatVector:
        """Return the latencies of architectures in ms, shape (n,).

        Raises:
            ConfigError: The table does not cover one of them.
        """

    def check_space(self, space: SearchSpace) -> None:
        """Raise `ConfigError` unless the table covers a space; the message says what is missing."""
        self._learned_on.check_space(space)

    def describe(self) -> dict[str, Any]:
        """Return what the predictions depend on, as plain data, in words where a reader is to see it."""
        from nas_compress.report.conditions import backend_text

        conditions = {name: value for name, value in self.table.conditions.items() if name not in ("kind", "supernet")}
        return {
            "predicted": f"from {self.source}; {backend_text(conditions)}",
            "error": "unknown" if self.errors is None else f"{self.errors} that were left out in turns",
            "table": {"fingerprint": self.table.fingerprint, "measured_on": conditions},
        }


def load_predictor(path: str | os.PathLike[str], supernet: Supernet) -> LatencyPredictor:
    """Return the predictor of a table: a look-up table if it holds blocks, else a learned one.

    Raises:
        ConfigError: The file is no latency table, is one of another super-network, or does not hold enough.
        ArchiveError: It is damaged.
    """
    from nas_compress.latency.learned import LearnedLatency
    from nas_compress.latency.lookup_table import LookupTable

    table = read_table(Path(path))
    try:
        return LookupTable(supernet, table) if table.blocks else LearnedLatency(supernet, table)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
