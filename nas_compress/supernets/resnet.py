"""OFA-style super-networks of bottlenecks: the published ResNet50 and small ones.

Source: Cai et al., 2020, "Once-for-All: Train One Network and Specialize it for Efficient Deployment", and the
published configuration of its ResNet50, which has the stem and the projections of ResNet-D (He et al., 2019, "Bag of
Tricks for Image Classification", figure 2).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_compress.elastic import ElasticBottleneck, ElasticConvNorm, ElasticLinear, by_importance, permute
from nas_compress.space import Architecture, SearchSpace
from nas_compress.supernets.base import Block, Cost, ImageSupernet
from nas_compress.supernets.cut import cut
from nas_compress.supernets.randomness import seeded
from nas_compress.supernets.resnet_config import ResNetConfig
from nas_compress.supernets.resnet_cost import BlockSizes, block_sizes, resnet_cost

_PUBLISHED_LAYERS = {"conv1": "reduce", "conv2": "spatial", "conv3": "restore", "downsample": "project"}
_PUBLISHED_CONV = re.compile(r"(?:input_stem\.(\d)|blocks\.(\d+)\.(conv[123]|downsample))\.(?:conv\.)*((?:bn\.)*)(\w+)")


def _published_key(key: str, blocks: tuple[int, ...]) -> str:
    """Return our name of a tensor in OFA's checkpoint; other names are returned unchanged.

    OFA numbers the blocks of all stages in one row and wraps elastic layers once or twice
    (`blocks.5.conv2.conv.conv.weight`, `input_stem.1.conv.bn.bn.bias`, `classifier.linear.linear.weight`).
    """
    if match := re.fullmatch(r"classifier\.(?:linear\.)+(\w+)", key):
        return f"classifier.{match[1]}"
    if (match := _PUBLISHED_CONV.fullmatch(key)) is None:
        return key
    stem, number, layer, norm, tensor = match.groups()
    name = f"{'norm' if norm else 'conv'}.{tensor}"
    if stem is not None:
        return f"stem.{stem}.{name}"
    stage, position = 0, int(number)
    while stage < len(blocks) - 1 and position >= blocks[stage]:
        stage, position = stage + 1, position - blocks[stage]
    return f"stages.{stage}.{position}.{_PUBLISHED_LAYERS[layer]}.{name}"


class Residual(nn.Sequential):
    """Layers whose result is added to their input."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return cast(Tensor, x + super().forward(x))  # type: ignore[no-untyped-call]


class ResNetSupernet(ImageSupernet):
    """The OFA super-network over depth, expand ratio, width and resolution.

    At first, blocks that add their input as it is return it: their last normalisations start with zero weights (He et
    al., 2019, section 3.1, "zero gamma").

    Args:
        name: The name in records.
        config: Widths, strides, choices and head.
        seed: Seed of the initial weights; None draws them from torch's global generator.
    """

    def __init__(self, name: str, config: ResNetConfig, seed: int | None = None) -> None:
        super().__init__()
        self.name = name
        self.config = config
        self.in_channels = config.in_channels
        self.num_classes = config.num_classes
        self.space = config.space(name)
        with seeded(seed):
            self._build()

    def _build(self) -> None:
        c = self.config
        half, channels, *widths = (max(row) for row in c.outputs)
        self.stem = nn.ModuleList(
            [
                ElasticConvNorm(c.in_channels, half, 3, c.stem_stride),
                ElasticConvNorm(half, half, 3),
                ElasticConvNorm(half, channels, 3),
            ]
        )
        self.act = nn.ReLU()
        self.pool = nn.MaxPool2d(3, 2, 1) if c.pool else nn.Identity()
        self.stages = nn.ModuleList()
        for out, blocks, stride in zip(widths, c.blocks, c.strides, strict=True):
            middle = c.middle(out, max(c.expand_ratios))
            first = ElasticBottleneck(channels, middle, out, stride=stride, projects=True)
            rest = (ElasticBottleneck(out, middle, out, stride=1, projects=False) for _ in range(blocks - 1))
            self.stages.append(nn.ModuleList([first, *rest]))
            channels = out
        self.dropout = nn.Dropout(c.dropout)
        self.classifier = ElasticLinear(channels, c.num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for block in self._all_blocks():
            if block.project is None:
                nn.init.zeros_(block.restore.norm.weight)

    # -- sub-networks --------------------------------------------------------------------------------------

    def _all_blocks(self) -> list[ElasticBottleneck]:
        return [cast(ElasticBottleneck, block) for stage in self.stages for block in cast(nn.ModuleList, stage)]

    def _blocks(self, architecture: Architecture) -> Iterator[tuple[ElasticBottleneck, BlockSizes]]:
        """Yield the active blocks of an architecture with their sizes."""
        blocks = self._all_blocks()
        for sizes in block_sizes(self.config, architecture):
            yield blocks[sizes.slot], sizes

    def _stem(self, architecture: Architecture) -> list[ElasticConvNorm]:
        """Return the stem's active layers; the one in the middle, if any, is a residual one."""
        first, residual, last = (cast(ElasticConvNorm, layer) for layer in self.stem)
        return [first, residual, last] if architecture["d"][0] == max(self.config.depths) else [first, last]

    def _configure(self, architecture: Architecture) -> None:
        half, channels = (self.config.outputs[i][int(architecture["w"][i])] for i in range(2))
        for layer, inside, outside in zip(
            self.stem, (self.in_channels, half, half), (half, half, channels), strict=True
        ):
            cast(ElasticConvNorm, layer).set_active(inside, outside)
        for block, sizes in self._blocks(architecture):
            block.set_active(sizes.in_channels, sizes.middle, sizes.out_channels)
            channels = sizes.out_channels
        self.classifier.active_in = channels

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, channels, r, r) to logits (N, classes) with the active sub-network."""
        first, *residual, last = self._stem(self._active)
        x = self.act(first(x))
        for layer in residual:
            x = x + self.act(layer(x))
        x = self.pool(self.act(last(x)))
        for block, _ in self._blocks(self._active):
            x = block(x)
        return cast(Tensor, self.classifier(self.dropout(x.mean((2, 3)))))

    def extract(self, architecture: Architecture) -> nn.Module:
        """Return `Sequential(stem, blocks..., head...)`; see the base class."""
        with self.activate(architecture):
            blocks = [block.extract() for block, _ in self._blocks(architecture)]
            first, *residual, last = (nn.Sequential(*s.extract(), nn.ReLU()) for s in self._stem(architecture))
            classifier = self.classifier.extract()
        stem = [*first, *(Residual(*layers) for layers in residual), *last]
        pool = [nn.MaxPool2d(3, 2, 1)] if self.config.pool else []
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(self.config.dropout), classifier]
        return nn.Sequential(nn.Sequential(*stem, *pool), *blocks, *head).cpu().eval()

    def blocks(self, architecture: Architecture) -> list[Block]:
        """Return the stem, every active bottleneck, and the head; see the base class."""
        self.space.validate(architecture)
        c, r = self.config, self.resolution(architecture)
        half, channels = (c.outputs[i][int(architecture["w"][i])] for i in range(2))
        sizes = list(block_sizes(c, architecture))
        last, residual = sizes[-1], len(self._stem(architecture)) - 2
        stem = (
            f"resnet_stem in={c.in_channels} mid={half} out={channels} s={c.stem_stride} residual={residual} "
            f"pool={int(c.pool)} r={r}"
        )
        end = -(-last.size // last.stride)
        head = f"resnet_head in={last.out_channels} out={c.num_classes} r={end}"
        inputs = [(c.in_channels, r), *((s.in_channels, s.size) for s in sizes), (last.out_channels, end)]
        layers = [block for block, _ in self._blocks(architecture)]
        return cut(self, architecture, layers, [stem, *(s.key for s in sizes), head], inputs)

    def sort_by_importance(self) -> None:
        """Reorder the middle channels of all blocks, and the channels between blocks; see the base class.

        Blocks of one stage add to the same channels, so these are reordered together, by what all their readers weigh.
        """
        for block in self._all_blocks():
            block.sort_middle()
        for writers, readers in self._shared_channels():
            order = by_importance(*readers)
            permute(readers, order, dim=1)
            for writer in writers:
                writer.permute_outputs(order)

    def _shared_channels(self) -> Iterator[tuple[list[ElasticConvNorm], list[Tensor]]]:
        """Yield the layers that write, and the weights that read, each row of channels that sub-networks share."""
        first, residual, last = (cast(ElasticConvNorm, layer) for layer in self.stem)
        yield [first, residual], [residual.conv.weight, last.conv.weight]
        writers: list[ElasticConvNorm] = [last]
        readers: list[Tensor] = []
        for stage in self.stages:
            start, *others = (cast(ElasticBottleneck, block) for block in cast(nn.ModuleList, stage))
            yield writers, [*readers, *start.readers]
            writers = [writer for block in (start, *others) for writer in block.writers]
            readers = [weight for block in others for weight in block.readers]
        yield writers, [*readers, self.classifier.weight]

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the keys of an OFA checkpoint; see the base class."""
        return {_published_key(key, self.config.blocks): tensor for key, tensor in state.items()}

    # -- cost ----------------------------------------------------------------------------------------------

    def encoded_cost(self, cost: Cost, space: SearchSpace, encoded: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the costs of many architectures, each at its own resolution; see the base class."""
        macs, params = resnet_cost(self.config, space, encoded)
        return macs if cost == "macs" else params

    def encoded_layers(self, space: SearchSpace, encoded: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the bottlenecks of many architectures; see the base class."""
        chosen: NDArray[np.float64] = space.values(encoded)["d"][:, 1:].sum(axis=1)
        return sum(self.config.base_depths) + chosen

    def describe(self) -> dict[str, Any]:
        """Return the configuration as plain data."""
        return {"family": "resnet", "name": self.name, **asdict(self.config)}


def build(name: str, config: ResNetConfig, num_classes: int | None = None, seed: int | None = None) -> ResNetSupernet:
    """Return a super-network of a registered configuration, for any number of classes."""
    if num_classes is not None:
        config = replace(config, num_classes=num_classes)
    return ResNetSupernet(name, config, seed)
