"""OFA MobileNetV3 on ImageNet at 224 pixels: accuracies that a published or a fitted model predicts, exact costs."""

from __future__ import annotations

from abc import abstractmethod
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nas_compress.errors import DataError
from nas_compress.replay.base import FloatVector, IntMatrix, Replay
from nas_compress.replay.catalog import OFA_MBV3, OFA_MBV3_MEASURED, OFA_MBV3_W1_2
from nas_compress.replay.files import read_arrays, read_json, read_table
from nas_compress.replay.regression import FittedReplay, SmoothRegression
from nas_compress.space import Architecture
from nas_compress.supernets import mobilenet_config
from nas_compress.supernets.mobilenet_config import MobileNetConfig
from nas_compress.supernets.mobilenet_cost import BoolMatrix, MobileNetCost, Slot, slot_total

RESOLUTION = 224


class MobileNetReplay(Replay):
    """What the problems on OFA's MobileNetV3 have in common: the space at one resolution, and exact costs."""

    config: ClassVar[MobileNetConfig] = mobilenet_config.OFA_MBV3_W1_0

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder)
        self._cost = MobileNetCost(self.config, RESOLUTION)

    def _slots(self, encoded: IntMatrix) -> tuple[IntMatrix, IntMatrix, BoolMatrix]:
        """Return the choices of kernel size and expand ratio of each slot, and whether it is used."""
        slots = len(self._cost.slots)
        active = self.space.active(encoded)[:, :slots]
        return encoded[:, :slots], encoded[:, slots : 2 * slots], active

    def _compute(self, metric: str, encoded: IntMatrix) -> NDArray[Any]:
        if metric == "macs":
            return self._cost.macs(*self._slots(encoded))
        if metric == "params":
            return self._cost.params(*self._slots(encoded))
        return self._accuracy(encoded)

    @abstractmethod
    def _accuracy(self, encoded: IntMatrix) -> FloatVector:
        """Return top-1 accuracies in %, shape (n,)."""


class OfaMobileNetV3(MobileNetReplay):
    """OFA's published accuracy predictor with the exact costs of the net of width 1.0 (Cai et al., 2020).

    The predictor ranks the sub-networks of that net well, but its values are too high: OFA's tutorial, which it comes
    with, is about width 1.2.

    Args:
        folder: The folder of published data.
    """

    description = OFA_MBV3
    conditions: ClassVar = {
        "acc": {
            "dataset": "ImageNet",
            "model": "OFA's published predictor, a perceptron with 3 hidden layers of 400 units",
        }
    }

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder)
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, inputs, outputs in ((0, 128, 400), (2, 400, 400), (4, 400, 400), (6, 400, 1)):
            shapes |= {f"{layer}.weight": (outputs, inputs), f"{layer}.bias": (outputs,)}
        weights = read_arrays(self.paths[0], shapes)
        self._layers = [(weights[f"{i}.weight"].T, weights[f"{i}.bias"]) for i in (0, 2, 4, 6)]

    def _accuracy(self, encoded: IntMatrix) -> FloatVector:
        kernels, ratios, active = self._slots(encoded)
        chosen = [(g[:, :, None] == np.arange(3)) & active[:, :, None] for g in (kernels, ratios)]
        resolution = np.tile(np.arange(8) == (RESOLUTION - 112) // 16, (len(encoded), 1))
        x = np.hstack([*(c.reshape(len(encoded), 60) for c in chosen), resolution]).astype(np.float32)
        for weight, bias in self._layers[:-1]:
            x = np.maximum(x @ weight + bias, 0)
        weight, bias = self._layers[-1]
        return np.asarray(100 * (x @ weight + bias)[:, 0], dtype=np.float64)


class OfaMobileNetV3Phone(OfaMobileNetV3):
    """OFA's published accuracy predictor, exact costs and a phone's published latencies, all for width 1.2.

    The latency is the sum of a look-up table's times of the layers (Samsung Note 10).
    """

    description = OFA_MBV3_W1_2
    conditions: ClassVar = OfaMobileNetV3.conditions | {
        "latency": {"device": "Samsung Note 10", "model": "sum of the layers' times of the published look-up table"}
    }
    config = mobilenet_config.OFA_MBV3_W1_2

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder)
        self._fixed_latency, self._latency = latency_table(self.paths[1], self._cost)

    def _compute(self, metric: str, encoded: IntMatrix) -> NDArray[Any]:
        if metric == "latency":
            return self._fixed_latency + slot_total(self._latency, *self._slots(encoded))
        return super()._compute(metric, encoded)


def latency_table(path: Path, cost: MobileNetCost) -> tuple[float, NDArray[np.float64]]:
    """Return the time of the fixed layers, and that of each slot by choices, from OFA's published look-up table.

    Args:
        path: The table: times in ms by resolution and layer.
        cost: The network; every one of its blocks must be in the table, and nothing else.

    Returns:
        Milliseconds, and milliseconds of shape (slots, kernel sizes, expand ratios).

    Raises:
        DataError: The table is damaged, or of another network.
    """
    layers = read_json(path)
    try:
        times = {key: float(time) for key, time in layers[str(cost.resolution)].items()}
        choices = product(cost.slots, cost.config.kernel_sizes, cost.config.expand_ratios)
        keys = [_block_key(*choice) for choice in choices]
        table = np.array([times[key] for key in keys])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not the published look-up table: {error}") from error
    fixed = times.keys() - set(keys)
    if len(fixed) != 6:
        raise DataError(f"{path} has the times of {len(fixed)} layers outside the stages; the published one has 6")
    shape = len(cost.slots), len(cost.config.kernel_sizes), len(cost.config.expand_ratios)
    return sum(times[key] for key in sorted(fixed)), table.reshape(shape)


def _block_key(slot: Slot, kernel: int, ratio: float) -> str:
    """Return the name that a block has in OFA's look-up table."""
    before, after = (f"{n}x{n}x{c}" for n, c in ((slot.size, slot.in_channels), (slot.out_size, slot.out_channels)))
    flags = f"idskip:{int(slot.residual)}-se:{int(slot.squeeze_excite)}-hs:{int(slot.hswish)}"
    middle = slot.middle(ratio)
    return f"expanded_conv-input:{before}-output:{after}-expand:{middle}-kernel:{kernel}-stride:{slot.stride}-{flags}"


class OfaMobileNetV3Measured(FittedReplay, MobileNetReplay):
    """A regression on 2,162 measured ImageNet accuracies of sub-networks of width 1.0, with their exact costs.

    The rows come from searches, which looked at good sub-networks above all.

    Args:
        folder: The folder of published data.
    """

    description = OFA_MBV3_MEASURED
    conditions: ClassVar = {
        "acc": {"dataset": "ImageNet", "model": "kernel ridge regression on 2162 measured sub-networks"}
    }
    regression = SmoothRegression(length_scale=3.0, linear=0.1, noise=0.01)
    typical_macs = 250e6

    def _rows(self) -> tuple[list[Architecture], FloatVector]:
        dimensions = ["ks", "e", "d", "r"]
        table = read_table(self.paths[0], text=dimensions, numbers=["imagenet_top1"], rows=2162)
        cells = table[dimensions].itertuples(index=False)
        rows = [Architecture({n: map(int, c.split()) for n, c in zip(dimensions, row, strict=True)}) for row in cells]
        return rows, table["imagenet_top1"].to_numpy()
