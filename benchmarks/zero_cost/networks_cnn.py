"""Networks of NAS-Bench-201 and NAS-Bench-Macro as plain torch modules, in their published configurations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# -- NAS-Bench-201 (Dong and Yang, 2020, section 2): 16 channels, 3 stages of 5 cells --------------------------

OPERATIONS = "none", "skip", "conv1x1", "conv3x3", "avgpool"
EDGES = (0, 0, 1, 0, 1, 2)
"""The node that each of the 6 edges comes from; they lead to the nodes 1, 2, 2, 3, 3, 3."""
TARGETS = (1, 2, 2, 3, 3, 3)


class Zero(nn.Module):
    """Nothing of the input."""

    def forward(self, x: Tensor) -> Tensor:
        """Return zeros, through which no gradient flows."""
        return torch.zeros_like(x)


def relu_conv_bn(inside: int, outside: int, size: int, stride: int = 1) -> nn.Sequential:
    """Return ReLU, convolution, batch normalisation."""
    conv = nn.Conv2d(inside, outside, size, stride, size // 2, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(outside))


def operation(name: str, channels: int) -> nn.Module:
    """Return what stands on an edge."""
    if name.startswith("conv"):
        return relu_conv_bn(channels, channels, int(name[-1]))
    if name == "avgpool":
        return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    return nn.Identity() if name == "skip" else Zero()


class Cell(nn.Module):
    """Four nodes; each is the sum of the edges that lead to it.

    Args:
        genotype: Six digits, the operation of each edge.
        channels: Of inputs and outputs.
    """

    def __init__(self, genotype: str, channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList(operation(OPERATIONS[int(digit)], channels) for digit in genotype)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, h, w) to the same shape."""
        nodes: list[Tensor | None] = [x, None, None, None]
        for edge, source, target in zip(self.edges, EDGES, TARGETS, strict=True):
            y, sum_so_far = edge(nodes[source]), nodes[target]
            nodes[target] = y if sum_so_far is None else sum_so_far + y
        result = nodes[3]
        if result is None:
            raise RuntimeError("no edge leads to the last node")
        return result


class Reduction(nn.Module):
    """The residual block that halves the image and doubles the channels."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(relu_conv_bn(inside, outside, 3, 2), relu_conv_bn(outside, outside, 3))
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(inside, outside, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, h, w) to (N, 2 C, h / 2, w / 2)."""
        y: Tensor = self.shortcut(x) + self.convs(x)
        return y


def nas_bench_201(genotype: str, channels: int = 16, cells: int = 5, classes: int = 10) -> nn.Sequential:
    """Return a network; `genotype` has one digit for each edge, an index of `OPERATIONS`."""
    layers: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)]
    for stage in range(3):
        if stage:
            layers.append(Reduction(channels, 2 * channels))
            channels *= 2
        layers += [Cell(genotype, channels) for _ in range(cells)]
    head = [nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
    return nn.Sequential(*layers, *head)


# -- NAS-Bench-Macro (Su et al., 2021, section 5.1): 8 layers in 3 stages -------------------------------------

STAGES = (2, 3, 3)
"""Layers of each stage; the first of them halves the image and doubles the channels."""


def conv_bn(inside: int, outside: int, size: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Return convolution and batch normalisation."""
    conv = nn.Conv2d(inside, outside, size, stride, size // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outside)]


class InvertedResidual(nn.Module):
    """MobileNetV2's block with ReLU.

    Args:
        inside: Channels of the inputs.
        outside: Channels of the outputs.
        stride: Of the depthwise convolution.
        expand: Inner channels over those of the inputs.
        size: Of the depthwise convolution's kernel.
    """

    def __init__(self, inside: int, outside: int, stride: int, expand: int, size: int) -> None:
        super().__init__()
        hidden = inside * expand
        depthwise = conv_bn(hidden, hidden, size, stride, hidden)
        self.convs = nn.Sequential(
            *conv_bn(inside, hidden, 1), nn.ReLU(), *depthwise, nn.ReLU(), *conv_bn(hidden, outside, 1)
        )
        self.has_shortcut = inside == outside and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, h, w) to (N, outside, h / stride, w / stride)."""
        y: Tensor = self.convs(x)
        return x + y if self.has_shortcut else y


def macro_layer(digit: str, inside: int, outside: int, stride: int) -> nn.Module:
    """Return a layer: 0 identity (a 1x1 convolution where sizes change), 1 MB3_K3, 2 MB6_K5."""
    if digit == "0":
        return nn.Identity() if inside == outside else nn.Sequential(*conv_bn(inside, outside, 1, stride))
    return InvertedResidual(inside, outside, stride, *((3, 3) if digit == "1" else (6, 5)))


def nas_bench_macro(genotype: str, channels: int = 32, classes: int = 10) -> nn.Sequential:
    """Return a network; `genotype` has one digit for each of the 8 layers."""
    layers: list[nn.Module] = [*conv_bn(3, channels, 3), nn.ReLU()]
    digits = iter(genotype)
    for count in STAGES:
        layers.append(macro_layer(next(digits), channels, 2 * channels, 2))
        channels *= 2
        layers += [macro_layer(next(digits), channels, channels, 1) for _ in range(count - 1)]
    head = [*conv_bn(channels, 1280, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, classes)]
    return nn.Sequential(*layers, *head)
