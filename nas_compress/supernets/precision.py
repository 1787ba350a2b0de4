"""A super-network whose sub-networks come in several precisions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_compress.compression.options import Engine
from nas_compress.compression.quantized import QuantizableNetwork
from nas_compress.compression.quantized_inc import IncQuantizableNetwork
from nas_compress.data.base import ImageData, batches
from nas_compress.errors import ConfigError
from nas_compress.objectives.calibration import calibrated_subnet
from nas_compress.space import Architecture, SearchSpace
from nas_compress.space.precision import PRECISION, PrecisionSpace, block_dimension
from nas_compress.supernets.base import Block, Cost, ImageSupernet, Supernet
from nas_compress.supernets.precision_config import PrecisionConfig

KEPT_BYTES = 2**28
"""Exported sub-networks are kept for further precisions as long as they take no more memory than this."""

_BATCH = 64


class Quantizable(Protocol):
    """What an engine makes of an extraction: it gives the network in any precisions."""

    @property
    def size(self) -> int:
        """Bytes that it keeps, about."""

    def network(self, methods: Sequence[str | None]) -> nn.Module:
        """Return the network as it is deployed, lowered module by module as `PrecisionConfig.methods` says."""


ENGINES: Mapping[Engine, type[QuantizableNetwork] | type[IncQuantizableNetwork]] = {
    "onnxruntime": QuantizableNetwork,
    "inc": IncQuantizableNetwork,
}
"""What each engine makes of an extraction, an example and calibration images."""


class PrecisionSupernet(ImageSupernet):
    """A super-network of images with the precisions of its block groups in the space.

    Weights, active sub-networks and extractions are those of the super-network, in fp32: quantization comes after BN
    recalibration, in `QuantizedSubnets`.

    Args:
        base: The super-network.
        options: Which precisions there are, and of what.

    Attributes:
        base: As given.
        options: As given.

    Raises:
        ConfigError: The super-network is not one of images, has no blocks of elastic depth, or does not extract an
            `nn.Sequential` of its blocks; or the processor does not compute in bf16.
        MissingExtraError: INC is not installed.
    """

    space: PrecisionSpace

    def __init__(self, base: Supernet, options: PrecisionConfig) -> None:
        super().__init__()
        if not isinstance(base, ImageSupernet):
            raise ConfigError(f"precision: supernet {base.name!r} is not one of images, which alone can be quantized")
        options.check_machine()
        self.base, self.options = base, options
        self.name, self.in_channels, self.num_classes = base.name, base.in_channels, base.num_classes
        self.space = options.space(base.space)
        self._stem = _modules_of_stem(base)
        self._subnets: QuantizedSubnets | None = None
        self.train(base.training)

    def precisions(self, architecture: Architecture, modules: int) -> list[str]:
        """Return the precision of every module of an extraction.

        Args:
            architecture: The sub-network.
            modules: How many modules its extraction is a row of.
        """
        by_slot: dict[int, str] = {}
        stem = head = ""
        for group, value in zip(self.space.groups, map(str, architecture[PRECISION]), strict=True):
            by_slot |= dict.fromkeys(group.slots, value)
            stem, head = value if group.stem else stem, value if group.head else head
        blocks = [by_slot[slot] for slot in self._active_slots(architecture)]
        return [stem] * self._stem + blocks + [head] * (modules - self._stem - len(blocks))

    def _active_slots(self, architecture: Architecture) -> list[int]:
        base, bare = self.base.space, self.space.without(architecture)
        return active_slots(base, bare)

    def quantized(self, architecture: Architecture, data: ImageData, images: int) -> nn.Module:
        """Return a sub-network as it is deployed; see `QuantizedSubnets`, one of which is kept for one set of data."""
        if self._subnets is None or not self._subnets.uses(data, images):
            self._subnets = QuantizedSubnets(self, data, images)
        return self._subnets(architecture)

    def conditions(self) -> dict[str, Any]:
        """Return what quantized sub-networks depend on besides weights and data, as plain data."""
        return {**self.options.describe(), **ENGINES[self.options.engine].conditions()}

    # -- what the super-network does -----------------------------------------------------------------------

    def _configure(self, architecture: Architecture) -> None:
        self.base._set_active(self.space.without(architecture))

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, channels, r, r) to logits (N, classes) with the active sub-network, in fp32."""
        return cast(Tensor, self.base(x))

    def extract(self, architecture: Architecture) -> nn.Module:
        """Return the sub-network in fp32; see the base class."""
        self.space.validate(architecture)
        return self.base.extract(self.space.without(architecture))

    def resolution(self, architecture: Architecture) -> int:
        """Return the input height and width in pixels that an architecture takes."""
        return self.base.resolution(self.space.without(architecture))

    def example_input(self, batch: int = 1, architecture: Architecture | None = None) -> Tensor:
        """Return standard normal images; see the base class."""
        return self.base.example_input(batch, None if architecture is None else self.space.without(architecture))

    def blocks(self, architecture: Architecture) -> list[Block]:
        """Return the blocks in fp32; see the base class."""
        self.space.validate(architecture)
        return self.base.blocks(self.space.without(architecture))

    def encoded_cost(self, cost: Cost, space: SearchSpace, encoded: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the costs of many architectures, whatever their precisions; see the base class."""
        return self.base.encoded_cost(cost, space, encoded)

    def encoded_layers(self, space: SearchSpace, encoded: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the layers of many architectures, whatever their precisions; see the base class."""
        return self.base.encoded_layers(space, encoded)

    def sort_by_importance(self) -> None:
        """Reorder shared channels; see the base class."""
        self.base.sort_by_importance()

    def describe(self) -> dict[str, Any]:
        """Return the super-network's configuration, and how precisions come about."""
        return {**self.base.describe(), PRECISION: self.options.describe()}

    def fingerprint(self) -> str:
        """Return the super-network's own: its weights are the same."""
        return self.base.fingerprint()


class QuantizedSubnets:
    """Builds sub-networks as they are deployed: extracted, recalibrated, exported, and quantized where they say so.

    With engine `onnxruntime` they are `OnnxNetwork`s; with `inc` they are `GraphModule`s, which are evaluated as they
    are, and compiled where latency is measured.

    What a precision does not change is done once for each architecture.

    Args:
        supernet: Where the sub-networks come from.
        data: Its training images recalibrate batch norm and give the ranges of activations.
        images: Images for BN recalibration, at most.
    """

    def __init__(self, supernet: PrecisionSupernet, data: ImageData, images: int) -> None:
        self._supernet, self._data, self._images = supernet, data, images
        self._kept: OrderedDict[Architecture, tuple[Quantizable, int]] = OrderedDict()

    def uses(self, data: ImageData, images: int) -> bool:
        """Return whether it was made with this very data, and so many images."""
        return self._data is data and self._images == images

    def __call__(self, architecture: Architecture) -> nn.Module:
        """Return a sub-network as it is deployed.

        Raises:
            ArchitectureError: The architecture is not in the space.
            EvaluationError: It cannot be exported or quantized.
        """
        net = self._supernet
        architecture = net.space.canonicalize(architecture)
        exported, modules = self._exported(net.space.without(architecture))
        methods = net.options.methods
        return exported.network([methods[p] for p in net.precisions(architecture, modules)])

    def _exported(self, bare: Architecture) -> tuple[Quantizable, int]:
        if bare not in self._kept:
            subnet = calibrated_subnet(self._supernet.base, bare, self._data, self._images)
            resolution = self._supernet.base.resolution(bare)
            example = self._supernet.base.example_input(2, bare)
            engine = ENGINES[self._supernet.options.engine]
            network = engine(subnet, example, lambda: self._calibration(resolution))
            self._kept[bare] = network, len(cast(nn.Sequential, subnet))
        self._kept.move_to_end(bare)
        while len(self._kept) > 1 and sum(network.size for network, _ in self._kept.values()) > KEPT_BYTES:
            self._kept.popitem(last=False)
        return self._kept[bare]

    def _calibration(self, resolution: int) -> Iterator[Tensor]:
        limit = self._supernet.options.calibration_images
        return (x for x, _ in batches(self._data.train, _BATCH, resolution, limit=limit))


def active_slots(space: SearchSpace, architecture: Architecture) -> list[int]:
    """Return the numbers of the elastic blocks that an architecture uses, in the order in which they run."""
    name = block_dimension(space).name
    used = dict(zip(space.gene_names, space.active(space.encode([architecture]))[0].tolist(), strict=True))
    return [slot for slot in range(block_dimension(space).slots) if used[f"{name}[{slot}]"]]


def _modules_of_stem(net: ImageSupernet) -> int:
    """Return how many modules of an extraction come before its elastic blocks: those that the first block is made of.

    Raises:
        ConfigError: The extraction is no row of modules that begins with them.
    """
    smallest = net.space.smallest()
    subnet = net.extract(smallest)
    wanted = _parameters(net.blocks(smallest)[0].build())
    if isinstance(subnet, nn.Sequential):
        seen = 0
        for number, module in enumerate(subnet, start=1):
            seen += _parameters(module)
            if seen == wanted:
                return number
    raise ConfigError(
        f"precision: supernet {net.name!r} does not extract an nn.Sequential of its blocks, which quantization by "
        "block wants"
    )


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
