"""Latency as a sum over the blocks of an architecture, corrected by what whole sub-networks show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nas_compress.errors import ConfigError
from nas_compress.latency.blocks import distinct_blocks
from nas_compress.latency.coverage import Coverage
from nas_compress.latency.drift import IntVector
from nas_compress.latency.learned import FOLDS, latency_features
from nas_compress.latency.predictor import LatencyPredictor, PredictionErrors
from nas_compress.latency.table import LatencyTable
from nas_compress.predictors import Predictor, predictors
from nas_compress.predictors.base import FloatMatrix, FloatVector, deal_folds
from nas_compress.space import Architecture, SearchSpace

if TYPE_CHECKING:
    from nas_compress.supernets.base import Supernet

FEWEST_SUBNETS = 5
"""Below so many measured sub-networks, the sums stay as they are."""

FEWEST_TO_LEARN = 10
"""Below so many, a straight line over the sums alone corrects them."""


class LookupTable(LatencyPredictor):
    """The sum of an architecture's blocks, each measured by itself, corrected by whole sub-networks.

    Every block was called by itself: what a call costs is taken off all but one. What blocks cost together but not
    alone, or alone but not together, is then made up for twice: by a plane over the sums and the numbers of parameters,
    of least relative squares over the measured sub-networks (a block by itself finds its weights in the cache, the
    whole fetches them anew); and by a Gaussian process on genes, MACs and parameters that learns the logarithm of what
    is still off, such as changes of the memory layout.

    Source of tables of blocks: Cai et al., 2019, "ProxylessNAS: Direct Neural Architecture Search on Target Task and
    Hardware", section 3.3.

    Attributes:
        raw_errors: Those of the sums themselves; None where no sub-network was measured.
    """

    source = "measured blocks"
    fewest_subnets = FEWEST_SUBNETS

    def __init__(self, supernet: Supernet, table: LatencyTable) -> None:
        from nas_compress.objectives.cost import Params

        super().__init__(supernet, table)
        if not table.blocks:
            raise ConfigError("the latency table holds no blocks, only whole sub-networks to learn from")
        self._own = {key: max(ms - table.empty_ms, 0.0) for key, ms in table.blocks.items()}
        self._features = latency_features(supernet)
        self._params = Params(supernet)
        self._correction: _Correction | None = None
        self.raw_errors: PredictionErrors | None = None
        whole = [each for each in table.subnets if self._own.keys() >= set(self._keys(each))]
        if len(whole) >= FEWEST_SUBNETS:
            self._calibrate(self._seen(whole), np.array([table.subnets[each] for each in whole]))

    @property
    def plane(self) -> Plane:
        """What makes a sum a latency, before what a Gaussian process learned."""
        return Plane() if self._correction is None else self._correction.plane

    def _calibrate(self, seen: _Seen, measured: FloatVector) -> None:
        """Fit the correction to whole sub-networks, and for the errors to a part of them, each part left out once."""
        self._correction = _Correction(seen, measured)
        self.raw_errors = PredictionErrors.of(seen.sums, measured)
        left_out = np.empty(len(measured))
        for part in deal_folds(len(measured), FOLDS, np.random.default_rng(0)):
            rest = np.setdiff1d(np.arange(len(measured)), part)
            left_out[part] = _Correction(seen.take(rest), measured[rest])(seen.take(part))
        self.errors = PredictionErrors.of(left_out, measured)

    def predict(self, architectures: Sequence[Architecture]) -> FloatVector:
        """Return the latencies in ms, shape (n,); see the base class."""
        seen = self._seen(architectures)
        if self._correction is None:
            return seen.sums
        self._learned_on.check(self._supernet.space.encode(architectures))
        return self._correction(seen)

    def check_space(self, space: SearchSpace) -> None:
        """Raise `ConfigError` unless the table holds all blocks of a space, and sub-networks of it; see the base."""
        with_blocks = [each for each in self.table.finished if each.blocks]
        try:
            Coverage(self._supernet.space, with_blocks).check_space(space)
        except ConfigError:
            self._check_blocks(space)
        if self._correction is not None:
            super().check_space(space)

    def _check_blocks(self, space: SearchSpace) -> None:
        """Raise `ConfigError` if a block of a space is missing, however the table came about."""
        keys = list(distinct_blocks(self._supernet, space, np.random.default_rng(0)))
        if missing := [key for key in keys if key not in self._own]:
            raise ConfigError(
                f"the latency table lacks {len(missing)} of the {len(keys)} blocks of what is searched, the first of "
                f"them {missing[0]!r}; it is unfinished or of a smaller space"
            )

    def _seen(self, architectures: Sequence[Architecture]) -> _Seen:
        space = self._supernet.space
        rows = space.encode(architectures)
        return _Seen(self.sums(architectures), self._params.compute_encoded(space, rows) / 1e6, self._features(rows))

    def sums(self, architectures: Sequence[Architecture]) -> FloatVector:
        """Return the sums over the blocks in ms, shape (n,), one call's cost added; raises as `predict` does."""
        return np.array([self._sum(architecture) for architecture in architectures])

    def _keys(self, architecture: Architecture) -> list[str]:
        return [block.key for block in self._supernet.blocks(architecture)]

    def _sum(self, architecture: Architecture) -> float:
        keys = self._keys(architecture)
        if missing := next((key for key in keys if key not in self._own), None):
            raise ConfigError(
                f"the latency table lacks the block {missing!r}; it is unfinished or of a smaller space: run "
                "nas-compress build-lut for the whole of what is searched"
            )
        return sum(self._own[key] for key in keys) + self.table.empty_ms


@dataclass(frozen=True)
class Plane:
    """A latency from a sum over blocks and a number of parameters.

    Attributes:
        slope: Milliseconds of the whole per millisecond of the sum.
        ms_per_million: Milliseconds per million parameters, not below 0.
        offset_ms: Milliseconds added.
    """

    slope: float = 1.0
    ms_per_million: float = 0.0
    offset_ms: float = 0.0

    @classmethod
    def fitted(cls, sums: FloatVector, millions: FloatVector, measured: FloatVector) -> Plane:
        """Return the plane of least relative squares, without a term that would take time away.

        Args:
            sums: Sums over the blocks in ms, shape (n,).
            millions: Parameters in millions, shape (n,).
            measured: Latencies in ms, shape (n,).
        """
        one = np.ones(len(sums))
        if len(measured) >= FEWEST_TO_LEARN:
            slope, per_million, offset = _least_relative_squares([sums, millions, one], measured)
            if slope > 0 and per_million > 0:
                return cls(slope, per_million, offset)
        slope, offset = _least_relative_squares([sums, one], measured)
        if slope > 0 and np.ptp(sums) > 0:
            return cls(slope, 0.0, offset)
        return cls(float(np.mean(measured) / np.mean(sums)))

    def __call__(self, sums: FloatVector, millions: FloatVector) -> FloatVector:
        """Return latencies in ms, shape (n,)."""
        return self.slope * sums + self.ms_per_million * millions + self.offset_ms

    def __str__(self) -> str:
        """Return the formula."""
        weights = f" + {self.ms_per_million:.3g} ms per million parameters" if self.ms_per_million else ""
        return f"sum of blocks x {self.slope:.3f}{weights} + {self.offset_ms:.3g} ms"


def _least_relative_squares(columns: Sequence[FloatVector], measured: FloatVector) -> list[float]:
    scaled = np.column_stack(columns) / measured[:, None]
    found, *_ = np.linalg.lstsq(scaled, np.ones(len(measured)), rcond=None)
    return [float(each) for each in found]


@dataclass(frozen=True)
class _Seen:
    """What is known of architectures before they are measured.

    Attributes:
        sums: Sums over the blocks in ms, shape (n,).
        millions: Parameters in millions, shape (n,).
        rows: Features, shape (n, f).
    """

    sums: FloatVector
    millions: FloatVector
    rows: FloatMatrix

    def take(self, which: IntVector) -> _Seen:
        return _Seen(self.sums[which], self.millions[which], self.rows[which])


class _Correction:
    """What makes sums latencies, learned from whole sub-networks: latencies `measured` in ms, shape (n,)."""

    def __init__(self, seen: _Seen, measured: FloatVector) -> None:
        self.plane = Plane.fitted(seen.sums, seen.millions, measured)
        self._rest: Predictor | None = None
        if len(measured) >= FEWEST_TO_LEARN:
            off = np.log(measured / self.plane(seen.sums, seen.millions))
            self._rest = predictors.get("gp")().fit(seen.rows, off)

    def __call__(self, seen: _Seen) -> FloatVector:
        """Return latencies in ms, shape (n,)."""
        plane = self.plane(seen.sums, seen.millions)
        return plane if self._rest is None else plane * np.exp(self._rest.predict_mean(seen.rows))
