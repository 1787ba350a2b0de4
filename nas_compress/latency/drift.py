"""Taking the machine's changing speed out of measurements that were made in several sweeps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatVector = NDArray[np.float64]
IntVector = NDArray[np.int64]

WINDOW = 15
ROUNDS = 10


def without_drift(items: IntVector, ms: FloatVector) -> tuple[FloatVector, float]:
    """Return a time per item, and the scatter of single measurements around it.

    Measured times are taken for the product of the item's own time and the speed of the machine at that moment, which
    changes slowly. Both are estimated in turns: an item's time as the median over its measurements, the speed as the
    moving median, over neighbouring measurements, of what is left. Every item is so the reference of all others: that
    wants each measured several times, far apart, in orders of their own. Where items were measured once, their times
    are as they were measured.

    Args:
        items: The item of each measurement, in the order in which they were made, shape (n,); numbered from 0.
        ms: The measured times, shape (n,), above 0.

    Returns:
        The times, shape (items,), and the standard deviation of single measurements relative to them; NaN where no
        item was measured twice.
    """
    from scipy.ndimage import median_filter

    logs = np.log(ms)
    groups = [np.flatnonzero(items == item) for item in range(int(items.max()) + 1)]
    speed = np.zeros(len(logs))
    own = np.array([np.median(logs[group]) for group in groups])
    for _ in range(ROUNDS):
        speed = median_filter(logs - own[items], size=WINDOW, mode="nearest")
        speed -= np.median(speed)
        own = np.array([np.median((logs - speed)[group]) for group in groups])
    left = logs - speed - own[items]
    freedom = len(logs) - len(groups)
    return np.exp(own), float(np.sqrt(np.sum(left**2) / freedom)) if freedom else float("nan")
