"""Latency learned from whole sub-networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nas_compress.errors import ConfigError
from nas_compress.latency.predictor import LatencyPredictor, PredictionErrors
from nas_compress.latency.table import LatencyTable
from nas_compress.predictors import predictors
from nas_compress.predictors.base import FloatMatrix, FloatVector, deal_folds, out_of_fold
from nas_compress.space import Architecture

if TYPE_CHECKING:
    from nas_compress.predictors.features import Features
    from nas_compress.supernets.base import Supernet

FEWEST_SUBNETS = 10
FOLDS = 10
PREDICTOR = "gp"


def latency_features(supernet: Supernet) -> Features:
    """Return what a latency is learned from: genes, MACs and parameters."""
    from nas_compress.objectives.cost import Macs, Params
    from nas_compress.predictors.features import Features

    return Features(supernet.space, [Macs(supernet), Params(supernet)])


class LearnedLatency(LatencyPredictor):
    """A regression on genes, MACs and parameters, fitted to whole sub-networks.

    Args:
        supernet: The super-network of the table.
        table: The measurements.
        predictor: A registered predictor.
    """

    source = "measured sub-networks"
    fewest_subnets = FEWEST_SUBNETS

    def __init__(self, supernet: Supernet, table: LatencyTable, predictor: str = PREDICTOR) -> None:
        super().__init__(supernet, table)
        if len(table.subnets) < FEWEST_SUBNETS:
            count = len(table.subnets)
            raise ConfigError(f"the latency table holds {count} sub-networks; wants {FEWEST_SUBNETS} to learn from")
        self._features = latency_features(supernet)
        make = predictors.get(predictor)
        x, y = self._rows(list(table.subnets)), np.array(list(table.subnets.values()))
        left_out, _ = out_of_fold(make, x, y, deal_folds(len(y), FOLDS, np.random.default_rng(0)))
        self.errors = PredictionErrors.of(left_out, y)
        self._fitted = make().fit(x, y)

    def predict(self, architectures: Sequence[Architecture]) -> FloatVector:
        """Return the latencies in ms, shape (n,); see the base class."""
        encoded = self._supernet.space.encode(architectures)
        self._learned_on.check(encoded)
        return self._fitted.predict_mean(self._features(encoded))

    def _rows(self, architectures: Sequence[Architecture]) -> FloatMatrix:
        return self._features(self._supernet.space.encode(architectures))
