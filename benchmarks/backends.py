"""Latency of one sub-network of each kind in every backend and precision that is installed.

    python benchmarks/backends.py
    benchmarks/ipex_environment.sh FOLDER      # the same in an environment with IPEX

Each backend runs in a process of its own, pinned to as many cores as threads, over several rounds through all of them,
so that what slows the machine for a while slows them all: median of the rounds, and half the distance between the
fastest and the slowest round. `build` is the first one: export, compilation, start of the process, measurement. The
difference is that of the outputs from eager torch in fp32, relative to the largest output.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from nas_compress.backends import backends
from nas_compress.backends.hardware import describe_hardware
from nas_compress.errors import NASError
from nas_compress.latency.meter import LatencyMeter
from nas_compress.objectives.timing import TimingSettings
from nas_compress.supernets import load_supernet

SUPERNETS = ("ofa_mbv3_d234_e346_k357_w1.0", "ofa_resnet50", "autoformer_tiny")
SETTINGS = TimingSettings(budget_s=1.0)


def meters(threads: int, batch: int, skipped: list[str]) -> Iterator[tuple[str, LatencyMeter]]:
    """Yield a meter per backend and precision that is installed; `skipped` is told of the others."""
    for name in backends:
        try:
            backends.get(name).check()
        except NASError as error:
            skipped.append(f"{name}: {error}")
            continue
        for precision in backends.get(name).precisions:
            meter = LatencyMeter(
                name, precision=precision, threads=threads, batch_size=batch, isolated=True, settings=SETTINGS
            )
            yield f"{name} {precision}", meter


def difference(meter: LatencyMeter, module: nn.Module, example: torch.Tensor) -> str:
    """Return how far the outputs are from those of eager torch; nothing for IPEX, which is not to run in here."""
    if meter.backend.isolated:
        return "-"
    with torch.no_grad():
        wanted = module(example)
    got = meter.backend.compile(module, example, meter.threads)(example)
    return f"{((got - wanted).abs().max() / wanted.abs().max()).item():.1e}"


def run(name: str, threads: int, batch: int, rounds: int) -> list[str]:
    """Measure a random sub-network in all backends, print a row each, and return what was skipped."""
    net = load_supernet(name, trained=False, seed=0)
    architecture = net.space.sample(np.random.default_rng(0), 1)[0]
    module, example = net.extract(architecture), net.example_input(batch, architecture)
    print(f"{name}, {net.macs(architecture) / 1e6:.0f}M MACs, input {tuple(example.shape)}", flush=True)
    skipped: list[str] = []
    found = dict(meters(threads, batch, skipped))
    times: dict[str, list[float]] = {label: [] for label in found}
    builds: dict[str, float] = {}
    for _ in range(rounds):
        for label, meter in found.items():
            if label in builds and not times[label]:
                continue
            started = time.perf_counter()
            try:
                times[label].append(meter.measure(module, example).median_ms)
            except NASError as error:
                print(f"  {label}: {error}", flush=True)
            builds.setdefault(label, time.perf_counter() - started)
    for label, meter in found.items():
        meter.close()
        if values := times[label]:
            half = (max(values) - min(values)) / 2
            print(
                f"  {label:20s} {statistics.median(values):8.3f} ± {half:.3f} ms   build {builds[label]:5.1f} s   "
                f"difference {difference(meter, module, example)}",
                flush=True,
            )
    return skipped


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--supernets", nargs="+", default=list(SUPERNETS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{describe_hardware()}, torch {torch.__version__}, {arguments.threads} thread(s), batch {arguments.batch}")
    skipped: list[str] = []
    for name in arguments.supernets:
        skipped = run(name, arguments.threads, arguments.batch, arguments.rounds)
    for line in skipped:
        print(f"skipped: {line}")


if __name__ == "__main__":
    main()
