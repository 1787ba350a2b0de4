"""Latency as a sum over the blocks of an architecture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nas_compress.errors import ConfigError
from nas_compress.latency.predictor import LatencyPredictor, PredictionErrors
from nas_compress.latency.table import LatencyTable
from nas_compress.predictors.base import FloatVector
from nas_compress.space import Architecture

if TYPE_CHECKING:
    from nas_compress.supernets.base import Supernet

FEWEST_SUBNETS = 5
"""Below so many measured sub-networks, the sums stay as they are."""


class LookupTable(LatencyPredictor):
    """The sum of an architecture's blocks, each measured by itself, with a straight line through whole sub-networks.

    Every block was called by itself: what a call costs is taken off all but one. What blocks cost together but not
    alone, or alone but not together (changes of the memory layout, caches that hold one block's weights but not those
    of all), is then made up for by slope and offset, of least relative squares over the measured sub-networks.

    Source of tables of blocks: Cai et al., 2019, "ProxylessNAS: Direct Neural Architecture Search on Target Task and
    Hardware", section 3.3.

    Attributes:
        slope: Milliseconds of the whole per millisecond of the sum.
        offset_ms: Milliseconds added to that.
        raw_errors: Those of the sums themselves; None where no sub-network was measured.
    """

    source = "measured blocks"

    def __init__(self, supernet: Supernet, table: LatencyTable) -> None:
        super().__init__(supernet, table)
        if not table.blocks:
            raise ConfigError("the latency table holds no blocks, only whole sub-networks to learn from")
        self._own = {key: max(ms - table.empty_ms, 0.0) for key, ms in table.blocks.items()}
        self.slope, self.offset_ms = 1.0, 0.0
        self.raw_errors: PredictionErrors | None = None
        if len(table.subnets) >= FEWEST_SUBNETS:
            self._calibrate(self.sums(list(table.subnets)), np.array(list(table.subnets.values())))

    def _calibrate(self, sums: FloatVector, measured: FloatVector) -> None:
        """Fit the line to whole sub-networks, and each of them by one to the others."""
        self.slope, self.offset_ms = _line(sums, measured)
        self.raw_errors = PredictionErrors.of(sums, measured)
        left_out = np.empty(len(sums))
        for i, total in enumerate(sums):
            slope, offset = _line(np.delete(sums, i), np.delete(measured, i))
            left_out[i] = slope * total + offset
        self.errors = PredictionErrors.of(left_out, measured)

    def predict(self, architectures: Sequence[Architecture]) -> FloatVector:
        """Return the latencies in ms, shape (n,); see the base class."""
        return self.slope * self.sums(architectures) + self.offset_ms

    def sums(self, architectures: Sequence[Architecture]) -> FloatVector:
        """Return the sums over the blocks in ms, shape (n,), one call's cost added; raises as `predict` does."""
        return np.array([self._sum(architecture) for architecture in architectures])

    def _sum(self, architecture: Architecture) -> float:
        keys = [block.key for block in self._supernet.blocks(architecture)]
        if missing := next((key for key in keys if key not in self._own), None):
            raise ConfigError(
                f"the latency table lacks the block {missing!r}; it is unfinished or of a smaller space: run "
                "nas-compress build-lut for the whole of what is searched"
            )
        return sum(self._own[key] for key in keys) + self.table.empty_ms


def _line(sums: FloatVector, measured: FloatVector) -> tuple[float, float]:
    """Return slope and offset of least relative squares; through the origin where the slope would not be positive."""
    columns = np.column_stack([sums, np.ones(len(sums))]) / measured[:, None]
    (slope, offset), *_ = np.linalg.lstsq(columns, np.ones(len(sums)), rcond=None)
    if slope <= 0 or np.ptp(sums) == 0:
        return float(np.mean(measured) / np.mean(sums)), 0.0
    return float(slope), float(offset)
