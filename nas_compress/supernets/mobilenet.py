"""OFA-style super-networks of inverted residuals: the published MobileNetV3 and ProxylessNAS nets and small ones.

Source: Cai et al., 2020, "Once-for-All: Train One Network and Specialize it for Efficient Deployment", and its
published configurations.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_compress.elastic import ACTIVATIONS, ElasticInvertedResidual, InvertedResidual, make_divisible
from nas_compress.space import Architecture, SearchSpace
from nas_compress.supernets.base import Block, Cost, ImageSupernet
from nas_compress.supernets.cut import cut
from nas_compress.supernets.mobilenet_config import MobileNetConfig
from nas_compress.supernets.mobilenet_cost import MobileNetCost
from nas_compress.supernets.randomness import seeded


def _conv_norm_act(in_channels: int, out_channels: int, kernel: int, stride: int, activation: str) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), ACTIVATIONS[activation]())


_PUBLISHED_PARTS = (
    ("first_conv.conv.", "stem.0."),
    ("first_conv.bn.", "stem.1."),
    ("final_expand_layer.conv.", "final_expand.0."),
    ("final_expand_layer.bn.", "final_expand.1."),
    ("feature_mix_layer.conv.", "feature_mix.0."),
    ("feature_mix_layer.bn.", "feature_mix.1."),
    ("classifier.linear.", "classifier.2."),
)
_PUBLISHED_LAYERS = {"inverted_bottleneck": "expand", "depth_conv": "depthwise", "point_linear": "project"}


def _published_key(key: str, blocks_per_stage: int) -> str:
    """Return our name of a tensor in OFA's checkpoints; other names are returned unchanged.

    OFA numbers all blocks in one row, the fixed first one being 0, and wraps elastic layers twice
    (`blocks.5.conv.depth_conv.bn.bn.weight`). Stages all have as many blocks, but for the last ones, which have one.
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


def _is_empty(part: nn.Module) -> bool:
    return isinstance(part, nn.Sequential) and len(part) == 0


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
        with seeded(seed):
            self._build()
        self._configure(self.space.largest())

    def _width(self, base: int) -> int:
        return make_divisible(base * self.config.width_mult)

    def _build(self) -> None:
        c = self.config
        stem, first = self._width(c.stem_width), self._width(c.first_width)
        self.stem = _conv_norm_act(c.in_channels, stem, 3, c.stem_stride, c.outer_activation)
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
        for number, (width, blocks) in enumerate(zip(c.widths, c.blocks, strict=True)):
            out = self._width(width)
            self.stages.append(nn.ModuleList(self._stage_blocks(number, blocks, channels, out)))
            channels = out
        self._build_head(channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm2d):
                module.eps = c.norm_eps

    def _build_head(self, channels: int) -> None:
        c = self.config
        features = self._width(c.final_width)
        self.final_expand = _conv_norm_act(channels, features, 1, 1, c.outer_activation)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.feature_mix = nn.Sequential()
        if c.feature_width is not None:
            final, features = features, self._width(c.feature_width)
            self.feature_mix.append(nn.Conv2d(final, features, 1, bias=False))
            self.feature_mix.append(ACTIVATIONS[c.outer_activation]())
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(c.dropout), nn.Linear(features, c.num_classes))

    def _stage_blocks(self, stage: int, blocks: int, channels: int, out: int) -> Iterator[nn.Module]:
        c = self.config
        for position in range(blocks):
            first = position == 0
            yield ElasticInvertedResidual(
                channels if first else out,
                out,
                kernel_sizes=c.kernel_sizes,
                expand_ratios=c.expand_ratios,
                stride=c.strides[stage] if first else 1,
                activation=c.activations[stage + 1],
                squeeze_excite=c.squeeze_excite[stage],
            )

    # -- sub-networks --------------------------------------------------------------------------------------

    def _active_slots(self, architecture: Architecture) -> Iterator[tuple[int, int, float]]:
        """Yield the numbers of the blocks of an architecture with their kernel sizes and expand ratios."""
        depths = (*architecture["d"], *(1,) * self.config.single_stages)
        start = 0
        for blocks, depth in zip(self.config.blocks, depths, strict=True):
            for slot in range(start, start + int(depth)):
                yield slot, int(architecture["ks"][slot]), float(architecture["e"][slot])
            start += blocks

    def _blocks(self, architecture: Architecture) -> Iterator[tuple[ElasticInvertedResidual, int, float]]:
        """Yield the active blocks of an architecture with their kernel sizes and expand ratios."""
        blocks = [block for stage in self.stages for block in cast(nn.ModuleList, stage)]
        for slot, kernel, ratio in self._active_slots(architecture):
            yield cast(ElasticInvertedResidual, blocks[slot]), kernel, ratio

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
        stem, first, *head = copy.deepcopy(
            [self.stem, self.first_block, self.final_expand, self.pool, self.feature_mix, self.classifier]
        )
        return nn.Sequential(stem, first, *blocks, *(part for part in head if not _is_empty(part))).cpu().eval()

    def blocks(self, architecture: Architecture) -> list[Block]:
        """Return the stem with the first block, every active inverted residual, and the head; see the base class."""
        self.space.validate(architecture)
        c, r = self.config, self.resolution(architecture)
        slots = self._cost(r).slots
        start, end = slots[0], slots[-1]
        keys = [
            f"mobilenet_stem in={c.in_channels} mid={self._width(c.stem_width)} out={start.in_channels} "
            f"s={c.stem_stride} act={c.outer_activation},{c.activations[0]} r={r}"
        ]
        inputs = [(c.in_channels, r)]
        for slot, kernel, ratio in self._active_slots(architecture):
            keys.append(slots[slot].key(kernel, ratio))
            inputs.append((slots[slot].in_channels, slots[slot].size))
        features = 0 if c.feature_width is None else self._width(c.feature_width)
        keys.append(
            f"mobilenet_head in={end.out_channels} mid={self._width(c.final_width)} features={features} "
            f"out={c.num_classes} act={c.outer_activation} r={end.out_size}"
        )
        inputs.append((end.out_channels, end.out_size))
        layers = [block for block, _, _ in self._blocks(architecture)]
        return cut(self, architecture, layers, keys, inputs, first=2)

    def sort_by_importance(self) -> None:
        """Reorder the middle channels of all blocks; see the base class."""
        for stage in self.stages:
            for block in cast(nn.ModuleList, stage):
                cast(ElasticInvertedResidual, block).sort_channels()

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the keys of an OFA checkpoint, of either generation of its code; see the base class."""
        renamed = {_published_key(key, max(self.config.depths)): tensor for key, tensor in state.items()}
        if self.config.feature_width is None:
            return {key.replace("feature_mix.", "final_expand."): tensor for key, tensor in renamed.items()}
        return renamed

    # -- cost ----------------------------------------------------------------------------------------------

    def encoded_cost(self, cost: Cost, space: SearchSpace, encoded: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the costs of many architectures, each at its own resolution; see the base class."""
        values = space.values(encoded)
        kernels = np.searchsorted(self.config.kernel_sizes, values["ks"])
        ratios = np.searchsorted(self.config.expand_ratios, values["e"])
        active, sizes, total = values["ks"] > 0, values["r"][:, 0], np.empty(len(encoded))
        for size in np.unique(sizes):
            rows = sizes == size
            of_size = self._cost(int(size))
            count = of_size.macs if cost == "macs" else of_size.params
            total[rows] = count(kernels[rows], ratios[rows], active[rows])
        return total

    def encoded_layers(self, space: SearchSpace, encoded: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the inverted residuals of many architectures, the fixed first one included; see the base class."""
        chosen = np.count_nonzero(space.values(encoded)["ks"] > 0, axis=1)
        return 1.0 + np.asarray(chosen, dtype=np.float64)

    def _cost(self, resolution: int) -> MobileNetCost:
        costs: dict[int, MobileNetCost] = self.__dict__.setdefault("_costs", {})
        if resolution not in costs:
            costs[resolution] = MobileNetCost(self.config, resolution)
        return costs[resolution]

    def describe(self) -> dict[str, Any]:
        """Return the configuration as plain data."""
        return {"family": "mobilenet", "name": self.name, **self.config.describe()}


def build(
    name: str, config: MobileNetConfig, num_classes: int | None = None, seed: int | None = None
) -> MobileNetSupernet:
    """Return a super-network of a registered configuration, for any number of classes."""
    if num_classes is not None:
        config = replace(config, num_classes=num_classes)
    return MobileNetSupernet(name, config, seed)
