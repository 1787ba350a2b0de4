"""One network in many precisions: exported and calibrated once, then quantized part by part as often as asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import onnx
import torch
from torch import Tensor, nn

from nas_compress.backends.hardware import has_int8_dot_product
from nas_compress.backends.onnx import to_onnx
from nas_compress.backends.onnxruntime import OnnxSession
from nas_compress.compression.quantize import Int8Forms
from nas_compress.errors import CheckpointError, ConfigError, EvaluationError

_CHILD = re.compile(r"/(\d+)/")
_AND = " and "

Ranges = dict[str, tuple[float, float]]


class OnnxNetwork(nn.Module):
    """An ONNX model as a module: its forward pass runs in ONNX Runtime, and it exports as what it is.

    Args:
        model: The serialized model, of one input and one output.

    Attributes:
        onnx: As given.
    """

    def __init__(self, model: bytes) -> None:
        super().__init__()
        self.onnx = model

    @cached_property
    def _session(self) -> OnnxSession:
        return OnnxSession(self.onnx, torch.get_num_threads())

    def forward(self, x: Tensor) -> Tensor:
        """Return the model's output for a batch.

        Raises:
            EvaluationError: The model does not take inputs of this shape.
        """
        return cast(Tensor, self._session(x))


class QuantizableNetwork:
    """A row of modules, each of which may be in int8 (static, U8S8, QDQ, weights per channel) or in fp32.

    Args:
        network: An `nn.Sequential` in evaluation mode.
        example: Inputs for the export, the batch first.
        calibration: Returns batches of training images, shape (n, C, r, r), from which ranges of activations come.

    Attributes:
        fp32: The network as it was exported.

    Raises:
        EvaluationError: The network cannot be exported.
    """

    def __init__(self, network: nn.Module, example: Tensor, calibration: Callable[[], Iterable[Tensor]]) -> None:
        self._calibration = calibration
        self.fp32 = to_onnx(network, example)

    @cached_property
    def _forms(self) -> _Forms:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "subnet.onnx"
            path.write_bytes(self.fp32)
            return _Forms(path, self._calibration())

    @cached_property
    def modules(self) -> dict[str, int]:
        """The number of the module in the row that every node of the prepared graph comes from, by the node's name."""
        return modules_of_nodes(self._forms.model)

    @staticmethod
    def conditions() -> dict[str, Any]:
        """Return what accuracy depends on besides the options, as plain data."""
        weights = "8 bits" if has_int8_dot_product() else "7 bits"
        return {"versions": {"onnxruntime": metadata.version("onnxruntime")}, "weights": f"per channel, {weights}"}

    @property
    def size(self) -> int:
        """Bytes that are kept for further precisions, about: the network as exported and as prepared, and images."""
        feeds = self._forms.feeds if "_forms" in self.__dict__ else []
        return 2 * len(self.fp32) + sum(array.nbytes for feed in feeds for array in feed.values())

    def network(self, methods: Sequence[str | None]) -> OnnxNetwork:
        """Return the network in these precisions, in ONNX Runtime; see `quantized`."""
        return OnnxNetwork(self.quantized(methods))

    def quantized(self, methods: Sequence[str | None]) -> bytes:
        """Return the serialized model with some modules in int8; without any, as it was exported.

        Args:
            methods: For every module how the ranges of its activations are found, as in `quantize_onnx`; None for a
                module that stays in fp32.

        Raises:
            EvaluationError: The quantizer cannot take the network.
            DataError: There are no calibration images.
        """
        named = sorted({method for method in methods if method})
        if not named:
            return self.fp32
        self._forms.methods = {name: methods[module] for name, module in self.modules.items()}
        kept = [name for name, method in self._forms.methods.items() if method is None]
        try:
            return self._forms.form(_AND.join(named), exclude=kept)
        except (ConfigError, CheckpointError) as error:  # nothing to compute in int8, or no kernel for what there is
            raise EvaluationError(str(error)) from error


class _Forms(Int8Forms):
    """Int8 forms in which parts of the network have ranges by different methods.

    Attributes:
        methods: The method by node, None where the node stays in fp32.
    """

    methods: Mapping[str, str | None]

    def ranges(self, method: str) -> Ranges:
        """Return the ranges of all activations, each by the method of the node that makes it or, if none, reads it.

        What ran the calibration images is let go: its session would hold the memory of all activations, far more than
        the network itself.

        Args:
            method: One method, or the names of several, joined.
        """
        names = method.split(_AND)
        by_method = {name: super(_Forms, self).ranges(name) for name in names}
        self._activations = None
        if len(names) == 1:
            return by_method[method]
        chosen = dict(by_method[names[0]])
        for of in ("input", "output"):  # what a node makes counts more than what it reads
            for node in self.model.graph.node:
                if own := self.methods[node.name]:
                    chosen |= {name: by_method[own][name] for name in getattr(node, of) if name in chosen}
        return chosen


def modules_of_nodes(model: onnx.ModelProto) -> dict[str, int]:
    """Return the number of the module in a row that every node was exported from, by the node's name.

    Exported names carry the path of the module (`/3/spatial/spatial.0/Conv` is of the fourth). A node without one, such
    as the parts of an operator that was taken apart, belongs to what made its inputs.
    """
    numbers: dict[str, int] = {}
    makers: dict[str, int] = {}
    for node in model.graph.node:
        match = _CHILD.match(node.name)
        inherited = max((makers[name] for name in node.input if name in makers), default=0)
        numbers[node.name] = int(match[1]) if match else inherited
        makers |= dict.fromkeys(node.output, numbers[node.name])
    return numbers
