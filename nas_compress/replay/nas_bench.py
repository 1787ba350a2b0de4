"""Exact tables of small spaces: NAS-Bench-201 and NAS-Bench-Macro, both on CIFAR-10."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nas_compress.errors import ConfigError, DataError
from nas_compress.replay.base import FloatVector, IntMatrix, Replay
from nas_compress.replay.catalog import NAS_BENCH_201, NAS_BENCH_MACRO
from nas_compress.replay.files import read_arrays, read_table
from nas_compress.space import Architecture


class TableReplay(Replay):
    """A problem with one row per architecture, found by its genes read as the digits of a number."""

    _columns: dict[str, FloatVector]

    def _rows_of(self, texts: Sequence[str], path: Path) -> IntMatrix:
        """Return for every architecture, numbered by its genes, its row in the table, shape (architectures,)."""
        base, genes = self._radix
        legal = {str(digit) for digit in range(base)}
        for text in texts:
            if len(text) != genes or not legal.issuperset(text):
                raise DataError(f"{path}: {text!r} is not an architecture of {genes} digits from 0 to {base - 1}")
        digits = np.array([list(map(int, text)) for text in texts])
        rows = np.full(base**genes, -1)
        position = np.argsort(self.space.dimensions[0].choices[0])
        rows[self._number(position[digits])] = np.arange(len(digits))
        if rows.min() < 0:
            raise DataError(f"{path} holds {np.count_nonzero(rows >= 0)} of the {base**genes} architectures")
        return rows

    @property
    def _radix(self) -> tuple[int, int]:
        cardinalities = self.space.cardinalities
        return int(cardinalities[0]), len(cardinalities)

    def _number(self, encoded: IntMatrix) -> IntMatrix:
        base, genes = self._radix
        return np.asarray(encoded @ base ** np.arange(genes - 1, -1, -1))

    def _compute(self, metric: str, encoded: IntMatrix) -> NDArray[Any]:
        return self._columns[metric][self._number(encoded)]


_LATENCY_REFERENCE = {
    "gold_6226": NAS_BENCH_201.reference["latency"],
    "raspi4": 70.0,
    "pixel3": 24.0,
    "titan_rtx_32": 10.0,
}
"""Latency in ms that the hypervolume's reference point has, by device."""


class NasBench201(TableReplay):
    """All 15,625 cells of NAS-Bench-201 (Dong and Yang, 2020), with latencies (Lee et al., 2021, "HELP").

    Isomorphic cells stay architectures of their own, with the table's own values. The latencies of cells that are made
    of `none` alone are close to zero on some devices.

    Args:
        folder: The folder of published data.
        device: Whose latency is offered: `gold_6226` (an Intel Xeon), `raspi4`, `pixel3` or `titan_rtx_32`.
    """

    description = NAS_BENCH_201
    conditions: ClassVar = {
        "acc": {"dataset": "CIFAR-10 test", "training": "200 epochs, mean of the seeds"},
    }

    def __init__(self, folder: str | Path, device: str = "gold_6226") -> None:
        super().__init__(folder)
        table, latencies = self.paths
        names = {"acc": "cifar10_test_acc_200ep", "macs": "cifar10_flops", "params": "cifar10_params"}
        data = read_table(table, text=["ops"], numbers=["index", *names.values()], rows=15625)
        rows = self._rows_of(data["ops"].tolist(), table)
        self._columns = {metric: data[column].to_numpy()[rows] for metric, column in names.items()}
        self._columns["latency"] = _latency(latencies, device)[data["index"].to_numpy(np.int64)[rows]]
        self.device = device
        self.reference["latency"] = _LATENCY_REFERENCE[device]

    def context(self, metric: str) -> dict[str, Any]:
        """Return what a value holds for; see the base class."""
        return super().context(metric) | ({"device": self.device} if metric == "latency" else {})


def _latency(path: Path, device: str) -> FloatVector:
    if device not in _LATENCY_REFERENCE:
        raise ConfigError(f"device = {device!r} is not known; allowed: {', '.join(_LATENCY_REFERENCE)}")
    arrays = read_arrays(path, {"devices": (4,), "latency_ms": (4, 15625)})
    devices = arrays["devices"].tolist()
    if device not in devices:
        raise DataError(f"{path} lacks the latencies of {device}")
    return np.asarray(arrays["latency_ms"][devices.index(device)], dtype=np.float64)


class NasBenchMacro(TableReplay):
    """All 6,561 chains of NAS-Bench-Macro (Su et al., 2021, "Prioritized Architecture Sampling"), three runs each."""

    description = NAS_BENCH_MACRO
    conditions: ClassVar = {
        "acc": {"dataset": "CIFAR-10 test", "training": "mean of 3 runs", "spread": "standard deviation of 3 runs"}
    }

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder)
        (path,) = self.paths
        runs = ["acc_0", "acc_1", "acc_2"]
        data = read_table(path, text=["arch"], numbers=[*runs, "flops", "params"], rows=6561)
        rows = self._rows_of(data["arch"].tolist(), path)
        accuracies = data[runs].to_numpy()[rows]
        self._columns = {metric: data[name].to_numpy()[rows] for metric, name in (("macs", "flops"), ("params",) * 2)}
        self._columns["acc"], self._std = accuracies.mean(axis=1), accuracies.std(axis=1)

    def spread(self, metric: str, architectures: Sequence[Architecture]) -> FloatVector | None:
        """Return the standard deviations of the three runs' accuracies; see the base class."""
        return self._std[self._number(self.encode(architectures))] if metric == "acc" else None
