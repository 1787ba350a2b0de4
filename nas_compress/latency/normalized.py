"""Latencies on a scale that tells nothing of the machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas_compress.errors import ConfigError


def normalized_latency(latencies: ArrayLike) -> NDArray[np.float64]:
    """Return (l - l_min) / l_max of latencies, shape (n,): 0 for the lowest, and below 1.

    Rankings stay as they are, and so do Pareto fronts.

    Source: Sarah et al., 2022, "A Hardware-Aware System for Accelerating Deep Neural Network Optimization", equation 2.

    Args:
        latencies: In one unit, shape (n,), n >= 1, finite and above 0.

    Raises:
        ConfigError: There is none, or one that is not finite or not above 0.
    """
    values = np.asarray(latencies, dtype=np.float64)
    if not len(values) or not np.all((values > 0) & np.isfinite(values)):
        raise ConfigError("latencies to normalize must be finite and above 0, one at least")
    return np.asarray((values - values.min()) / values.max(), dtype=np.float64)
