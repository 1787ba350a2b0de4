"""OFA-style super-networks of inverted residuals: the published MobileNetV3 nets and small ones, one class.

Source: Cai et al., 2020, "Once-for-All: Train One Network and Specialize it for Efficient Deployment", and its
published configurations.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_compress.elastic import ElasticInvertedResidual, InvertedResidual, make_divisible
from nas_compress.space import Architecture, SearchSpace
from nas_compress.supernets.base import Cost, ImageSupernet
from nas_compress.supernets.mobilenet_config import MobileNetConfig
from nas_compress.supernets.mobilenet_cost import MobileNetCost


def _conv_norm_act(in_channels: int, out_channels: int, kernel: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.Hardswish())


_PUBLISHED_PARTS = (
    ("first_conv.conv.", "stem.0."),
    ("first_conv.bn.", "stem.1."),
    ("final_expand_layer.conv.", "final_expand.0."),
    ("final_expand_layer.bn.", "final_expand.1."),
    ("feature_mix_layer.conv.", "feature_mix.0."),
    ("classifier.linear.", "classifier.2."),
)
_PUBLISHED_LAYERS = {"inverted_bottleneck": "expand", "depth_conv": "depthwise", "point_linear": "project"}


def _published_key(key: str, blocks_per_stage: int) -> str:
    """Return our name of a tensor in OFA's checkpoints; other names are returned unchanged.

    OFA numbers all blocks in one row, the fixed first one being 0, and wraps elastic layers twice
    (`blocks.5.conv.depth_conv.bn.bn.weight`).
    """
    for theirs, ours in _PUBLISHED_PARTS:
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    match = re.fullmatch(r"blocks\.(\d+)\.(?:mobile_inverted_)?conv\.(\w+)\.(.+)", key)
    if match is None or match[2] not in _PUBLISHED_LAYERS:
        return key
    number, layer, rest = int(match[1]), _PUBLISHED_LAYERS[match[2]], match[3]
    stage, position = divmod(number - 1, blocks_per_stage)
    block = f"stages.{stage}.{position}" if number else "first_block"
    if rest.startswith("se.fc."):
        return f"{block}.gate.{rest.removeprefix('se.fc.')}"
    if transform := re.fullmatch(r"conv\.\dto(\d)_matrix", rest):
        return f"{block}.{layer}_conv.transforms.to{transform[1]}"
    kind, name = ("conv" if rest.startswith("conv.") else "norm"), rest.rpartition(".")[2]
    return f"{block}.{layer}_{kind}.{name}"


class MobileNetSupernet(ImageSupernet):
    """The OFA super-network over kernel size, expand ratio, depth and resolution.

    Args:
        name: The name in records.
        config: Widths, strides, choices and head.
        seed: Seed of the initial weights; None draws them from torch's global generator.
    """

    def __init__(self, name: str, config: MobileNetConfig, seed: int | None = None) -> None:
        super().__init__()
        self.name = name
        self.config = config
        self.in_channels = config.in_channels
        self.num_classes = config.num_classes
        self.space = config.space(name)
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            self._build()

    def _width(self, base: int) -> int:
        return make_divisible(base * self.config.width_mult)

    def _build(self) -> None:
        c = self.config
        stem, first = self._width(c.stem_width), self._width(c.first_width)
        final, feature = self._width(c.final_width), self._width(c.feature_width)
        self.stem = _conv_norm_act(c.in_channels, stem, 3, c.stem_stride)
        self.first_block = InvertedResidual(
            None,
            (nn.Conv2d(stem, stem, 3, 1, 1, groups=stem, bias=False), nn.BatchNorm2d(stem)),
            None,
            (nn.Conv2d(stem, first, 1, bias=False), nn.BatchNorm2d(first)),
            c.activations[0],
            residual=stem == first,
        )
        self.stages = nn.ModuleList()
        channels = first
        for width, stride, act, se in zip(c.widths, c.strides, c.activations[1:], c.squeeze_excite, strict=True):
            out = self._width(width)
            self.stages.append(nn.ModuleList(self._stage_blocks(channels, out, stride, act, se)))
            channels = out
        self.final_expand = _conv_norm_act(channels, final, 1, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.feature_mix = nn.Sequential(nn.Conv2d(final, feature, 1, bias=False), nn.Hardswish())
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(c.dropout), nn.Linear(feature, c.num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def _stage_blocks(self, channels: int, out: int, stride: int, act: str, se: bool) -> Iterator[nn.Module]:
        c = self.config
        for position in range(max(c.depths)):
            first = position == 0
            yield ElasticInvertedResidual(
                channels if first else out,
                out,
                kernel_sizes=c.kernel_sizes,
                expand_ratios=c.expand_ratios,
                stride=stride if first else 1,
                activation=act,
                squeeze_excite=se,
            )

    # -- sub-networks --------------------------------------------------------------------------------------

    def _blocks(self, architecture: Architecture) -> Iterator[tuple[ElasticInvertedResidual, int, float]]:
        """Yield the active blocks of an architecture with their kernel sizes and expand ratios."""
        most = max(self.config.depths)
        for stage, depth in enumerate(architecture["d"]):
            for position in range(int(depth)):
                slot = stage * most + position
                block = cast(nn.ModuleList, self.stages[stage])[position]
                kernel, ratio = architecture["ks"][slot], architecture["e"][slot]
                yield cast(ElasticInvertedResidual, block), int(kernel), float(ratio)

    def _configure(self, architecture: Architecture) -> None:
        for block, kernel, ratio in self._blocks(architecture):
            block.set_active(kernel, ratio)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, channels, r, r) to logits (N, classes) with the active sub-network."""
        x = self.first_block(self.stem(x))
        for block, _, _ in self._blocks(self._active):
            x = block(x)
        return cast(Tensor, self.classifier(self.feature_mix(self.pool(self.final_expand(x)))))

    def extract(self, architecture: Architecture) -> nn.Module:
        """Return `Sequential(stem, first block, blocks..., head...)`; see the base class."""
        with self.activate(architecture):
            blocks = [block.extract() for block, _, _ in self._blocks(architecture)]
        fixed = copy.deepcopy([self.stem, self.first_block, self.final_expand, self.feature_mix, self.classifier])
        stem, first, final, mix, classifier = fixed
        return nn.Sequential(stem, first, *blocks, final, nn.AdaptiveAvgPool2d(1), mix, classifier).cpu().eval()

    def sort_by_importance(self) -> None:
        """Reorder the middle channels of all blocks; see the base class."""
        for stage in self.stages:
            for block in cast(nn.ModuleList, stage):
                cast(ElasticInvertedResidual, block).sort_channels()

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the keys of an OFA checkpoint, of either generation of its code; see the base class."""
        return {_published_key(key, max(self.config.depths)): tensor for key, tensor in state.items()}

    # -- cost ----------------------------------------------------------------------------------------------

    def macs(self, architecture: Architecture) -> int:
        """Return the MACs at batch 1 and the architecture's own resolution; see the base class."""
        return int(self.encoded_cost("macs", self.space, self.space.encode([architecture]))[0])

    def params(self, architecture: Architecture) -> int:
        """Return the parameters of the extracted sub-network; see the base class."""
        return int(self.encoded_cost("params", self.space, self.space.encode([architecture]))[0])

    def encoded_cost(self, cost: Cost, space: SearchSpace, encoded: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the costs of many architectures from tables; see the base class."""
        c = self.config
        slots, active = len(c.widths) * max(c.depths), space.active(encoded)
        values = space.choice_values[np.arange(encoded.shape[1]), encoded]
        kernels = np.searchsorted(c.kernel_sizes, values[:, :slots])
        ratios = np.searchsorted(c.expand_ratios, values[:, slots : 2 * slots])
        sizes, total = values[:, -1], np.empty(len(encoded))
        for size in np.unique(sizes):
            rows = sizes == size
            of_size = self._cost(int(size))
            count = of_size.macs if cost == "macs" else of_size.params
            total[rows] = count(kernels[rows], ratios[rows], active[rows, :slots])
        return total

    def _cost(self, resolution: int) -> MobileNetCost:
        costs: dict[int, MobileNetCost] = self.__dict__.setdefault("_costs", {})
        if resolution not in costs:
            costs[resolution] = MobileNetCost(self.config, resolution)
        return costs[resolution]

    def describe(self) -> dict[str, Any]:
        """Return the configuration as plain data."""
        return {"family": "mobilenet", "name": self.name, **asdict(self.config)}


def build_mobilenet(
    name: str, config: MobileNetConfig, num_classes: int | None = None, seed: int | None = None
) -> MobileNetSupernet:
    """Return a super-network of a registered configuration, for any number of classes."""
    if num_classes is not None:
        config = replace(config, num_classes=num_classes)
    return MobileNetSupernet(name, config, seed)
