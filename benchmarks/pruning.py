"""What pruning of the largest sub-network of digits_resnet costs in accuracy, and saves in MACs.

    python benchmarks/pruning.py

The network is trained alone from random weights, and is the teacher of what is left of it. Accuracy is on the test
images, mean and standard deviation over seeds.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Mapping
from typing import Any

from nas_compress.compression.options import PruneOptions
from nas_compress.compression.prune import prune
from nas_compress.data import load_data
from nas_compress.objectives.cost import count_macs
from nas_compress.objectives.quality import accuracy
from nas_compress.supernets import load_supernet
from nas_compress.training.config import FinetuneConfig
from nas_compress.training.trainer import finetune

WAYS: Mapping[str, Mapping[str, Any]] = {
    "channel 50 %": {},
    "channel 50 %, labels alone": {"training": {"teacher": None}},
    "channel 50 %, one round": {"rounds": 1, "training": {"epochs": 9}},
    "1x1 80 %": {"pattern": "1x1", "target_sparsity": 0.8},
    "2:4": {"pattern": "2:4"},
}


def main() -> None:
    """Print a row for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--supernet", default="digits_resnet")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS))
    arguments = parser.parse_args()
    data, rows = load_data("digits"), {way: [] for way in ("before", *arguments.ways)}
    for seed in range(arguments.seeds):
        net = load_supernet(arguments.supernet, trained=False, seed=seed)
        largest = net.space.largest()
        module, size = net.extract(largest), net.resolution(largest)
        config = FinetuneConfig(epochs=arguments.epochs, lr=0.05, warmup_epochs=2, seed=seed)
        finetune(module, data, size, config)
        rows["before"].append(_figures(module, data, size) + (0.0,))
        for way in arguments.ways:
            options = PruneOptions(**WAYS[way])
            teacher = None if options.training.teacher is None else copy.deepcopy(module)
            outcome = prune(module, data, size, options, seed=seed, teacher=teacher)
            rows[way].append(_figures(outcome.network, data, size) + (outcome.sparsity,))
    print(f"{'':30s} {'accuracy %':>14s} {'MACs':>12s} {'sparsity':>9s}")
    for way, figures in rows.items():
        scores = [score for score, _, _ in figures]
        spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
        macs, sparsity = figures[0][1:]
        print(f"{way:30s} {statistics.mean(scores):8.2f} ± {spread:4.2f} {macs:12,d} {sparsity:9.3f}")


def _figures(module: Any, data: Any, size: int) -> tuple[float, int]:
    images = data.test.images(data.test.labels[:2] * 0, size)
    return accuracy(module, data.test, size).value, count_macs(module, images)


if __name__ == "__main__":
    main()
