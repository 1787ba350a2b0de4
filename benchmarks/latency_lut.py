"""How well latency is predicted from blocks, or learned from sub-networks, against direct measurement.

    python benchmarks/latency_lut.py --folder lut

For each family one table with all blocks, sub-networks to calibrate and to learn from, and others to test on, measured
in the same sweeps; the folder keeps it, and an interrupted run goes on. All figures are on the test sub-networks:
Kendall's tau, and the mean absolute error in % of the latency. `repeated` is direct measurement against itself (half of
the sweeps against the other half): no predictor can be seen to be better than that.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from nas_compress.backends.hardware import describe_hardware
from nas_compress.latency.build import SWEEPS, build_table, random_subnets
from nas_compress.latency.drift import without_drift
from nas_compress.latency.learned import LearnedLatency
from nas_compress.latency.lookup_table import LookupTable
from nas_compress.latency.meter import LatencyMeter
from nas_compress.latency.predictor import PredictionErrors
from nas_compress.latency.table import LatencyTable
from nas_compress.records import read_archive
from nas_compress.space import Architecture, SearchSpace
from nas_compress.supernets import load_supernet
from nas_compress.supernets.base import Supernet

CALIBRATION, LEARN, TEST = 20, (20, 50, 100), 200


def _published(name: str, **allowed: tuple[int, ...]) -> tuple[Supernet, SearchSpace]:
    net = load_supernet(name, trained=False, seed=0)
    return net, net.space.restrict(allowed) if allowed else net.space


def _resnet50(resolution: int) -> tuple[Supernet, SearchSpace]:
    from nas_compress.supernets.resnet import build
    from nas_compress.supernets.resnet_config import OFA_RESNET50

    net = build(f"ofa_resnet50 at {resolution} pixels", replace(OFA_RESNET50, resolutions=(resolution,)), seed=0)
    return net, net.space


FAMILIES: dict[str, Callable[[], tuple[Supernet, SearchSpace]]] = {
    "mobilenetv3": partial(_published, "ofa_mbv3_d234_e346_k357_w1.0", r=(128, 160, 192, 224)),
    "resnet50": partial(_resnet50, 96),
    "vit": partial(_published, "cifar10_vit"),
    "autoformer": partial(_published, "autoformer_tiny"),
}


@dataclass
class _Clock:
    """Seconds spent on blocks and on whole sub-networks, told by the progress of a build."""

    seconds: dict[str, float] = field(default_factory=lambda: {"blocks": 0.0, "sub-networks": 0.0})
    last: float = field(default_factory=time.perf_counter)

    def __call__(self, done: int, total: int, note: str) -> None:
        now = time.perf_counter()
        self.seconds["sub-networks" if note.endswith("whole sub-network") else "blocks"] += now - self.last
        self.last = now
        if done % 200 == 0 or done == total:
            print(f"  {done} of {total} measurements", flush=True)


def _part(table: LatencyTable, architectures: list[Architecture]) -> LatencyTable:
    return replace(table, subnets={a: table.subnets[a] for a in architectures})


def repeated(path: Path, architectures: list[Architecture]) -> PredictionErrors | None:
    """Return the errors of every second sweep as a prediction of the others; None where there is one sweep alone."""
    records = read_archive(path.read_bytes(), str(path)).records
    halves = []
    for parity in (0, 1):
        half = [record for record in records if int(record.objective.rpartition(" ")[2]) % 2 == parity]
        if not half:
            return None
        numbers = {item: i for i, item in enumerate(dict.fromkeys(record.architecture for record in half))}
        times, _ = without_drift(
            np.array([numbers[r.architecture] for r in half]), np.array([r.value for r in half], dtype=float)
        )
        halves.append(np.array([times[numbers[a]] for a in architectures]))
    return PredictionErrors.of(*halves)


def run(family: str, path: Path, sweeps: int, backend: str, threads: int) -> None:
    """Build the table of a family, or go on with it, and print what comes of it."""
    net, space = FAMILIES[family]()
    clock = _Clock()
    count = max(LEARN) + TEST
    meter = LatencyMeter(backend, threads=threads)
    table = build_table(path, net, space, meter, subnets=count, sweeps=sweeps, progress=clock)
    subnets = random_subnets(space, count, 0)
    test = subnets[max(LEARN) :]
    measured = np.array([table.subnets[a] for a in test])
    lookup = LookupTable(net, _part(table, subnets[:CALIBRATION]))
    started = time.perf_counter()
    lookup.predict(test)
    each = 1e6 * (time.perf_counter() - started) / len(test)
    print(
        f"{family}: {len(table.blocks)} blocks; {len(test)} sub-networks of {measured.min():.2f} to "
        f"{measured.max():.2f} ms, standard deviation {100 * measured.std() / measured.mean():.0f} %; single "
        f"measurements scatter by {100 * table.noise:.1f} %; {each:.0f} microseconds a prediction"
    )
    spent = clock.seconds
    print(
        f"  seconds: blocks {spent['blocks']:.0f}, {CALIBRATION} sub-networks for calibration "
        f"{spent['sub-networks'] * CALIBRATION / count:.0f}; {TEST} sub-networks directly "
        f"{spent['sub-networks'] * TEST / count:.0f} (of this run)"
    )
    rows = {
        "repeated": repeated(path, test),
        "blocks, sums": PredictionErrors.of(lookup.sums(test), measured),
    }
    for n in LEARN:
        corrected = LookupTable(net, _part(table, subnets[:n]))
        rows[f"blocks, corrected by {n}"] = PredictionErrors.of(corrected.predict(test), measured)
    for n in LEARN:
        learned = LearnedLatency(net, _part(table, subnets[:n]))
        rows[f"learned from {n}"] = PredictionErrors.of(learned.predict(test), measured)
    for label, errors in rows.items():
        if errors is not None:
            print(f"  {label:28s} tau {errors.kendall_tau:.3f}   MAPE {errors.mape:5.2f} %")
    print(f"  told by the table itself: {lookup.errors}", flush=True)


def main() -> None:
    """Parse the command line and run the families."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--sweeps", type=int, default=SWEEPS)
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    print(
        f"{describe_hardware()}, {arguments.backend}, {arguments.threads} thread(s), batch 1, {arguments.sweeps} sweeps"
    )
    for family in arguments.families:
        path = arguments.folder / f"{family}.jsonl"
        run(family, path, arguments.sweeps, arguments.backend, arguments.threads)


if __name__ == "__main__":
    main()
