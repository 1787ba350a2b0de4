"""Whether weight sharing pays: sub-networks with inherited weights against the same ones trained from scratch.

    python benchmarks/weight_sharing.py digits_resnet --epochs 30
    python benchmarks/weight_sharing.py fashion_mnist_mbv3                  # as it comes trained

Sub-networks are taken evenly over the range of MACs: of `--candidates` random ones, the most accurate with inherited
weights in each part of the range. Inherited weights get statistics of their own (BN recalibration, 2,000 training
images). From scratch, a sub-network is trained alone on the labels with the same options for as many passes over the
same images: those on the card of a super-network that comes trained, those of the command line for one that is trained
here. Accuracies are on test images; Kendall's tau compares the two rankings.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from scipy.stats import kendalltau
from supernet_algorithms import First, quality

from nas_compress.data import load_data
from nas_compress.data.base import ImageData
from nas_compress.objectives.calibration import calibrated_subnet
from nas_compress.objectives.quality import accuracy
from nas_compress.space import Architecture
from nas_compress.supernets import load_supernet, supernets
from nas_compress.supernets.base import ImageSupernet
from nas_compress.supernets.trained import read_card
from nas_compress.training.config import FinetuneConfig, SupernetTrainConfig
from nas_compress.training.trainer import finetune, train_supernet


def spread(net: ImageSupernet, data: ImageData, count: int, candidates: int) -> list[Architecture]:
    """Return sub-networks over the range of MACs, each the best of its part on search-validation images."""
    drawn = [net.space.smallest(), *net.space.sample(np.random.default_rng(0), candidates), net.space.largest()]
    drawn.sort(key=net.macs)
    edges = np.linspace(np.log(net.macs(drawn[0])), np.log(net.macs(drawn[-1])), count)
    chosen = []
    for edge in edges:
        near = sorted(drawn, key=lambda a: abs(np.log(net.macs(a)) - edge))[: max(1, candidates // (4 * count))]
        near = near[:1] if edge in (edges[0], edges[-1]) else near
        chosen.append(max(near, key=lambda a: _validation(net, data, a)))
    return list(dict.fromkeys(chosen))


def _validation(net: ImageSupernet, data: ImageData, architecture: Architecture) -> float:
    subnet = calibrated_subnet(net, architecture, data, 600)
    return accuracy(subnet, data.val, net.resolution(architecture), limit=1000).value


def from_scratch(name: str, architecture: Architecture, data: ImageData, options: dict[str, Any]) -> float:
    """Return the accuracy of a sub-network that was trained alone."""
    net = cast("ImageSupernet", load_supernet(name, trained=False, num_classes=len(data.classes), seed=1))
    subnet, size = net.extract(architecture), net.resolution(architecture)
    finetune(subnet, data, size, FinetuneConfig(**options))
    return accuracy(subnet, data.test, size).value


def as_published(weights: str) -> dict[str, Any]:
    """Return the options with which a super-network was trained that comes with the package."""
    (step,) = (s["train_supernet"] for s in read_card(Path(weights)).recipe["steps"] if "train_supernet" in s)
    return {key: value for key, value in step.items() if key in FinetuneConfig.model_fields and key != "ctc_weight"}


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("supernet", default="digits_resnet", nargs="?")
    parser.add_argument("--data-path", help="where the data is")
    parser.add_argument("--images", type=int, help="train from scratch on the first so many images alone")
    parser.add_argument("--epochs", type=int, help="passes (default: those of the card, or 30)")
    parser.add_argument("--subnets", type=int, default=10)
    parser.add_argument("--candidates", type=int, default=80)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--precision", default="auto")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    name, entry = arguments.supernet, supernets.entry(arguments.supernet)
    data = cast("ImageData", load_data(entry.info["dataset"], arguments.data_path))
    options = {"epochs": 30, "batch_size": arguments.batch_size, "lr": arguments.lr, "precision": arguments.precision}
    weights = entry.info["weights"]
    options |= ({} if weights is None else as_published(weights)) | {"curve": 0}
    options |= {} if arguments.epochs is None else {"epochs": arguments.epochs}
    if weights is not None:
        net = cast("ImageSupernet", load_supernet(name))
    else:
        net = cast("ImageSupernet", load_supernet(name, trained=False, num_classes=len(data.classes), seed=0))
        train_supernet(net, data, SupernetTrainConfig(**options, subnets_per_step=3))
    alone = replace(data, train=First(data.train, arguments.images)) if arguments.images else data
    print(f"{'MACs':>12s} {'inherited %':>12s} {'from scratch %':>15s} {'difference':>11s} {'CPU s':>6s}")
    inherited, scratch = [], []
    for architecture in spread(net, data, arguments.subnets, arguments.candidates):
        inherited.append(quality(net, data, architecture))
        start = time.process_time()
        scratch.append(from_scratch(name, architecture, alone, options))
        cells = f"{inherited[-1]:12.2f} {scratch[-1]:15.2f} {inherited[-1] - scratch[-1]:+11.2f}"
        print(f"{net.macs(architecture):12,d} {cells} {time.process_time() - start:6.0f}", flush=True)
    print(f"Kendall's tau {kendalltau(inherited, scratch).statistic:.3f}")


if __name__ == "__main__":
    main()
