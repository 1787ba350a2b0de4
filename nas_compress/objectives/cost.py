"""Costs that follow from the architecture alone, and fvcore's count for checking them."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_compress.objectives.base import AnalyticObjective, Measurement, Objective
from nas_compress.objectives.modes import traceable_attention
from nas_compress.space import Architecture, SearchSpace
from nas_compress.supernets.base import Inputs, Supernet

if TYPE_CHECKING:
    from nas_compress.agent import NAS
    from nas_compress.compression.quantized import OnnxNetwork

BYTES_PER_WEIGHT = 4
COUNTED_OPERATORS = (
    "conv", "linear", "addmm", "matmul", "bmm", "baddbmm", "einsum", "scaled_dot_product_attention",
)  # fmt: skip


class SupernetCost(AnalyticObjective):
    """A cost that a super-network knows of its architectures.

    Args:
        supernet: Counts it; the weights do not matter.
    """

    direction = "minimize"

    def __init__(self, supernet: Supernet) -> None:
        self._supernet = supernet

    @classmethod
    def from_agent(cls, agent: NAS) -> Objective:
        """Return the cost for an agent's super-network; see `Objective.from_agent`."""
        return cls(agent.supernet)

    def compute(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """Return the costs, shape (n,); see `AnalyticObjective.compute`."""
        space = self._supernet.space
        return self.compute_encoded(space, space.encode(architectures))

    def context(self) -> dict[str, Any]:
        """Return the super-network's configuration; see `Objective.context`."""
        return {"supernet": self._supernet.describe()}


class Macs(SupernetCost):
    """Multiply-accumulates of convolutions, linear layers and attention products at batch 1."""

    name = "macs"
    unit = ""
    column = " MACs"

    def compute_encoded(self, space: SearchSpace, encoded: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the counts, shape (n,); see `AnalyticObjective.compute_encoded`."""
        return self._supernet.encoded_cost("macs", space, encoded)


class Params(SupernetCost):
    """Number of parameters of the extracted sub-network."""

    name = "params"
    unit = ""
    column = "Model Parameters"

    def compute_encoded(self, space: SearchSpace, encoded: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the counts, shape (n,); see `AnalyticObjective.compute_encoded`."""
        return self._supernet.encoded_cost("params", space, encoded)


class Layers(SupernetCost):
    """Residual blocks, or transformer layers, of the extracted sub-network."""

    name = "layers"
    unit = ""
    column = "Layers"

    def compute_encoded(self, space: SearchSpace, encoded: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the counts, shape (n,); see `AnalyticObjective.compute_encoded`."""
        return self._supernet.encoded_layers(space, encoded)


class ModelSize(SupernetCost):
    """Size of the fp32 parameters in MB (10^6 bytes).

    An exported file differs: batch norm is folded into the weights before it, and the graph is added.
    """

    name = "model_size"
    unit = "MB"
    column = "Model Size (MB)"

    @classmethod
    def from_agent(cls, agent: NAS) -> Objective:
        """Return the size, measured where precisions are searched; see `Objective.from_agent`."""
        return cls(agent.supernet) if agent.config.section.precision is None else FileSize()

    def compute_encoded(self, space: SearchSpace, encoded: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the sizes, shape (n,); see `AnalyticObjective.compute_encoded`."""
        return self._supernet.encoded_cost("params", space, encoded) * BYTES_PER_WEIGHT / 1e6


class FileSize(Objective):
    """Size of a sub-network's ONNX file in MB (10^6 bytes), as it is quantized."""

    name = "model_size"
    direction = "minimize"
    unit = "MB"
    column = "Model Size (MB)"

    def measure(self, subnet: nn.Module, architecture: Architecture) -> Measurement:
        """Return the size of an `OnnxNetwork`; see `Objective.measure`."""
        return Measurement(len(cast("OnnxNetwork", subnet).onnx) / 1e6)


def count_macs(module: nn.Module, example: Inputs) -> int:
    """Return fvcore's count of multiply-accumulates at batch 1, in the convention of published OFA tables.

    Convolutions, linear layers and attention products count; batch norm, LayerNorm, pooling, activations and
    element-wise products do not. A copy of the module is traced in evaluation mode.

    Args:
        module: Any traceable network.
        example: An input, or several by position, with the batch first; the first row is traced.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fvcore.nn import FlopCountAnalysis

    row = example[:1] if isinstance(example, Tensor) else tuple(each[:1] for each in example)
    with torch.no_grad(), traceable_attention():
        # fvcore leaves hooks behind on a module that it fails to trace.
        analysis = FlopCountAnalysis(copy.deepcopy(module).eval(), row)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        analysis.set_op_handle("aten::scaled_dot_product_attention", _attention_macs)
        analysis.set_op_handle("aten::baddbmm", _baddbmm_macs)
        by_operator = analysis.by_operator()
    return sum(int(by_operator[name]) for name in COUNTED_OPERATORS)


def _attention_macs(inputs: list[Any], outputs: list[Any]) -> int:
    """Count both products of attention: queries (..., L, E), keys (..., S, E), values (..., S, V)."""
    query, key, value = (v.type().sizes() for v in inputs[:3])
    return int(math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1]))


def _baddbmm_macs(inputs: list[Any], outputs: list[Any]) -> int:
    """Count the product of matrices of shape (b, n, k) and (b, k, m)."""
    left, right = (v.type().sizes() for v in inputs[1:3])
    return int(math.prod(left) * right[-1])
