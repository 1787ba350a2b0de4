"""From a module to a quantized graph with Intel Neural Compressor (INC): export, observe, convert; not compiled."""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Iterable, Sequence
from contextlib import redirect_stderr
from typing import Any, cast

import torch
from torch import Tensor, nn

from nas_compress.compression.calibration import calibration_batches
from nas_compress.compression.inc_ipex import IpexQuantizer, ipex_is_loaded
from nas_compress.compression.inc_module import Int8Module, check_finite, dynamic_batch, paired, quiet
from nas_compress.compression.inc_version import inc_version
from nas_compress.compression.options import Scheme
from nas_compress.compression.packages import check_bf16
from nas_compress.errors import ConfigError, DataError, EvaluationError, first_line, suggest

LAYERS: dict[Scheme, tuple[type[nn.Module], ...]] = {
    "static": (nn.Conv2d, nn.Linear),
    "dynamic": (nn.Linear,),
    "mixed_precision": (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear),
    "smoothquant": (nn.Linear,),
}
"""The layers that each approach quantizes."""
RESHAPING = ("view", "reshape", "flatten", "unflatten", "transpose", "permute")

Inputs = tuple[Tensor, ...]


def quantizable(module: nn.Module, approach: Scheme) -> list[str]:
    """Return the names of the layers that an approach quantizes, in the module's order."""
    return [name for name, layer in module.named_modules() if isinstance(layer, LAYERS[approach])]


def check_request(module: nn.Module, approach: Scheme, keep_fp32: Sequence[str]) -> None:
    """Check that INC is installed and can do what is asked for, before any work.

    Raises:
        MissingExtraError: INC is not installed.
        ConfigError: The module has no layer of a name in `keep_fp32`.
        EvaluationError: The approach quantizes no layer of this module, the processor does not compute in bf16, or
            IPEX is loaded in this process, which takes the graph away from INC.
    """
    inc_version()
    names = [name for name, _ in module.named_modules()]
    for name in keep_fp32:
        if name not in names:
            raise ConfigError(f"keep_fp32: the network has no layer {name!r}{suggest(name, names)}")
    if approach == "mixed_precision":
        check_bf16()
    if approach == "dynamic" and ipex_is_loaded():
        raise EvaluationError("dynamic: INC cannot quantize dynamically where IPEX is loaded; use a new process")
    if not quantizable(module, approach):
        kinds = ", ".join(kind.__name__ for kind in LAYERS[approach])
        raise EvaluationError(f"{approach}: the network has none of the layers that are quantized ({kinds})")


def checked_calibration(calibration: Iterable[Tensor | Inputs], example: Inputs) -> list[Inputs]:
    """Return the calibration batches, each a tuple of inputs, after a look at every one.

    Raises:
        DataError: There is none, a batch is empty or of another shape than the example, or of
            another type, or has NaN or infinite values.
    """
    checked = calibration_batches(calibration)
    for number, batch in enumerate(checked):
        if len(batch) != len(example):
            raise DataError(f"calibration batch {number} has {len(batch)} inputs, the network takes {len(example)}")
        for each, model in zip(batch, example, strict=True):
            if not len(each) or each.shape[1:] != model.shape[1:]:
                wanted = ", ".join(map(str, ("n", *model.shape[1:])))
                raise DataError(f"calibration batch {number} has shape {tuple(each.shape)}, wanted ({wanted})")
            if each.dtype != model.dtype:
                kinds = [str(tensor.dtype).removeprefix("torch.") for tensor in (each, model)]
                raise DataError(f"calibration batch {number} has {kinds[0]} values, the network takes {kinds[1]}")
            if each.is_floating_point() and not torch.isfinite(each).all():
                raise DataError(f"calibration batch {number} has values that are not finite (NaN or infinite)")
    if not checked:
        raise DataError("quantization wants at least one batch of calibration images, got none")
    return checked


def quantizer_of(
    module: nn.Module, example: Inputs, calibration: Sequence[Inputs], approach: Scheme
) -> Quantizer | IpexQuantizer:
    """Return what quantizes a module: through IPEX for `smoothquant`, and for `static` where IPEX is loaded."""
    if approach == "smoothquant" or (approach == "static" and ipex_is_loaded()):
        return IpexQuantizer(module, example, calibration, approach)
    return Quantizer(module, example, calibration, approach)


class Quantizer:
    """Quantizes one module as often as asked, with different layers in fp32; the module is exported once.

    Args:
        module: Plain torch layers; left as it was.
        example: The inputs, with the batch first.
        calibration: Batches of inputs; `dynamic` and `mixed_precision` do not look at them.
        approach: `"static"`, `"dynamic"` or `"mixed_precision"`.

    Attributes:
        algorithms: How ranges of activations can be found: `"minmax"`, and for `static` `"kl"` (histograms).
        layers: Names of the layers that are quantized, and can go back to fp32.
        unsafe: Names of linear layers whose output is added to a constant of the shape of one row. Inductor
            (seen in torch 2.13) overwrites that constant at every call of a quantized graph with a batch of one.

    Raises:
        EvaluationError: The module cannot be exported, or gives outputs that are not finite before it is quantized.
    """

    def __init__(self, module: nn.Module, example: Inputs, calibration: Sequence[Inputs], approach: Scheme) -> None:
        self.approach = approach
        self._module = copy.deepcopy(module).eval()
        self._calibration = calibration
        self._example = paired(example)
        with torch.no_grad():
            check_finite(self._module(*example), "the network, before it is quantized,")
        self.unsafe: list[str] = []
        self.algorithms = ("minmax", "kl") if approach == "static" else ("minmax",)
        if approach != "mixed_precision":
            self._exported = _export(self._module, self._example)
            self.unsafe = [name for name in _added_to_constants(self._exported) if name]
        self.layers = [name for name in quantizable(module, approach) if name not in self.unsafe]

    def graph(self, keep_fp32: Sequence[str] = (), algorithm: str = "") -> nn.Module:
        """Return a quantized graph that shares nothing with the module.

        Args:
            keep_fp32: Names of modules that stay in fp32, with all inside them.
            algorithm: One of `algorithms`, by default the first.

        Raises:
            EvaluationError: INC cannot take the module.
        """
        with quiet(), torch.random.fork_rng(devices=[]):
            try:
                config = self.config(keep_fp32, algorithm)
                if self.approach == "mixed_precision":
                    return self._half(config)
                return self._converted(config, keep_fp32)
            except (RuntimeError, NotImplementedError, AssertionError) as error:
                raise EvaluationError(f"INC cannot quantize this network: {first_line(error)}") from error

    def config(self, keep_fp32: Sequence[str] = (), algorithm: str = "") -> Any:
        """Return INC's configuration of the approach."""
        from neural_compressor.torch.quantization import DynamicQuantConfig, MixedPrecisionConfig, StaticQuantConfig

        if self.approach == "mixed_precision":
            config: Any = MixedPrecisionConfig(dtype="bf16")
            patterns = [re.escape(name) + r"(\.|$)" for name in keep_fp32]  # INC matches the beginnings of names
            return config.set_local(patterns, MixedPrecisionConfig(dtype="fp32"))
        if self.approach == "static":
            config = StaticQuantConfig(act_algo=algorithm or self.algorithms[0])
            return config.set_local(list(keep_fp32), StaticQuantConfig(w_dtype="fp32", act_dtype="fp32"))
        # Inductor has int8 kernels for linear layers with dynamic ranges, if weights have a scale per channel.
        config = DynamicQuantConfig(w_granularity="per_channel")
        convolutions = [name for name, layer in self._module.named_modules() if isinstance(layer, nn.Conv2d)]
        fp32 = DynamicQuantConfig(w_dtype="fp32", act_dtype="fp32")
        return config.set_local([*convolutions, *keep_fp32], fp32)

    def compiled(self, example: Inputs, keep_fp32: Sequence[str] = (), algorithm: str = "") -> Int8Module:
        """Return the compiled module with these layers in fp32, and those that are unsafe.

        Args:
            example: The inputs, of the batch size to compile for.
            keep_fp32: See `graph`.
            algorithm: See `graph`.
        """
        kept = [*keep_fp32, *(name for name in self.unsafe if name not in keep_fp32)]
        added = ", ".join(self.unsafe)
        reason = f"in fp32 because Inductor would overwrite the constants added to their outputs: {added}" * bool(added)
        return Int8Module(self.graph(kept, algorithm), example, kept_fp32=kept, reason=reason)

    def exported(self) -> Any:
        """Return a copy of the exported module, with what INC wrote on it."""
        exported: Any = copy.deepcopy(self._exported)
        exported._exported, exported.dynamic_shapes = True, self._exported.dynamic_shapes
        return exported

    def calibrate(self, prepared: nn.Module) -> None:
        """Run the calibration batches through a module."""
        with torch.no_grad():
            for inputs in self._calibration if self.approach == "static" else [self._example]:
                prepared(*inputs)

    def _converted(self, config: Any, keep_fp32: Sequence[str]) -> nn.Module:
        from neural_compressor.torch.quantization import convert, prepare

        prepared: nn.Module = prepare(self.exported(), config)
        self.calibrate(prepared)
        graph: Any = convert(prepared)
        _unround(graph, keep_fp32)
        return cast("nn.Module", graph)

    def _half(self, config: Any) -> nn.Module:
        from neural_compressor.torch.quantization import convert

        wrapped: nn.Module = convert(copy.deepcopy(self._module), config)
        with torch.no_grad():
            program = torch.export.export(wrapped, self._example, dynamic_shapes=dynamic_batch(self._example))
        return program.module()


def _export(module: nn.Module, example: Inputs) -> Any:
    shapes = dynamic_batch(example)
    with quiet(), redirect_stderr(io.StringIO()), torch.random.fork_rng(devices=[]):  # torch prints graphs it fails at
        from neural_compressor.torch.export import export

        try:
            return export(module, example, dynamic_shapes=shapes)
        except RuntimeError:  # it says nothing: what torch says is in INC's log
            try:
                torch.export.export(module, example, dynamic_shapes=shapes)
            except Exception as error:
                message = f"torch.export cannot take this network: {first_line(error)}"
                raise EvaluationError(message) from error
            raise


def _added_to_constants(graph: Any) -> list[str]:
    """Return the names of linear layers whose output, reshaped or not, is added to a constant of one row's shape."""
    constant: set[Any] = set()
    found: dict[str, None] = {}
    for node in graph.graph.nodes:
        inputs = node.all_input_nodes
        if node.op == "get_attr" or (node.op == "call_function" and all(each in constant for each in inputs)):
            constant.add(node)
        elif node.op == "call_function" and _name(node) in ("add", "add_") and len(inputs) == 2:
            fixed = [each for each in inputs if each in constant]
            source = _linear([each for each in inputs if each not in constant])
            if fixed and source is not None and _shape(fixed[0]) == (1, *_shape(node)[1:]):
                found[_owner(source)] = None
    return list(found)


def _unround(graph: Any, keep_fp32: Sequence[str]) -> None:
    """Give layers that stay in fp32 the inputs before their rounding: pooling, between them and int8, rounds its own.

    Args:
        graph: As INC's `convert` returns it; changed in place.
        keep_fp32: Names of modules.
    """
    inside = tuple(f"{name}." for name in keep_fp32)
    for node in list(graph.graph.nodes):
        if _name(node) not in ("linear", "conv2d") or not f"{_owner(node)}.".startswith(inside):
            continue
        user, source = node, node.args[0]
        while source.op == "call_function" and len(source.users) == 1:
            if _name(source).startswith("dequantize"):
                rounded = source.args[0]
                user.replace_input_with(source, rounded.args[0])
                source = rounded.args[0]
            elif _name(source) in RESHAPING or "pool" in _name(source):
                user, source = source, source.args[0]
            else:
                break
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _linear(operands: list[Any]) -> Any:
    """Return the linear layer behind the one operand that is not a constant, through changes of shape."""
    node = operands[0] if len(operands) == 1 else None
    while node is not None and _name(node) in RESHAPING:
        node = node.args[0]
    return node if node is not None and _name(node) == "linear" else None


def _name(node: Any) -> str:
    return getattr(node.target, "_opname", "") if node.op == "call_function" else ""


def _shape(node: Any) -> tuple[Any, ...]:
    value = node.meta.get("val")
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def _owner(node: Any) -> str:
    """Return the name of the innermost module that a node of an exported graph comes from."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]).removeprefix("L['self'].") if stack else ""
