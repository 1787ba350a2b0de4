"""Whether quantization within an accuracy criterion keeps its word, over seeds and sub-networks.

    python benchmarks/quantization_criterion.py
    python benchmarks/quantization_criterion.py --supernets digits_resnet --runs 4 --epochs 2

Super-networks are trained from several seeds on the digits that the package comes with; from each, random sub-networks
are extracted and recalibrated. Each is quantized (ONNX Runtime, static) under several criteria on the validation
images. The file that comes out is then measured again with ONNX Runtime alone. A run keeps its word if what it accepted
holds when measured again, and if it says so where the criterion is not met; the accuracy that it states must be the
measured one exactly. One thread.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import onnxruntime
import torch

from nas_compress.backends.hardware import describe_hardware
from nas_compress.backends.onnxruntime import OnnxSession
from nas_compress.compression.export import export_onnx
from nas_compress.compression.options import AccuracyCriterion, TuningCriterion
from nas_compress.compression.tune import TuningOutcome, quantize_within
from nas_compress.data import load_data
from nas_compress.data.base import ImageData, ImageSplit, batches
from nas_compress.objectives.calibration import calibrated_subnet
from nas_compress.objectives.quality import accuracy
from nas_compress.supernets import load_supernet
from nas_compress.supernets.base import ImageSupernet
from nas_compress.training.config import SupernetTrainConfig
from nas_compress.training.trainer import train_supernet

SUBNETS_PER_SEED = 5


@dataclass(frozen=True)
class Case:
    """A criterion, and what is asked for besides."""

    name: str
    criterion: AccuracyCriterion
    max_trials: int = 20
    options: dict[str, Any] = field(default_factory=dict)


CASES = (
    Case("1 % relative", AccuracyCriterion(criterion="relative", tolerable_loss=0.01)),
    Case("no loss", AccuracyCriterion(criterion="absolute", tolerable_loss=0.0)),
    Case(
        "no loss, weights per tensor",
        AccuracyCriterion(criterion="absolute", tolerable_loss=0.0),
        options={"per_channel": False, "method": "minmax"},
    ),
    Case(
        "no loss, weights per tensor, 1 trial",
        AccuracyCriterion(criterion="absolute", tolerable_loss=0.0),
        max_trials=1,
        options={"per_channel": False, "method": "minmax"},
    ),
)


@dataclass(frozen=True)
class Run:
    """One quantization, and its file measured again."""

    case: Case
    outcome: TuningOutcome
    measured: float
    seconds: float

    @property
    def keeps_its_word(self) -> bool:
        """Whether what was said is true."""
        outcome, holds = self.outcome, self.case.criterion.holds(self.measured, self.outcome.before)
        exact = outcome.after == self.measured
        if outcome.accepted:
            return exact and holds and outcome.quantized
        return exact and not outcome.quantized and outcome.reason.startswith("nothing was quantized")

    @property
    def kind(self) -> str:
        """How it ended, in a word or two."""
        if not self.outcome.accepted:
            return "not met"
        if self.outcome.fp32_layers:
            return "some fp32"
        return "as asked" if len(self.outcome.trials) == 1 else "other method"


def subnets(name: str, runs: int, epochs: int, data: ImageData) -> Iterator[tuple[ImageSupernet, Any]]:
    """Yield super-networks trained from seeds 0, 1 and so on, with random architectures of them."""
    for run in range(runs):
        seed, number = divmod(run, SUBNETS_PER_SEED)
        if number == 0:
            net = cast(ImageSupernet, load_supernet(name, trained=False, seed=seed))
            train_supernet(net, data, SupernetTrainConfig(epochs=epochs, seed=seed))
        yield net, net.space.sample(np.random.default_rng([seed, number]), 1)[0]


def alone(path: Path, split: ImageSplit, resolution: int) -> float:
    """Return the accuracy in % of a file, with ONNX Runtime alone."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name, correct = session.get_inputs()[0].name, 0
    for images, labels in batches(split, 64, resolution):
        correct += int((session.run(None, {name: images.numpy()})[0].argmax(1) == labels.numpy()).sum())
    return 100 * correct / len(split)


def quantize(net: ImageSupernet, architecture: Any, data: ImageData, folder: Path) -> Iterator[Run]:
    """Quantize one sub-network under every criterion."""
    size = net.resolution(architecture)
    subnet = calibrated_subnet(net, architecture, data, 1000)
    fp32, int8 = folder / "fp32.onnx", folder / "int8.onnx"
    export_onnx(subnet, net.example_input(2, architecture), fp32)
    calibration = [images for images, _ in batches(data.train, 128, size, limit=256)]
    evaluate: Callable[[Path], float] = lambda path: accuracy(OnnxSession(path), data.val, size).value  # noqa: E731
    for case in CASES:
        start = time.perf_counter()
        outcome = quantize_within(
            fp32,
            int8,
            calibration,
            accuracy=evaluate,
            criterion=case.criterion,
            tuning=TuningCriterion(max_trials=case.max_trials),
            **case.options,
        )
        yield Run(case, outcome, alone(int8, data.val, size), time.perf_counter() - start)


def row(name: str, case: Case, runs: list[Run]) -> str:
    """Return a line of the table."""
    kinds = Counter(run.kind for run in runs)
    ends = ", ".join(f"{kinds[kind]} {kind}" for kind in sorted(kinds, key=lambda kind: -kinds[kind]))
    kept = [len(r.outcome.fp32_layers) / r.outcome.layers for r in runs if r.outcome.quantized and r.outcome.accepted]
    trials = np.mean([len(run.outcome.trials) for run in runs])
    worst = max(run.outcome.before - run.measured for run in runs)
    share = f"{100 * np.mean(kept):.0f} %" if kept else "-"
    seconds = np.mean([run.seconds for run in runs])
    words = f"{sum(run.keeps_its_word for run in runs)} of {len(runs)}"
    return f"| {name} | {case.name} | {words} | {ends} | {share} | {worst:.2f} | {trials:.1f} | {seconds:.1f} |"


def main() -> None:
    """Parse the command line, train, quantize, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--supernets", nargs="+", default=["digits_mbv3", "digits_resnet"])
    parser.add_argument("--runs", type=int, default=10, help="sub-networks of each super-network")
    parser.add_argument("--epochs", type=int, default=5, help="of training each super-network")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = cast(ImageData, load_data("digits"))
    print(f"{describe_hardware()}, ONNX Runtime {onnxruntime.__version__}; {len(data.val)} validation images\n")
    print(
        "| network | criterion | keeps its word | ended | layers in fp32 | worst loss, points | trials | s |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    everything: list[Run] = []
    for name in arguments.supernets:
        runs: list[Run] = []
        with TemporaryDirectory() as folder:
            for net, architecture in subnets(name, arguments.runs, arguments.epochs, data):
                runs.extend(quantize(net, architecture, data, Path(folder)))
        for case in CASES:
            print(row(name, case, [run for run in runs if run.case is case]), flush=True)
        everything.extend(runs)
    print()
    for case in CASES:
        mine = [run for run in everything if run.case is case]
        print(f"{case.name}: {sum(run.keeps_its_word for run in mine)} of {len(mine)} runs keep their word")


if __name__ == "__main__":
    main()
