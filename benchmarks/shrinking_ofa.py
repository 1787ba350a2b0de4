"""Progressive shrinking against a plain run of Once-for-All's recipe on `ofa`'s own network, at equal steps.

    python benchmarks/shrinking_ofa.py --images 6400 --epochs 12

Both train OFA's MobileNetV3 (width 1.0, 10 classes) on Fashion-MNIST at 32 pixels (grey images as three equal
channels), one thread, in the same stages with the same steps, batches, learning rates and augmentation. `ofa`'s
side is the loop of its `train_one_epoch` on one device, from the initial weights of its training runs:
`sample_active_subnet` under the stage's constraints, the teacher in training mode, both losses added, channels sorted
before the expand stages. Ours is `train_supernet`.
CPU seconds a step are of the process, by stage; accuracies are on test images, with statistics from 2,000 images.
"""

from __future__ import annotations

import argparse
import copy
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import torch
from reference_ofa import initialize, networks, running_statistics
from supernet_algorithms import CALIBRATION, First, quality
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.data import load_data
from nas_compress.data.augment import Augmentation
from nas_compress.data.base import ImageData, ImageSplit, batches
from nas_compress.objectives.quality import accuracy
from nas_compress.space import Architecture
from nas_compress.supernets.mobilenet import MobileNetSupernet, build
from nas_compress.supernets.mobilenet_config import MobileNetConfig
from nas_compress.training.config import AugmentConfig, SupernetTrainConfig
from nas_compress.training.loop import TrainProgress
from nas_compress.training.schedule import learning_rate
from nas_compress.training.stages import Stage, stages_of
from nas_compress.training.trainer import train_supernet

SIZE = 32
CONFIG = MobileNetConfig(resolutions=(SIZE,), num_classes=10, dropout=0.0)
MIDDLE = {"ks": 5, "e": 4, "d": 3}
AUGMENT = AugmentConfig(flip=True)


class Coloured(ImageSplit):
    """Grey images as three equal channels, 2 pixels of black around them."""

    def __init__(self, part: ImageSplit, black: float) -> None:
        self.labels = part.labels
        self._part, self._black = part, black

    def images(self, indices: Tensor, resolution: int) -> Tensor:
        """Return normalised images; see the base class."""
        edge = (SIZE - 28) // 2
        grey = F.pad(self._part.images(indices, 28), (edge,) * 4, value=self._black)
        return grey.expand(-1, 3, -1, -1).contiguous()


def load(images: int) -> ImageData:
    """Return Fashion-MNIST with three channels, and so many training images."""
    data = cast("ImageData", load_data("fashion_mnist"))
    parts = {name: Coloured(data.split(name), data.black[0]) for name in ("val", "test")}
    train = Coloured(First(data.train, images), data.black[0])
    return replace(data, train=train, **parts, mean=data.mean * 3, std=data.std * 3, native_resolution=SIZE)


class Clock:
    """CPU seconds a step, by stage."""

    def __init__(self) -> None:
        self._last = time.process_time()
        self.seconds: dict[str, list[float]] = {}

    def __call__(self, progress: TrainProgress) -> None:
        """Take the time since the step before; the first step of an epoch has the curve of the one before in it."""
        now = time.process_time()
        if progress.step > 1:
            self.seconds.setdefault(progress.stage, []).append(now - self._last)
        self._last = now


def ours(data: ImageData, config: SupernetTrainConfig) -> tuple[list[float], dict[str, float]]:
    """Train and return test accuracies, and seconds a step by stage."""
    net = cast("MobileNetSupernet", build("ofa", CONFIG, None, config.seed))
    clock = Clock()
    train_supernet(net, data, config, progress=clock)
    space = net.space
    middle = Architecture({d.name: [MIDDLE.get(d.name, SIZE)] * d.slots for d in space.dimensions})
    chosen = (space.smallest(), space.canonicalize(middle), space.largest())
    return [quality(net, data, a) for a in chosen], {name: _median(s) for name, s in clock.seconds.items()}


def theirs(data: ImageData, config: SupernetTrainConfig) -> tuple[list[float], dict[str, float]]:
    """Train `ofa`'s network by its recipe and return the same."""
    torch.manual_seed(config.seed)
    net = networks().OFAMobileNetV3(
        10, dropout_rate=0, ks_list=[3, 5, 7], expand_ratio_list=[3, 4, 6], depth_list=[2, 3, 4]
    )
    initialize(net)
    clock, teacher = Clock(), None
    for stage in stages_of(config, CONFIG.space("ofa")):
        _constrain(net, stage)
        if stage.sort:
            net.re_organize_middle_weights()
        if teacher is None and stage.name != "largest":
            net.set_max_net()
            teacher = copy.deepcopy(net)
        _stage(net, teacher, stage, data, config, clock)
    accuracies = []
    for chosen in ({"ks": 3, "e": 3, "d": 2}, MIDDLE, {"ks": 7, "e": 6, "d": 4}):
        net.set_active_subnet(**chosen)
        subnet = net.get_active_subnet().eval()
        running_statistics()(subnet, list(batches(data.train, 200, SIZE, limit=CALIBRATION)))
        accuracies.append(accuracy(subnet.eval(), data.test, SIZE).value)
    return accuracies, {name: _median(s) for name, s in clock.seconds.items()}


def _constrain(net: Any, stage: Stage) -> None:
    values = {d.name: sorted({v for choices in d.choices for v in choices}) for d in stage.space.dimensions}
    for name, kind in (("ks", "kernel_size"), ("e", "expand_ratio"), ("d", "depth")):
        net.set_constraint(values[name], kind)


def _stage(
    net: Any, teacher: nn.Module | None, stage: Stage, data: ImageData, config: SupernetTrainConfig, clock: Clock
) -> None:
    decays = [p for p in net.parameters() if p.ndim > 1], [p for p in net.parameters() if p.ndim <= 1]
    groups = [{"params": decays[0], "weight_decay": config.weight_decay}, {"params": decays[1], "weight_decay": 0}]
    optimizer = torch.optim.SGD(groups, lr=stage.lr, momentum=0.9, nesterov=True)
    steps = len(data.train) // config.batch_size
    augment, generator = Augmentation(**AUGMENT.model_dump()), torch.Generator().manual_seed(1)
    net.train()
    for epoch in range(stage.epochs):
        for index, (images, labels) in enumerate(_epoch(data, config.batch_size, generator)):
            images = augment(images, data.black, generator)
            for group in optimizer.param_groups:
                warmup = round(stage.warmup_epochs * steps)
                group["lr"] = learning_rate(epoch * steps + index, stage.epochs * steps, warmup, stage.lr)
            optimizer.zero_grad()
            soft = None
            if teacher is not None:
                with torch.no_grad():
                    soft = teacher.train()(images).softmax(1)
            for _ in range(stage.subnets_per_step):
                net.sample_active_subnet()
                logits = net(images)
                loss = F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
                (loss if soft is None else loss + F.cross_entropy(logits, soft)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            clock(TrainProgress(epoch, 0, index + 1, steps, 0.0, 0.0, 0.0, stage.name))


def _epoch(data: ImageData, batch: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    whole = len(data.train) // batch * batch
    yield from batches(data.train, batch, SIZE, limit=whole, generator=generator)


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def main() -> None:
    """Parse the command line, train both, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=6400)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    random.seed(0)
    data = load(arguments.images)
    for seed in arguments.seeds:
        config = SupernetTrainConfig(
            algorithm="progressive_shrinking",
            epochs=arguments.epochs,
            lr=arguments.lr,
            warmup_epochs=0.5,
            augment=AUGMENT,
            precision="fp32",
            curve=0,
            seed=seed,
        )
        for name, run in (("ours", ours), ("ofa", theirs)):
            accuracies, seconds = run(data, config)
            small, middle, large = accuracies
            print(f"seed {seed} {name:5s} smallest {small:.2f} middle {middle:.2f} largest {large:.2f} %", flush=True)
            print(
                "  CPU s a step: " + ", ".join(f"{stage} {value:.3f}" for stage, value in seconds.items()), flush=True
            )


if __name__ == "__main__":
    main()
