"""Milliseconds of a super-network's training step on this CPU, with and without what makes it fast.

    python benchmarks/training_step.py --supernet digits_mbv3 --batch 64

Rows: contiguous images; channels last; channels last and weight gradients of wide depthwise kernels in slices of
width 3 (`elastic/depthwise.py`, what training uses). Variants take turns; medians of the repeats; one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional as F

from nas_compress.layout import channels_last
from nas_compress.space import Architecture
from nas_compress.supernets import load_supernet
from nas_compress.supernets.base import ImageSupernet


def plain_depthwise(x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
    """Stand in for `depthwise_conv2d`: torch's own gradient."""
    return F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, groups=len(weight))


def step(
    net: ImageSupernet, architecture: Architecture, batch: int, layout: Callable[[Tensor], Tensor], sliced: bool
) -> float:
    """Return the seconds of one forward and backward pass."""
    images = layout(net.example_input(batch, architecture))
    gradients = nullcontext() if sliced else patch("nas_compress.elastic.conv.depthwise_conv2d", plain_depthwise)
    start = time.perf_counter()
    with gradients, net.activate(architecture):
        F.cross_entropy(net(images), torch.zeros(batch, dtype=torch.long)).backward()
    return time.perf_counter() - start


VARIANTS = {
    "contiguous": (Tensor.contiguous, False),
    "channels last": (channels_last, False),
    "channels last, sliced gradients": (channels_last, True),
}


def main() -> None:
    """Parse the command line, time the variants in turns, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--supernet", default="digits_mbv3")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    net = load_supernet(arguments.supernet, trained=False, seed=0).train()
    for label, architecture in (("largest", net.space.largest()), ("smallest", net.space.smallest())):
        seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
        for _ in range(arguments.repeats):
            for name, (layout, sliced) in VARIANTS.items():
                seconds[name].append(step(net, architecture, arguments.batch, layout, sliced))
        base = statistics.median(seconds["contiguous"])
        print(f"{label} sub-network of {net.name}, {net.macs(architecture) / 1e6:.2f}M MACs, batch {arguments.batch}")
        for name, values in seconds.items():
            median = statistics.median(values)
            print(f"  {name:32s} {1e3 * median:8.1f} ms  ({base / median:.2f}x)")


if __name__ == "__main__":
    main()
