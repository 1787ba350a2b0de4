"""Whether weight sharing pays: sub-networks with inherited weights against the same ones trained from scratch.

    python benchmarks/weight_sharing.py digits_resnet --epochs 30
    python benchmarks/weight_sharing.py fashion_mnist_mbv3                  # as it comes trained
    python benchmarks/weight_sharing.py fsdd_asr --data-path fsdd_8k_int16.npz --results scratch.jsonl

Sub-networks are taken evenly over the range of MACs: of `--candidates` random ones, the best with inherited weights in
each part of the range. Those of images get statistics of their own (BN recalibration, 2,000 training images). From
scratch, a sub-network is trained alone on the labels with the same options for as many passes over the same examples:
those on the card of a super-network that comes trained, those of the command line for one that is trained here. Quality
is that on test data (accuracy, BLEU, word error rate, in %); a difference is how much better inherited weights are, and
Kendall's tau compares the two rankings.

Networks trained from scratch are kept in the file of `--results`, if one is named: the command goes on from there, and
several of them, with shares of the sub-networks each (`--only 0 2 4`, counted from the smallest), add to one file.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from denas_end_to_end import untrained
from scipy.stats import kendalltau
from supernet_algorithms import First

from nas_compress.compression.domains import Domain, domain_of
from nas_compress.data import load_data
from nas_compress.data.base import ImageData
from nas_compress.objectives import objectives
from nas_compress.objectives.base import Measurement
from nas_compress.space import Architecture
from nas_compress.supernets import load_supernet, supernets
from nas_compress.supernets.base import Supernet
from nas_compress.supernets.trained import read_card
from nas_compress.training.config import FinetuneConfig, SupernetTrainConfig
from nas_compress.training.trainer import finetune, train_supernet

CALIBRATION = 2000


def spread(net: Supernet, domain: Domain[Any], sign: int, count: int, candidates: int) -> list[Architecture]:
    """Return the smallest, the largest, and between them the best of each part by search-validation examples."""
    drawn = net.space.sample(np.random.default_rng(0), candidates)
    ends = net.space.smallest(), net.space.largest()
    edges = np.linspace(*(np.log(net.macs(end)) for end in ends), count)
    chosen = []
    for edge in edges[1:-1]:
        near = sorted(drawn, key=lambda a: abs(np.log(net.macs(a)) - edge))[: max(1, candidates // (4 * count))]
        chosen.append(max(near, key=lambda a: sign * inherited(net, domain, a, "val").value))
    return list(dict.fromkeys([ends[0], *chosen, ends[1]]))


def inherited(net: Supernet, domain: Domain[Any], architecture: Architecture, part: str) -> Measurement:
    """Return the quality of a sub-network with the weights that it inherits."""
    subnet = domain.subnet(net, architecture, CALIBRATION)
    return domain.quality(subnet, part, domain.size(net, architecture))


class Scratch:
    """Sub-networks of an untrained super-network, each trained alone on the data.

    Args:
        name: The super-network.
        data: What quality is measured on.
        alone: What they are trained on.
        options: Of the training.
        results: A file that keeps what was measured, a line each; None for none.
    """

    def __init__(self, name: str, data: Any, alone: Any, options: dict[str, Any], results: Path | None) -> None:
        self._net, self._domain, self._alone = untrained(name, data, seed=1), domain_of(data), alone
        self._options, self._results = options, results
        self._key = {"supernet": name, "data": data.fingerprint, "rows": len(alone.train), "options": options}

    def _known(self) -> list[dict[str, Any]]:
        if self._results is None or not self._results.exists():
            return []
        return [json.loads(line) for line in self._results.read_text().splitlines()]

    def __call__(self, architecture: Architecture) -> tuple[Measurement, float]:
        """Return the quality on test data, and the CPU seconds that the training took."""
        key = json.loads(json.dumps(self._key | {"architecture": architecture.to_dict()}))
        for line in self._known():
            if key.items() <= line.items():
                return Measurement(line["value"], line["spread"], {}), line["seconds"]
        start, size = time.process_time(), self._domain.size(self._net, architecture)
        subnet = self._net.extract(architecture)
        finetune(subnet, self._alone, size, FinetuneConfig(**self._options))
        quality, seconds = self._domain.quality(subnet, "test", size), time.process_time() - start
        if self._results is not None:
            with self._results.open("a") as file:
                file.write(
                    json.dumps(key | {"value": quality.value, "spread": quality.spread, "seconds": seconds}) + "\n"
                )
        return quality, seconds


def as_published(weights: str) -> dict[str, Any]:
    """Return the options with which a super-network was trained that comes with the package."""
    (step,) = (s["train_supernet"] for s in read_card(Path(weights)).recipe["steps"] if "train_supernet" in s)
    return {key: value for key, value in step.items() if key in FinetuneConfig.model_fields}


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("supernet", default="digits_resnet", nargs="?")
    parser.add_argument("--data-path", type=Path, help="where the data is")
    parser.add_argument("--images", type=int, help="train from scratch on the first so many images alone")
    parser.add_argument("--epochs", type=int, help="passes (default: those of the card, or 30)")
    parser.add_argument("--subnets", type=int, default=10)
    parser.add_argument("--only", type=int, nargs="+", help="numbers of sub-networks, from 0 on; all by default")
    parser.add_argument("--candidates", type=int, default=80)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--results", type=Path, help="JSON lines of what was trained from scratch; goes on from there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    name, entry = arguments.supernet, supernets.entry(arguments.supernet)
    data = load_data(entry.info["dataset"], arguments.data_path)
    if arguments.images and not isinstance(data, ImageData):
        parser.error(f"--images: {name} takes no images")
    domain = domain_of(data)
    sign = 1 if objectives.get(entry.info["metrics"][0]).direction == "maximize" else -1
    options = {"epochs": 30, "batch_size": arguments.batch_size, "lr": arguments.lr, "precision": arguments.precision}
    weights = entry.info["weights"]
    options |= ({} if weights is None else as_published(weights)) | {"curve": 0}
    options |= {} if arguments.epochs is None else {"epochs": arguments.epochs}
    if weights is not None:
        net = load_supernet(name)
    else:
        net = untrained(name, data)
        train_supernet(net, data, SupernetTrainConfig(**options, subnets_per_step=3))
    alone: Any = data
    if arguments.images and isinstance(data, ImageData):
        alone = replace(data, train=First(data.train, arguments.images))
    print(f"{'MACs':>12s} {'inherited':>15s} {'from scratch':>15s} {'better by':>10s} {'CPU s':>6s}")
    values, scratch = [], Scratch(name, data, alone, options, arguments.results)
    chosen = spread(net, domain, sign, arguments.subnets, arguments.candidates)
    for architecture in chosen if arguments.only is None else [chosen[i] for i in arguments.only]:
        trained, seconds = scratch(architecture)
        both = inherited(net, domain, architecture, "test"), trained
        values.append([each.value for each in both])
        cells = " ".join(f"{f'{each.value:.2f} ± {each.spread:.2f}':>15s}" for each in both)
        difference = sign * (both[0].value - both[1].value)
        print(f"{net.macs(architecture):12,d} {cells} {difference:+10.2f} {seconds:6.0f}", flush=True)
    if len(values) > 1:
        print(f"Kendall's tau {kendalltau(*zip(*values, strict=True)).statistic:.3f}")


if __name__ == "__main__":
    main()
