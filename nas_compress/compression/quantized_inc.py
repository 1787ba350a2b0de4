"""One network in many precisions with Intel Neural Compressor (INC): int8, bf16 and fp32 in one graph."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache
from importlib import metadata
from typing import Any, cast

from torch import Tensor, nn

from nas_compress.compression.inc_graph import Quantizer, check_request, checked_calibration
from nas_compress.compression.inc_ipex import ipex_is_loaded
from nas_compress.compression.inc_module import GraphModule, Int8Module, quiet
from nas_compress.errors import EvaluationError

BF16 = "bf16"
"""Stands among the methods for a module that computes in bf16."""

KEPT_EXPORTS = 4
"""Exported networks that are kept for further precisions: bf16 modules want an export of their own."""


class InBf16(nn.Module):
    """A module with weights, activations and batch norm in bf16 between fp32 neighbours.

    The casts are our own, as INC 3.10 makes fp16 of bf16 where it is mixed into an int8 graph.

    Args:
        module: Plain torch layers; changed in place.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        """Return the module's output in fp32."""
        return cast(Tensor, self.module(x.bfloat16()).float())


class MixedQuantizer(Quantizer):
    """INC's static quantizer, with a way to find ranges for every module of a row; see `Quantizer`.

    Attributes:
        algorithm_of: The algorithm by the name of a module; INC's default elsewhere.
    """

    algorithm_of: dict[str, str]

    def config(self, keep_fp32: Sequence[str] = (), algorithm: str = "") -> Any:
        """Return INC's configuration; see the base class."""
        from neural_compressor.torch.quantization import StaticQuantConfig

        config = super().config(keep_fp32, algorithm)
        for name, own in self.algorithm_of.items():  # what is kept in fp32 inside was named before, which counts more
            config = config.set_local([name], StaticQuantConfig(act_algo=own))
        return config


class IncQuantizableNetwork:
    """A row of modules, each of which may be in int8 (static, weights per channel), in bf16 or in fp32.

    Linear layers whose output is added to a parameter stay in fp32 in int8 modules, too; see `Quantizer.unsafe`.

    Args:
        network: An `nn.Sequential` in evaluation mode.
        example: Inputs for the export, the batch first.
        calibration: Returns batches of training images, shape (n, C, r, r), from which ranges of activations come.

    Raises:
        MissingExtraError: INC is not installed.
        EvaluationError: The network has no layer to quantize, or IPEX is loaded, which takes the graph away from INC.
    """

    def __init__(self, network: nn.Module, example: Tensor, calibration: Callable[[], Iterable[Tensor]]) -> None:
        check_request(network, "static", ())
        if ipex_is_loaded():
            raise EvaluationError("INC cannot mix precisions where IPEX is loaded; use a new process")
        self._network, self._example, self._make_batches = network, example, calibration
        self._quantizer = lru_cache(maxsize=KEPT_EXPORTS)(self._exported)

    @staticmethod
    def conditions() -> dict[str, Any]:
        """Return what accuracy depends on besides the options, as plain data."""
        return {
            "versions": {"torch": metadata.version("torch")},
            "weights": "per channel, 8 bits",
            "evaluated": "the graph before it is compiled",
        }

    @property
    def size(self) -> int:
        """Bytes that are kept for further precisions, at most."""
        return (1 + 2 * KEPT_EXPORTS) * sum(p.numel() * p.element_size() for p in self._network.parameters())

    def network(self, methods: Sequence[str | None]) -> GraphModule:
        """Return the network in these precisions, as a graph that is not compiled.

        Args:
            methods: For every module how the ranges of its activations are found (`minmax`, or `kl`: histograms);
                `bf16`, or None for fp32.

        Raises:
            EvaluationError: INC cannot take the network.
            DataError: There are no calibration images.
        """
        quantizer, kept = self._prepared(methods)
        return GraphModule(quantizer.graph(kept))

    def compiled(self, methods: Sequence[str | None], example: Tensor) -> Int8Module:
        """Return the network in these precisions, compiled by Inductor for the shape of the example.

        Args:
            methods: See `network`, which says what is raised as well.
            example: Inputs, of the batch size to compile for.
        """
        quantizer, kept = self._prepared(methods)
        with quiet():
            return Int8Module(quantizer.graph(kept), example, kept_fp32=kept)

    def _prepared(self, methods: Sequence[str | None]) -> tuple[MixedQuantizer, list[str]]:
        """Return the quantizer for these precisions, and the names of what it is to leave alone."""
        quantizer = self._quantizer(tuple(method == BF16 for method in methods))
        lowered = {str(number): method for number, method in enumerate(methods) if method and method != BF16}
        quantizer.algorithm_of = lowered
        rest = [str(number) for number in range(len(methods)) if str(number) not in lowered]
        return quantizer, [*rest, *(name for name in quantizer.unsafe if name.split(".")[0] in lowered)]

    def _exported(self, halved: tuple[bool, ...]) -> MixedQuantizer:
        row = copy.deepcopy(cast(nn.Sequential, self._network))
        modules = [InBf16(module) if half else module for module, half in zip(row, halved, strict=True)]
        return MixedQuantizer(nn.Sequential(*modules), (self._example,), self._calibration, "static")

    @cached_property
    def _calibration(self) -> list[tuple[Tensor, ...]]:
        return checked_calibration(self._make_batches(), (self._example,))
