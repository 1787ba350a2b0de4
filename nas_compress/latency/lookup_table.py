"""Latency as a sum over the blocks of an architecture, corrected by what whole sub-networks show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nas_compress.errors import ConfigError
from nas_compress.latency.learned import FOLDS, latency_features
from nas_compress.latency.predictor import LatencyPredictor, PredictionErrors
from nas_compress.latency.table import LatencyTable
from nas_compress.predictors import Predictor, predictors
from nas_compress.predictors.base import FloatMatrix, FloatVector, deal_folds
from nas_compress.space import Architecture

if TYPE_CHECKING:
    from nas_compress.supernets.base import Supernet

FEWEST_SUBNETS = 5
"""Below so many measured sub-networks, the sums stay as they are."""

FEWEST_TO_LEARN = 10
"""Below so many, the line alone corrects them."""


class LookupTable(LatencyPredictor):
    """The sum of an architecture's blocks, each measured by itself, corrected by whole sub-networks.

    Every block was called by itself: what a call costs is taken off all but one. What blocks cost together but not
    alone, or alone but not together (changes of the memory layout, caches that hold one block's weights but not those
    of all), is then made up for twice: by slope and offset, of least relative squares over the measured sub-networks;
    and by a Gaussian process on genes, MACs and parameters that learns the logarithm of what is still off.

    Source of tables of blocks: Cai et al., 2019, "ProxylessNAS: Direct Neural Architecture Search on Target Task and
    Hardware", section 3.3.

    Attributes:
        raw_errors: Those of the sums themselves; None where no sub-network was measured.
    """

    source = "measured blocks"

    def __init__(self, supernet: Supernet, table: LatencyTable) -> None:
        super().__init__(supernet, table)
        if not table.blocks:
            raise ConfigError("the latency table holds no blocks, only whole sub-networks to learn from")
        self._own = {key: max(ms - table.empty_ms, 0.0) for key, ms in table.blocks.items()}
        self._features = latency_features(supernet)
        self._correction: _Correction | None = None
        self.raw_errors: PredictionErrors | None = None
        measured = np.array(list(table.subnets.values()))
        if len(measured) >= FEWEST_SUBNETS:
            architectures = list(table.subnets)
            self._calibrate(self.sums(architectures), self._rows(architectures), measured)

    @property
    def slope(self) -> float:
        """Milliseconds of the whole per millisecond of the sum."""
        return 1.0 if self._correction is None else self._correction.slope

    @property
    def offset_ms(self) -> float:
        """Milliseconds added to that."""
        return 0.0 if self._correction is None else self._correction.offset_ms

    def _calibrate(self, sums: FloatVector, rows: FloatMatrix, measured: FloatVector) -> None:
        """Fit the correction to whole sub-networks, and for the errors to a part of them, each part left out once."""
        self._correction = _Correction(sums, rows, measured)
        self.raw_errors = PredictionErrors.of(sums, measured)
        left_out = np.empty(len(sums))
        for part in deal_folds(len(sums), FOLDS, np.random.default_rng(0)):
            rest = np.setdiff1d(np.arange(len(sums)), part)
            left_out[part] = _Correction(sums[rest], rows[rest], measured[rest])(sums[part], rows[part])
        self.errors = PredictionErrors.of(left_out, measured)

    def predict(self, architectures: Sequence[Architecture]) -> FloatVector:
        """Return the latencies in ms, shape (n,); see the base class."""
        sums = self.sums(architectures)
        return sums if self._correction is None else self._correction(sums, self._rows(architectures))

    def _rows(self, architectures: Sequence[Architecture]) -> FloatMatrix:
        return self._features(self._supernet.space.encode(architectures))

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


class _Correction:
    """What makes sums latencies, learned from whole sub-networks.

    Args:
        sums: Sums over the blocks in ms, shape (n,).
        rows: Features, shape (n, f).
        measured: Latencies in ms, shape (n,).
    """

    def __init__(self, sums: FloatVector, rows: FloatMatrix, measured: FloatVector) -> None:
        self.slope, self.offset_ms = _line(sums, measured)
        self._rest: Predictor | None = None
        if len(sums) >= FEWEST_TO_LEARN:
            off = np.log(measured / (self.slope * sums + self.offset_ms))
            self._rest = predictors.get("gp")().fit(rows, off)

    def __call__(self, sums: FloatVector, rows: FloatMatrix) -> FloatVector:
        """Return latencies in ms, shape (n,)."""
        line = self.slope * sums + self.offset_ms
        return line if self._rest is None else line * np.exp(self._rest.predict_mean(rows))


def _line(sums: FloatVector, measured: FloatVector) -> tuple[float, float]:
    """Return slope and offset of least relative squares; through the origin where the slope would not be positive."""
    columns = np.column_stack([sums, np.ones(len(sums))]) / measured[:, None]
    (slope, offset), *_ = np.linalg.lstsq(columns, np.ones(len(sums)), rcond=None)
    if slope <= 0 or np.ptp(sums) == 0:
        return float(np.mean(measured) / np.mean(sums)), 0.0
    return float(slope), float(offset)
