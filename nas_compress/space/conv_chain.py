"""Chains of convolution blocks: the published strings, and the space of chains around a seed.

A chain is written `SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,1,8,1)...`. Convolutions have four numbers (input
channels, output channels, stride, sub-layers), residual blocks five (input channels, output channels, stride,
bottleneck channels, sub-layers).

Source: Lin et al., 2021, "Zen-NAS: A Zero-Shot NAS for High-Performance Image Recognition", and the published
configurations of Zen-NAS and of DE-NAS's convolutional networks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nas_compress.errors import ArchitectureError, ConfigError, suggest
from nas_compress.space.architecture import Architecture, Value
from nas_compress.space.dimension import Dimension
from nas_compress.space.search_space import SearchSpace

CHANNEL_STEP, MOST_CHANNELS = 8, 2048
"""Channels are multiples of 8, from 8 to 2048."""

CHANNEL_FACTORS = (2.5, 2, 1.5, 1.25, 1, 1 / 1.25, 1 / 1.5, 1 / 2, 1 / 2.5)
"""What a mutation multiplies channels with."""

LAYER_STEPS = (-2, -1, 0, 1, 2)
"""What a mutation adds to the number of sub-layers."""

CONVOLUTIONS = {f"SuperConvK{k}BNRELU": k for k in (1, 3, 5, 7)}
"""Kernel sizes of plain convolutions, each with batch norm and ReLU, by type."""

BOTTLENECKS = {f"SuperResK1K{k}K1": k for k in (3, 5, 7)}
"""Kernel sizes of residual blocks of three convolutions, of which the middle one is larger than 1x1, by type."""

PLAIN = {f"SuperResK{k}K{k}": k for k in (3, 5, 7)}
"""Kernel sizes of residual blocks of two equal convolutions, by type."""

KERNELS = {**CONVOLUTIONS, **BOTTLENECKS, **PLAIN}
RESIDUAL = (*BOTTLENECKS, *PLAIN)
"""The types that a search chooses from, those of fewer weights first."""

_BLOCK = re.compile(r"\s*(\w+)\(([^()]*)\)\s*")


@dataclass(frozen=True)
class ChainUnit:
    """What a sub-layer is made of: one convolution, or the convolutions of one residual connection.

    Attributes:
        kind: `"conv"`, `"plain"` (two equal convolutions) or `"bottleneck"` (1x1, larger, 1x1).
        kernel: Kernel size.
        in_channels: Input channels.
        middle: Channels between the convolutions; 0 for `"conv"`.
        out_channels: Output channels.
        stride: Stride of the first convolution, or of a bottleneck's middle one.
    """

    kind: str
    kernel: int
    in_channels: int
    middle: int
    out_channels: int
    stride: int

    @property
    def projects(self) -> bool:
        """Whether the residual path has a 1x1 convolution, for the shapes of input and output differ."""
        return self.kind != "conv" and (self.stride > 1 or self.in_channels != self.out_channels)


@dataclass(frozen=True)
class ChainBlock:
    """One block of a chain.

    Attributes:
        type: Published name (`"SuperResK3K3"`).
        in_channels: Input channels.
        out_channels: Output channels.
        stride: Stride of the first sub-layer, 1 or 2.
        bottleneck: Channels between a residual block's convolutions; 0 in plain convolutions.
        layers: Number of sub-layers.
    """

    type: str
    in_channels: int
    out_channels: int
    stride: int
    bottleneck: int
    layers: int

    @property
    def residual(self) -> bool:
        """Whether it has residual connections, and with them a type, a bottleneck and sub-layers to choose."""
        return self.type not in CONVOLUTIONS

    def units(self) -> list[ChainUnit]:
        """Return what runs, in order; a sub-layer with bottlenecks has two of them, as published."""
        kind = "conv" if not self.residual else "plain" if self.type in PLAIN else "bottleneck"
        count = self.layers * (2 if kind == "bottleneck" else 1)
        sizes = (self.in_channels, self.stride), *[(self.out_channels, 1)] * (count - 1)
        kernel = KERNELS[self.type]
        return [ChainUnit(kind, kernel, i, self.bottleneck, self.out_channels, stride) for i, stride in sizes]

    def __str__(self) -> str:
        bottleneck = [self.bottleneck] if self.residual else []
        numbers = [self.in_channels, self.out_channels, self.stride, *bottleneck, self.layers]
        return f"{self.type}({','.join(map(str, numbers))})"


def format_chain(blocks: Sequence[ChainBlock]) -> str:
    """Return the published string of a chain: the inverse of `parse_chain`."""
    return "".join(map(str, blocks))


def parse_chain(text: str) -> tuple[ChainBlock, ...]:
    """Read a chain from its published string; white space between blocks does not matter.

    Raises:
        ArchitectureError: The text is not a chain; the message names the block, what is wrong and what is allowed.
    """
    blocks: list[ChainBlock] = []
    position = 0
    while position < len(text):
        match = _BLOCK.match(text, position)
        if match is None:
            raise ArchitectureError(
                f"block {len(blocks)}: cannot read {text[position : position + 40]!r} (want TYPE(number,...))"
            )
        blocks.append(_parse_block(len(blocks), match[1], match[2]))
        position = match.end()
    if not blocks:
        raise ArchitectureError("the chain is empty; want blocks such as SuperConvK3BNRELU(3,8,1,1)")
    check_chain(blocks)
    return tuple(blocks)


def _parse_block(number: int, name: str, arguments: str) -> ChainBlock:
    where = f"block {number} {name}({arguments})"
    if name not in KERNELS:
        known = ", ".join(KERNELS)
        raise ArchitectureError(f"{where}: unknown type {name!r}{suggest(name, KERNELS)}; allowed: {known}")
    wanted = "in, out, stride, sub-layers" if name in CONVOLUTIONS else "in, out, stride, bottleneck, sub-layers"
    parts = [part.strip() for part in arguments.split(",")]
    if len(parts) != wanted.count(",") + 1 or not all(re.fullmatch(r"\d{1,9}", part, re.ASCII) for part in parts):
        raise ArchitectureError(f"{where}: wants {wanted.count(',') + 1} whole numbers ({wanted})")
    numbers = [int(part) for part in parts]
    if name in CONVOLUTIONS:
        numbers.insert(3, 0)
    return ChainBlock(name, *numbers)


def check_chain(blocks: Sequence[ChainBlock]) -> None:
    """Check the numbers of a chain's blocks, and that each takes what the one before it gives.

    Raises:
        ArchitectureError: They do not fit; the message names the block, its value and what is allowed.
    """
    for number, block in enumerate(blocks):
        where = f"block {number} {block}"
        for name in ("out_channels", "bottleneck") if block.residual else ("out_channels",):
            value = getattr(block, name)
            if value % CHANNEL_STEP or not CHANNEL_STEP <= value <= MOST_CHANNELS:
                raise ArchitectureError(
                    f"{where}: {name} = {value}; allowed: multiples of {CHANNEL_STEP} up to {MOST_CHANNELS}"
                )
        if block.in_channels < 1:
            raise ArchitectureError(f"{where}: in_channels = {block.in_channels}; allowed: 1 and more")
        if block.stride not in (1, 2):
            raise ArchitectureError(f"{where}: stride = {block.stride}; allowed: 1, 2")
        if block.layers < 1:
            raise ArchitectureError(f"{where}: sub-layers = {block.layers}; allowed: 1 and more")
    for number, (before, block) in enumerate(pairwise(blocks)):
        if block.in_channels != before.out_channels:
            raise ArchitectureError(
                f"block {number + 1} {block}: in_channels = {block.in_channels}; "
                f"allowed: {before.out_channels}, which block {number} gives"
            )


class ConvChainSpace(SearchSpace):
    """The chains with the blocks of a seed, of which types, channels and sub-layers are open.

    Number, order and strides of the blocks are the seed's, and so is the type of its plain convolutions. Genes: `type`,
    `bottleneck` and `layers` for each residual block, `out` for every block. Input channels follow. The published
    string is a view of an architecture: see `to_string` and `from_string`.

    Args:
        name: Name of the space.
        seed: The published string of a chain with at least one residual block.
        max_layers: The most sub-layers of a residual block.
        widening: Channels go up to so many times the seed's (rounded to a multiple of 8), at most 2048; None: to 2048.

    Raises:
        ArchitectureError: The seed is not a chain.
        ConfigError: It has no residual block, or a number is out of range.
    """

    def __init__(self, name: str, seed: str, *, max_layers: int = 8, widening: float | None = None) -> None:
        self.seed = parse_chain(seed)
        self._residual = [number for number, block in enumerate(self.seed) if block.residual]
        if not self._residual:
            raise ConfigError(f"the seed {seed!r} has no residual block; a search wants one of {', '.join(RESIDUAL)}")
        most = max(self.seed[number].layers for number in self._residual)
        if max_layers < most:
            raise ConfigError(f"max_layers = {max_layers}; wants at least {most}, the sub-layers of the seed")
        if widening is not None and widening < 1:
            raise ConfigError(f"widening = {widening}; wants at least 1, which is the seed's channels")
        residual = [self.seed[number] for number in self._residual]
        dimensions = (
            Dimension.uniform("type", RESIDUAL, len(residual)),
            Dimension("out", tuple(_channels(block.out_channels, widening) for block in self.seed)),
            Dimension("bottleneck", tuple(_channels(block.bottleneck, widening) for block in residual)),
            Dimension.uniform("layers", range(1, max_layers + 1), len(residual)),
        )
        super().__init__(name, dimensions)

    def chain(self, architecture: Architecture) -> tuple[ChainBlock, ...]:
        """Return the blocks of an architecture.

        Raises:
            ArchitectureError: It is not in the space.
        """
        self.validate(architecture)
        blocks: list[ChainBlock] = []
        channels = self.seed[0].in_channels
        for number, (seed, out) in enumerate(zip(self.seed, architecture["out"], strict=True)):
            block = ChainBlock(seed.type, channels, int(out), seed.stride, 0, seed.layers)
            if seed.residual:
                kind, middle, layers = (
                    architecture[name][self._residual.index(number)] for name in ("type", "bottleneck", "layers")
                )
                block = ChainBlock(str(kind), channels, int(out), seed.stride, int(middle), int(layers))
            blocks.append(block)
            channels = block.out_channels
        return tuple(blocks)

    def to_string(self, architecture: Architecture) -> str:
        """Return the published string of an architecture.

        Raises:
            ArchitectureError: It is not in the space.
        """
        return format_chain(self.chain(architecture))

    def from_string(self, text: str) -> Architecture:
        """Return the architecture of a published string.

        Raises:
            ArchitectureError: The string is not a chain, or not one of this space; the message names block or gene.
        """
        blocks = parse_chain(text)
        if len(blocks) != len(self.seed):
            raise ArchitectureError(f"the chain has {len(blocks)} blocks, space {self.name!r} wants {len(self.seed)}")
        if blocks[0].in_channels != self.seed[0].in_channels:
            raise ArchitectureError(f"block 0 {blocks[0]}: in_channels differ from {self.seed[0].in_channels}")
        for number, (block, seed) in enumerate(zip(blocks, self.seed, strict=True)):
            fixed = ("stride",) if seed.residual and block.residual else ("type", "stride", "layers")
            for name in fixed:
                if getattr(block, name) != getattr(seed, name):
                    allowed = ", ".join(RESIDUAL) if name == "type" and seed.residual else getattr(seed, name)
                    raise ArchitectureError(
                        f"block {number} {block}: {name} = {getattr(block, name)}; allowed in space {self.name!r}: "
                        f"{allowed}"
                    )
        return self._of_chain(blocks)

    def seed_architecture(self) -> Architecture:
        """Return the architecture of the seed, where the published search starts."""
        return self._of_chain(self.seed)

    def _of_chain(self, blocks: Sequence[ChainBlock]) -> Architecture:
        residual = [blocks[number] for number in self._residual]
        architecture = Architecture(
            {
                "type": [block.type for block in residual],
                "out": [block.out_channels for block in blocks],
                "bottleneck": [block.bottleneck for block in residual],
                "layers": [block.layers for block in residual],
            }
        )
        self.validate(architecture)
        return architecture

    def mutate(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """Return an architecture of this space that differs from a given one in one block.

        A block is drawn, then all of its genes: any type, channels times one of `CHANNEL_FACTORS`, sub-layers plus one
        of `LAYER_STEPS`; the nearest legal values are taken. It is drawn again until something has changed.

        Args:
            architecture: One of this space.
            rng: Where the draws come from.

        Raises:
            ArchitectureError: The architecture is not in the space.
        """
        self.validate(architecture)
        while True:
            genes = architecture.to_dict()
            number = int(rng.integers(len(self.seed)))
            genes["out"][number] = self._scaled("out", number, genes["out"][number], rng)
            if number in self._residual:
                slot = self._residual.index(number)
                types = self._legal("type", slot)
                genes["type"][slot] = types[int(rng.integers(len(types)))]
                genes["bottleneck"][slot] = self._scaled("bottleneck", slot, genes["bottleneck"][slot], rng)
                layers = int(genes["layers"][slot]) + int(rng.choice(LAYER_STEPS))
                genes["layers"][slot] = _nearest(self._legal("layers", slot), layers)
            mutant = Architecture(genes)
            if mutant != architecture:
                return mutant

    def _legal(self, dimension: str, slot: int) -> tuple[Value, ...]:
        return next(d for d in self.dimensions if d.name == dimension).choices[slot]

    def _scaled(self, dimension: str, slot: int, channels: Value, rng: np.random.Generator) -> Value:
        return _nearest(self._legal(dimension, slot), float(channels) * float(rng.choice(CHANNEL_FACTORS)))


def _channels(seed: int, widening: float | None) -> tuple[int, ...]:
    """Return the legal channels of a block."""
    most = MOST_CHANNELS if widening is None else min(round(seed * widening / CHANNEL_STEP) * CHANNEL_STEP, 2048)
    return tuple(range(CHANNEL_STEP, max(most, seed) + 1, CHANNEL_STEP))


def _nearest(legal: Sequence[Value], value: float) -> Value:
    return min(legal, key=lambda choice: abs(float(choice) - value))
