"""Latency of sub-networks in ONNX Runtime, fp32 against static int8, at two batch sizes.

    python benchmarks/int8_latency.py

Weights and calibration images are random: they matter to accuracy, not to speed. The two forms of a net are timed in
turns; milliseconds per run with the standard error of the median.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from nas_compress.backends.hardware import describe_hardware
from nas_compress.backends.onnxruntime import OnnxSession
from nas_compress.compression.export import export_onnx
from nas_compress.compression.quantize import quantize_onnx
from nas_compress.objectives.timing import LatencyStats, measure_latencies
from nas_compress.space import Architecture
from nas_compress.supernets import load_supernet
from nas_compress.supernets.base import ImageSupernet


def measure(net: ImageSupernet, architecture: Architecture, batch: int, threads: int) -> dict[str, LatencyStats]:
    """Export and quantize one sub-network and time both forms in turns."""
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        example = net.example_input(batch, architecture)
        export_onnx(net.extract(architecture), net.example_input(2, architecture), folder / "fp32.onnx")
        quantize_onnx(folder / "fp32.onnx", folder / "int8.onnx", [net.example_input(8, architecture)])
        sessions = {form: OnnxSession(folder / f"{form}.onnx", threads) for form in ("fp32", "int8")}
        runs = {form: stack.enter_context(session.bound(example)) for form, session in sessions.items()}
        return measure_latencies(runs, threads=threads)


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--supernets", nargs="+", default=["digits_mbv3", "ofa_mbv3_d234_e346_k357_w1.0"])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    print(f"{describe_hardware()}, {arguments.threads} thread(s)")
    for name in arguments.supernets:
        net = load_supernet(name, trained=False, seed=0)
        for label, architecture in (("largest", net.space.largest()), ("smallest", net.space.smallest())):
            for batch in arguments.batches:
                stats = measure(net, architecture, batch, arguments.threads)
                fp32, int8 = (stats[form] for form in ("fp32", "int8"))
                print(
                    f"{name} {label}, {net.macs(architecture) / 1e6:.1f}M MACs, batch {batch}: "
                    f"fp32 {fp32.median_ms:.3f} ± {fp32.error_ms:.3f} ms, "
                    f"int8 {int8.median_ms:.3f} ± {int8.error_ms:.3f} ms, {fp32.median_ms / int8.median_ms:.2f}x",
                    flush=True,
                )


if __name__ == "__main__":
    main()
