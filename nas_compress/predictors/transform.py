"""A monotone transform of targets under which a linear model errs least."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import boxcox1p, inv_boxcox1p
from sklearn.linear_model import RidgeCV

from nas_compress.predictors.base import FloatMatrix, FloatVector, evenly_spaced

POWERS = (0.0, 0.5, 1.0, 1.5, 2.0)
"""The powers that are tried: below 1 for a long upper tail, above 1 for a long lower one, 1 for none."""

_IDENTITY = POWERS.index(1.0)
_PENALTIES = np.logspace(-2, 3, 11)
_FEWEST_ROWS = 10
_MOST_ROWS = 500
_MARGIN = 2.0
_FURTHEST = 10.0
_OUTERMOST = 1e30
_NORMAL_QUARTILES = 1.349


@dataclass(frozen=True)
class TargetTransform:
    """Yeo and Johnson's power transform of values relative to their median and quartiles, then standardised.

    An affine change of the values, a change of sign included, changes nothing in what comes out but the sign.

    Source: Yeo and Johnson, 2000, "A new family of power transformations to improve normality or symmetry".

    Attributes:
        centre: What is subtracted from the values.
        scale: What they are then divided by.
        power: The power of the transform, 0 to 2.
        mean: Mean of the transformed values at fitting.
        std: Their standard deviation.
    """

    centre: float
    scale: float
    power: float
    mean: float
    std: float

    def __call__(self, y: FloatVector) -> FloatVector:
        """Return standardised targets of values, shape (n,) both."""
        return (_power((y - self.centre) / self.scale, self.power) - self.mean) / self.std

    def inverse(self, targets: FloatVector) -> FloatVector:
        """Return the values of standardised targets, shape (n,) both.

        Predictions that lie absurdly far out are drawn in first where a power would carry them off to infinity.
        """
        if self.power != 1:
            targets = np.clip(targets, -_FURTHEST, _FURTHEST)
        return self.centre + self.scale * _inverse_power(self.mean + self.std * targets, self.power)


def choose_transform(x: FloatMatrix, y: FloatVector) -> TargetTransform:
    """Return the transform that makes the values most likely under ridge regression, left-out row by left-out row.

    The likelihood is that of normal errors, with the transform's derivative, so that transforms compare. Few rows,
    and gains too small to be told from chance, leave the values as they are. Of long tables, evenly spaced rows serve.

    Source: Box and Cox, 1964, "An analysis of transformations", with leave-one-out errors for the residuals.

    Args:
        x: Features, shape (n, f).
        y: Values, shape (n,), not all equal.
    """
    some = evenly_spaced(len(y), _MOST_ROWS)
    centre, scale = _location(y)
    if len(y) < _FEWEST_ROWS or np.ptp(y[some]) == 0:
        return _fitted(y, centre, scale, 1.0)
    z = (y[some] - centre) / scale
    candidates = np.column_stack([_power(z, power) for power in POWERS])
    spread = candidates.std(axis=0)
    targets = (candidates - candidates.mean(axis=0)) / spread
    ridge = RidgeCV(_PENALTIES, alpha_per_target=True).fit(x[some], targets)
    errors = np.maximum(-ridge.best_score_, np.finfo(float).eps) * spread**2
    slopes = np.sum(np.sign(z) * np.log1p(np.abs(z)))
    likelihoods = -0.5 * len(z) * np.log(errors) + (np.array(POWERS) - 1) * slopes
    best = int(np.argmax(likelihoods))
    clear = likelihoods[best] > likelihoods[_IDENTITY] + _MARGIN
    return _fitted(y, centre, scale, POWERS[best] if clear else 1.0)


def _fitted(y: FloatVector, centre: float, scale: float, power: float) -> TargetTransform:
    transformed = _power((y - centre) / scale, power)
    return TargetTransform(centre, scale, power, float(np.mean(transformed)), float(np.std(transformed)))


def _location(y: FloatVector) -> tuple[float, float]:
    """Return the median, and the distance of the quartiles as a standard deviation, or that itself if they meet."""
    low, middle, high = np.percentile(y, [25, 50, 75])
    return float(middle), float((high - low) / _NORMAL_QUARTILES or np.std(y))


def _power(z: FloatVector, power: float) -> FloatVector:
    z = np.clip(z, -_OUTERMOST, _OUTERMOST)  # squares of what lies further out cannot be added up
    above, below = np.maximum(z, 0.0), np.maximum(-z, 0.0)
    return np.asarray(boxcox1p(above, power) - boxcox1p(below, 2 - power), dtype=np.float64)


def _inverse_power(t: FloatVector, power: float) -> FloatVector:
    above, below = np.maximum(t, 0.0), np.maximum(-t, 0.0)
    return np.asarray(inv_boxcox1p(above, power) - inv_boxcox1p(below, 2 - power), dtype=np.float64)
