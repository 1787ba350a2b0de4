"""The one way from a torch module to ONNX."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from nas_compress.backends.base import as_tuple
from nas_compress.errors import ConfigError, EvaluationError, first_line

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nas_compress.supernets.base import Inputs

INPUT = "input"
OUTPUT = "output"
OPSET = 17

Axes = Mapping[str, Mapping[int, str]]
"""Names of dynamic axes, by the name of an input or output and the axis's number: `{"input_ids": {1: "length"}}`."""


def to_onnx(module: nn.Module, example: Inputs, dynamic_axes: Axes | None = None) -> bytes:
    """Return the ONNX form of a module in evaluation mode, with a dynamic batch.

    One input is called `input`, several have the names of the parameters of `forward`; one output is called `output`,
    several `output_0` and so on.

    A module that holds an ONNX model already (`OnnxNetwork`) gives that.

    The tracing exporter is used on purpose: the newer one takes ten times as long, which a search would pay for
    every architecture.

    Args:
        module: Maps tensors to a tensor or a tuple of tensors; given back in the mode it had.
        example: An input, or the inputs by position, with the batch first in each.
        dynamic_axes: Axes that are dynamic besides the batch, where the module allows it.

    Raises:
        EvaluationError: torch cannot export the module.
        ConfigError: `dynamic_axes` names something that is no input or output.
    """
    import torch

    from nas_compress.compression.quantized import OnnxNetwork
    from nas_compress.objectives.modes import evaluating, traceable_attention

    if isinstance(module, OnnxNetwork):
        return module.onnx
    inputs = as_tuple(example)
    failures = (RuntimeError, ValueError, TypeError, IndexError, torch.onnx.errors.OnnxExporterError)
    try:
        names = input_names(module, len(inputs))
        with (
            TemporaryDirectory() as folder,
            torch.no_grad(),
            evaluating(module),
            traceable_attention(),
            _without_defaults(module),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            path, outputs = Path(folder) / "model.onnx", _output_names(module(*inputs))
            axes = _axes([*names, *outputs], dynamic_axes or {})
            torch.onnx.export(
                module,
                inputs,
                path,
                dynamo=False,
                opset_version=OPSET,
                input_names=names,
                output_names=outputs,
                dynamic_axes=axes,
            )
            model = path.read_bytes()
    except failures as error:
        raise EvaluationError(f"the export to ONNX failed: {first_line(error)}") from error
    return model if len(names) == 1 else _with_inputs(model, dict(zip(names, inputs, strict=True)), axes)


def _with_inputs(model: bytes, inputs: Mapping[str, Tensor], axes: Axes) -> bytes:
    """Return a model that has all inputs, in order: torch leaves out those that the module makes no use of."""
    import onnx

    loaded = onnx.load_model_from_string(model)
    kept = {each.name: each for each in loaded.graph.input}
    if len(kept) == len(inputs):
        return model
    for name, value in inputs.items():
        if name not in kept:
            shape = [axes[name].get(axis, size) for axis, size in enumerate(value.shape)]
            kind = onnx.helper.np_dtype_to_tensor_dtype(value.numpy().dtype)
            kept[name] = onnx.helper.make_tensor_value_info(name, kind, shape)
    del loaded.graph.input[:]
    loaded.graph.input.extend(kept[name] for name in inputs)
    return bytes(loaded.SerializeToString())


def input_names(module: nn.Module, count: int) -> list[str]:
    """Return the names of the inputs of a module that takes so many: `input`, or the parameters of its `forward`."""
    if count == 1:
        return [INPUT]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(module.forward).parameters.values()
    names = [p.name for p in parameters if p.kind in positional]
    return names[:count] if len(names) >= count else [f"{INPUT}_{i}" for i in range(count)]


@contextmanager
def _without_defaults(module: nn.Module) -> Iterator[None]:
    """Hide what `forward` has defaults for, which torch would make inputs of; scripts are taken as they are."""
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        yield
        return
    forward, own = module.forward, vars(module)
    replaced = "forward" in own
    own["forward"] = lambda *inputs: forward(*inputs)
    try:
        yield
    finally:
        del own["forward"]
        if replaced:
            own["forward"] = forward


def _output_names(outputs: Any) -> list[str]:
    import torch

    if isinstance(outputs, torch.Tensor):
        return [OUTPUT]
    if not isinstance(outputs, (tuple, list)) or not all(isinstance(each, torch.Tensor) for each in outputs):
        raise TypeError(f"the module returns {type(outputs).__name__}; wants a tensor or a tuple of tensors")
    return [f"{OUTPUT}_{i}" for i in range(len(outputs))]


def _axes(names: Sequence[str], further: Axes) -> dict[str, dict[int, str]]:
    if unknown := [name for name in further if name not in names]:
        raise ConfigError(f"dynamic_axes: {unknown[0]!r} is no input or output; known: {', '.join(names)}")
    return {name: {0: "batch", **further.get(name, {})} for name in names}
