"""Sub-networks evaluated per minute (extraction, BN recalibration, validation): ours against `ofa`'s own code.

    python benchmarks/evaluation.py cifar10_jpeg/cifar10_train_jpeg.npz --images 2000 --subnets 5

Both get OFA's MobileNetV3 (width 1.0, 10 classes) with the same weights, the same images in memory, 2,000 of them for
BN recalibration in batches of 200 as in Once-for-All, and the same threads. The weights are trained first, for
`--steps` steps of the sandwich rule, so that the accuracies mean something. `ofa` runs the code of its tutorial:
`get_active_subnet`, `set_running_statistics`, and batches of 100 through the network in eager PyTorch.

The times are CPU seconds of the process; with one thread, that is what an idle machine would take.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from reference_ofa import networks, running_statistics
from torch import Tensor, nn

from nas_compress.data.base import ImageData, MemorySplit, channel_statistics
from nas_compress.objectives.calibration import CALIBRATION_BATCH, calibrated_subnet
from nas_compress.objectives.quality import Accuracy
from nas_compress.space import Architecture
from nas_compress.supernets.mobilenet import MobileNetSupernet, build
from nas_compress.supernets.mobilenet_config import OFA_MBV3_W1_0

NAME = "ofa_mbv3_d234_e346_k357_w1.0"
CALIBRATION, BATCH = 2000, 100


def load(path: Path, images: int) -> ImageData:
    """Return the first images of a file of JPEGs: some to train on, 2,000 of these to recalibrate, `images` to test."""
    with np.load(path) as file:
        data, offsets, labels = file["data"], file["offsets"], torch.from_numpy(file["labels"].astype(np.int64))
    count = min(len(labels), 4 * CALIBRATION + images)
    pixels = torch.stack([_decode(data[offsets[i] : offsets[i + 1]]) for i in range(count)])
    mean, std = channel_statistics(pixels)
    train, val = (
        MemorySplit(pixels[part], labels[:count][part], mean, std) for part in (slice(images, None), slice(images))
    )
    return ImageData("cifar10", train, val, val, tuple("0123456789"), mean, std, 32, "jpeg")


def _decode(data: np.ndarray[Any, Any]) -> Tensor:
    image = np.array(Image.open(io.BytesIO(data.tobytes())).convert("RGB"))
    return torch.from_numpy(image).permute(2, 0, 1)


def train(net: MobileNetSupernet, data: ImageData, resolution: int, steps: int) -> None:
    """Train with the sandwich rule: the largest, the smallest and a random sub-network a step."""
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=3e-5)
    space = net.space
    net.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 + np.cos(np.pi * step / steps)) / 2
        indices = torch.randint(len(data.train), (64,), generator=generator)
        images, labels = data.train.images(indices, resolution), data.train.labels[indices]
        optimizer.zero_grad()
        for architecture in (space.largest(), space.smallest(), *space.sample(rng, 1)):
            with net.activate(architecture):
                nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
    net.eval()


def ours(net: MobileNetSupernet, data: ImageData, resolution: int) -> Callable[[Architecture], float]:
    """Return what a search does with an architecture."""
    objective = Accuracy(data, net.resolution, batch_size=BATCH, macs_of=net.macs)
    return lambda a: objective.measure(calibrated_subnet(net, a, data, CALIBRATION), a).value


def reference(net: MobileNetSupernet, data: ImageData, resolution: int) -> Callable[[Architecture], float]:
    """Return what `ofa` does with it, on the same weights."""
    theirs = networks().OFAMobileNetV3(
        n_classes=10, bn_param=(0.1, 1e-5), ks_list=[3, 5, 7], expand_ratio_list=[3, 4, 6], depth_list=[2, 3, 4]
    )
    keys = {key: next(iter(net.from_published({key: tensor}))) for key, tensor in theirs.state_dict().items()}
    state = net.state_dict()
    theirs.load_state_dict({key: state[own] for key, own in keys.items()})
    theirs.eval()

    def loader(split: Any, count: int, batch: int) -> list[tuple[Tensor, Tensor]]:
        parts = torch.arange(count).split(batch)
        return [(split.images(part, resolution), split.labels[part]) for part in parts]

    def evaluate(a: Architecture) -> float:
        theirs.set_active_subnet(ks=[k or 3 for k in a["ks"]], e=[e or 3 for e in a["e"]], d=list(a["d"]))
        subnet = theirs.get_active_subnet()
        running_statistics()(subnet, loader(data.train, CALIBRATION, CALIBRATION_BATCH))
        subnet.eval()
        correct = 0
        with torch.no_grad():
            for images, labels in loader(data.val, len(data.val), BATCH):
                correct += int((subnet(images).argmax(1) == labels).sum())
        return 100 * correct / len(data.val)

    return evaluate


def main() -> None:
    """Print a line per sub-network and the ratio of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images_file", type=Path, help="npz of JPEGs: data, offsets, labels")
    parser.add_argument("--images", type=int, default=2000, help="validation images (default 2000)")
    parser.add_argument("--resolution", type=int, default=128, help="pixels (default 128); fewer train faster")
    parser.add_argument("--subnets", type=int, default=5, help="random sub-networks (default 5)")
    parser.add_argument("--steps", type=int, default=300, help="training steps before (default 300)")
    parser.add_argument("--weights", type=Path, help="where to keep the trained weights")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = load(arguments.images_file, arguments.images)
    net = build(NAME, replace(OFA_MBV3_W1_0, resolutions=(arguments.resolution,), num_classes=10), seed=0)
    kept: Path | None = arguments.weights
    if kept is not None and kept.exists():
        net.load_state_dict(torch.load(kept, weights_only=True))
        net.eval()
    else:
        train(net, data, arguments.resolution, arguments.steps)
        if kept is not None:
            torch.save(net.state_dict(), kept)
    sides = {"ours": ours, "ofa": reference}
    evaluate = {name: make(net, data, arguments.resolution) for name, make in sides.items()}
    spent: dict[str, list[float]] = {name: [] for name in sides}
    print(f"{arguments.images} validation images of {arguments.resolution} pixels, {CALIBRATION} to recalibrate")
    for a in net.space.sample(np.random.default_rng(1), arguments.subnets):
        found = {}
        for name, function in evaluate.items():
            start = time.process_time()
            found[name] = function(a)
            spent[name].append(time.process_time() - start)
        line = ", ".join(f"{name} {found[name]:.2f} % in {spent[name][-1]:.1f} CPU s" for name in sides)
        print(f"{net.macs(a) / 1e6:.0f}M MACs: {line}", flush=True)
    ratios = np.array(spent["ofa"]) / np.array(spent["ours"])
    print(f"ours evaluates {ratios.mean():.2f} ± {ratios.std():.2f} times as many sub-networks a minute")


if __name__ == "__main__":
    main()
