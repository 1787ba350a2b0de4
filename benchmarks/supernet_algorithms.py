"""The algorithms of super-network training at equal CPU time: which one has the best sub-networks at the end?

    python benchmarks/supernet_algorithms.py digits_resnet --seconds 60 --seeds 0 1 2

Each algorithm is run for a few epochs first, to see what an epoch costs it, then anew for as many epochs as fit into
`--seconds` of this process's CPU time. All have the same options but those of the algorithm: the sandwich rule with
three sub-networks a step, one random sub-network a step (single path), progressive shrinking in Once-for-All's stages
(in proportion), and progressive shrinking whose stages train their largest and smallest sub-network as well.
Accuracies are of extracted sub-networks with statistics of their own, on test images: the smallest, the largest, and
the mean of ten random ones.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from nas_compress.data import load_data
from nas_compress.data.base import ImageData, ImageSplit
from nas_compress.objectives.calibration import calibrated_subnet
from nas_compress.objectives.quality import accuracy
from nas_compress.space import Architecture
from nas_compress.supernets import load_supernet, supernets
from nas_compress.supernets.base import ImageSupernet
from nas_compress.training.config import StageOptions, SupernetTrainConfig
from nas_compress.training.stages import stages_of
from nas_compress.training.trainer import train_supernet

CALIBRATION = 2000
RANDOM = 10
PILOT = 6


def shrinking_with_sandwich(options: dict[str, Any], net: ImageSupernet) -> dict[str, Any]:
    """Return the options of progressive shrinking in two stages: the largest, then sandwiches of three of the whole."""
    stages = stages_of(SupernetTrainConfig(**options, algorithm="progressive_shrinking"), net.space)
    largest, *others = stages
    whole = [
        StageOptions(
            elastic={d.name: None for d in net.space.dimensions},
            epochs=sum(stage.epochs for stage in others),
            lr=largest.lr / 2,
            subnets_per_step=3,
            sandwich=True,
            sort=True,
        )
    ]
    first = StageOptions(elastic={"r": None}, epochs=largest.epochs, warmup_epochs=largest.warmup_epochs)
    return {"algorithm": "progressive_shrinking", "stages": [first, *whole]}


def options_of(way: str, epochs: int, seed: int, net: ImageSupernet, common: dict[str, Any]) -> SupernetTrainConfig:
    """Return the training options of a way to train."""
    options = {"epochs": epochs, "seed": seed, "curve": 0, **common}
    if way == "sandwich rule":
        return SupernetTrainConfig(**options, algorithm="sandwich", subnets_per_step=3)
    if way == "single path":
        return SupernetTrainConfig(**options, algorithm="single_path", subnets_per_step=1)
    if way == "progressive shrinking":
        return SupernetTrainConfig(**options, algorithm="progressive_shrinking")
    own = shrinking_with_sandwich(options, net)
    return SupernetTrainConfig(**{**options, **own})


class First(ImageSplit):
    """The first images of a part of the data: a fair sample.

    Args:
        part: The part.
        count: How many.
    """

    def __init__(self, part: ImageSplit, count: int) -> None:
        self.labels = part.labels[:count]
        self._part = part

    def images(self, indices: Tensor, resolution: int) -> Tensor:
        """Return normalised images; see the base class."""
        return self._part.images(indices, resolution)


WAYS = ("sandwich rule", "single path", "progressive shrinking", "largest first, then sandwich")


def trained(
    name: str, data: ImageData, way: str, epochs: int, seed: int, common: dict[str, Any]
) -> tuple[ImageSupernet, float]:
    """Return a super-network trained from random weights, and the CPU seconds that it took."""
    net = cast("ImageSupernet", load_supernet(name, trained=False, num_classes=len(data.classes), seed=seed))
    start = time.process_time()
    train_supernet(net, data, options_of(way, epochs, seed, net, common))
    return net, time.process_time() - start


def quality(net: ImageSupernet, data: ImageData, architecture: Architecture) -> float:
    """Return the accuracy of a sub-network on test images, in %."""
    subnet = calibrated_subnet(net, architecture, data, CALIBRATION)
    return accuracy(subnet, data.test, net.resolution(architecture)).value


def figures(net: ImageSupernet, data: ImageData) -> tuple[float, float, float]:
    """Return the accuracies of the smallest, of random ones (their mean), and of the largest."""
    drawn = net.space.sample(np.random.default_rng(0), RANDOM)
    mean = statistics.mean(quality(net, data, architecture) for architecture in drawn)
    return quality(net, data, net.space.smallest()), mean, quality(net, data, net.space.largest())


def row(values: list[float]) -> str:
    """Return mean and standard deviation."""
    return f"{statistics.mean(values):6.2f} ± {statistics.stdev(values) if len(values) > 1 else 0:4.2f}"


def main() -> None:
    """Parse the command line, train, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("supernet", default="digits_resnet", nargs="?")
    parser.add_argument("--data-path", help="where the data is")
    parser.add_argument("--images", type=int, help="train on the first so many images alone")
    parser.add_argument("--seconds", type=float, default=60, help="CPU seconds of each run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = cast("ImageData", load_data(supernets.entry(arguments.supernet).info["dataset"], arguments.data_path))
    if arguments.images:
        data = replace(data, train=First(data.train, arguments.images))
    common = {"batch_size": arguments.batch_size, "lr": arguments.lr, "precision": arguments.precision}
    print(f"{arguments.supernet}, {arguments.seconds:g} CPU s a run, seeds {arguments.seeds}; test accuracy in %")
    print(f"{'':30s} {'epochs':>6s} {'CPU s':>6s} {'smallest':>14s} {'random':>14s} {'largest':>14s}")
    for way in arguments.ways:
        cost = trained(arguments.supernet, data, way, PILOT, 0, common)[1] / PILOT
        epochs = max(PILOT, round(arguments.seconds / cost))
        runs = [trained(arguments.supernet, data, way, epochs, seed, common) for seed in arguments.seeds]
        columns = [list(column) for column in zip(*(figures(net, data) for net, _ in runs), strict=True)]
        cells = "  ".join(row(column) for column in columns)
        print(f"{way:30s} {epochs:6d} {statistics.mean(s for _, s in runs):6.0f}  {cells}", flush=True)


if __name__ == "__main__":
    main()
