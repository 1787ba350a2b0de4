"""Latency as an objective that is predicted: searches compute it as they compute a count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nas_compress.errors import ConfigError
from nas_compress.latency.coverage import restriction
from nas_compress.latency.learned import FEWEST_SUBNETS
from nas_compress.latency.predictor import LatencyPredictor, load_predictor
from nas_compress.objectives.base import AnalyticObjective, Measurement
from nas_compress.records import differences, plain
from nas_compress.space import Architecture, SearchSpace

MOST_KNOWN = 500_000
"""Predictions to remember, at most."""

if TYPE_CHECKING:
    from torch import nn

    from nas_compress.latency.meter import LatencyMeter
    from nas_compress.supernets.base import Supernet


class PredictedLatency(AnalyticObjective):
    """Latency of one forward pass in ms, predicted from a table; the spread is the standard deviation of the errors.

    Its context says that it is predicted, from what, and how well, so that an archive never takes a prediction for a
    measurement.

    Args:
        predictor: Of the super-network that is searched.
    """

    name = "latency"
    direction = "minimize"
    unit = "ms"
    column = "Latency (ms)"

    def __init__(self, predictor: LatencyPredictor) -> None:
        self.predictor = predictor
        self._space: SearchSpace | None = None
        self._known: dict[bytes, float] = {}

    @classmethod
    def from_table(
        cls, path: Path, supernet: Supernet, meter: LatencyMeter, space: SearchSpace | None = None
    ) -> PredictedLatency:
        """Return the objective of a table that holds what a meter would measure.

        Args:
            path: The table.
            supernet: The super-network.
            meter: What would measure.
            space: What is searched; by default the super-network's whole space.

        Raises:
            ConfigError: The file is no latency table, is one of another super-network or of other conditions, does
                not hold enough, or does not cover the space.
            ArchiveError: It is damaged.
        """
        predictor = load_predictor(path, supernet)
        found = {k: v for k, v in predictor.table.conditions.items() if k not in ("kind", "supernet")}
        check_conditions(path, found, meter.describe())
        searched = supernet.space if space is None else space
        try:
            predictor.check_space(searched)
        except ConfigError as error:
            kind = "" if predictor.table.blocks else f" --learned {max(len(predictor.table.subnets), FEWEST_SUBNETS)}"
            raise ConfigError(
                f"{path}: {error}; add what is missing with: nas-compress build-lut {supernet.name} --out {path}{kind}"
                f"{restriction(searched, supernet.space)} (and backend, threads, batch, precision as before); what is "
                "there is not measured again"
            ) from None
        return cls(predictor)

    def compute(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """Return the predicted latencies in ms, shape (n,); see `AnalyticObjective.compute`."""
        return self.predictor.predict(architectures)

    def compute_encoded(self, space: SearchSpace, encoded: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the predicted latencies in ms, shape (n,); see `AnalyticObjective.compute_encoded`.

        Searches on predictions ask for the same rows many times: what was predicted is remembered.
        """
        if space is not self._space or len(self._known) > MOST_KNOWN:
            self._space, self._known = space, {}
        keys = [row.tobytes() for row in encoded.astype(np.uint16)]
        new = {key: row for key, row in zip(keys, encoded, strict=True) if key not in self._known}
        if new:
            predicted = self.compute(space.decode(np.array(list(new.values()))))
            self._known |= dict(zip(new, predicted.tolist(), strict=True))
        return np.array([self._known[key] for key in keys])

    def measure(self, subnet: nn.Module | None, architecture: Architecture) -> Measurement:
        """Return the predicted latency; the sub-network is not looked at."""
        value, errors = float(self.compute([architecture])[0]), self.predictor.errors
        return Measurement(value, None if errors is None else errors.std * value, {"predicted": True})

    def context(self) -> dict[str, Any]:
        """Return the super-network, the table with its conditions, and the error; see `Objective.context`."""
        table = self.predictor.table
        return {"supernet": dict(table.conditions["supernet"]), **self.predictor.describe()}


def check_conditions(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise `ConfigError` unless a table was measured on what is asked for."""
    changed = list(differences(found, plain(wanted, "conditions")))
    if changed:
        raise ConfigError(f"the latency table {path} was measured on something else ({'; '.join(changed[:5])})")
