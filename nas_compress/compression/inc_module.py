"""Quantized graphs that run in torch: compiled by Inductor for one batch size, saved as torch export archives."""

from __future__ import annotations

import io
import logging
import os
import pickle
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas_compress.backends.base import as_tuple
from nas_compress.backends.torch import torch_threads
from nas_compress.errors import CheckpointError, EvaluationError, first_line
from nas_compress.files import replacing

LARGEST_BATCH = 4096
REPEAT_TOLERANCE = 1e-5
WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


class GraphModule(nn.Module):
    """A graph as it is, uncompiled: slow, with the numbers of the quantized network, for trials.

    The graph is no submodule: it has one mode and one layout, and a change of either would compile it anew.

    Args:
        graph: Takes tensors by position.
    """

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self._graphs = (graph,)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the outputs for inputs with the batch first."""
        with torch.no_grad():
            output: Tensor = self._graphs[0](*inputs)
        return output

    def compiled(self, example: Tensor | tuple[Tensor, ...]) -> Int8Module:
        """Return the graph compiled for the example's shapes; see `Int8Module`."""
        return Int8Module(self._graphs[0], example)


class Int8Module(GraphModule):
    """A quantized graph compiled for one batch size; other batches are cut into pieces of it, the last one padded.

    Inductor turns the graph into int8 kernels only where `freezing` is on while it compiles, and compiles anew for
    every shape and thread count (seconds each): so the shape is fixed, and freezing is on in every call.

    Args:
        graph: As INC's `convert` returns it, or as read back from a file.
        example: An input, or the tuple of the inputs, with the batch first, of the batch size to compile for.
        kept_fp32: Names of the layers that are not quantized, for the reader.
        reason: Why layers are kept that nobody named, in words; empty where there are none.

    Raises:
        EvaluationError: Inductor cannot take the graph, the outputs are not finite, or the compiled graph gives
            different outputs when it is called again (Inductor is known to overwrite the second operand of
            `Linear(x) + parameter`).
    """

    def __init__(
        self, graph: nn.Module, example: Tensor | tuple[Tensor, ...], *, kept_fp32: Sequence[str] = (), reason: str = ""
    ) -> None:
        super().__init__(graph)
        self.kept_fp32 = tuple(kept_fp32)
        self.reason = reason
        self._example = as_tuple(example)
        self._compiled = (self._compile(graph),)
        self._check_repeats()

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the outputs for inputs with the batch first."""
        from torch._inductor import config

        rows = len(self._example[0])
        with torch.no_grad(), config.patch(freezing=True):
            if len(inputs[0]) == rows:
                return self._run(*inputs)
            pieces = zip(*(torch.split(each, rows) for each in inputs), strict=True)
            outputs = [self._run(*(_padded(each, rows) for each in piece))[: len(piece[0])] for piece in pieces]
        return torch.cat(outputs)

    def _compile(self, graph: nn.Module) -> Any:
        return torch.compile(graph, dynamic=False)

    def _run(self, *inputs: Tensor) -> Tensor:
        output: Tensor = self._compiled[0](*(each.contiguous() for each in inputs))
        return output

    def _check_repeats(self) -> None:
        with quiet():
            try:
                first, *again = [self(*self._example).clone() for _ in range(3)]
            except RuntimeError as error:
                raise EvaluationError(f"Inductor cannot compile the int8 graph: {first_line(error)}") from error
        check_finite(first, "the quantized network")
        drift = max((output - first).abs().max().item() for output in again)
        if not drift <= REPEAT_TOLERANCE * max(1.0, first.abs().max().item()):
            raise EvaluationError(f"the int8 module is corrupt: outputs of repeated calls differ by {drift:.2g}")

    def save(self, path: Path) -> None:
        """Write the graph and its weights, fp32 as INC keeps them, as a torch export archive (`.pt2`).

        Raises:
            OutputError: The file cannot be written.
        """
        with quiet(), torch.no_grad():
            inputs = paired(self._example)
            program = torch.export.export(self._graphs[0], inputs, dynamic_shapes=dynamic_batch(inputs))
            archive = io.BytesIO()
            torch.export.save(program, archive)
        with replacing(path) as temporary:
            temporary.write_bytes(archive.getvalue())


def load_int8(path: Path, example: Tensor | tuple[Tensor, ...], *, threads: int = 1) -> Int8Module:
    """Read what `Int8Module.save` wrote and compile it; nothing is unpickled, and no native code is loaded.

    Args:
        path: A `.pt2` file.
        example: An input, or the tuple of the inputs, of the batch size to compile for.
        threads: Threads within one operation to compile for.

    Raises:
        CheckpointError: The file is missing, damaged, or holds more than a graph and plain tensors.
        EvaluationError: See `Int8Module`.
    """
    import torch.ao.quantization.fx._decomposed  # noqa: F401 - registers the operators of the graph

    from nas_compress.compression.inc_ipex import is_traced, load_traced

    try:
        with zipfile.ZipFile(path) as archive:
            if is_traced(archive):
                return load_traced(path, example)
            native = [name for name in archive.namelist() if "aotinductor" in name or name.endswith((".so", ".pyd"))]
        if native:
            raise CheckpointError(f"{path} holds native code ({native[0]}), which is not loaded")
        with quiet(), _weights_only():
            graph: nn.Module = torch.export.load(path).module()
    except (OSError, zipfile.BadZipFile, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} is not an int8 network of `quantize`: {first_line(error)}") from error
    with torch_threads(threads):
        return Int8Module(graph, example)


def check_finite(outputs: object, what: str) -> None:
    """Raise `EvaluationError` where outputs are NaN or infinite, or more than one tensor."""
    if not isinstance(outputs, Tensor):
        raise EvaluationError(f"{what} gives a {type(outputs).__name__}; INC wants networks that give one tensor")
    if not torch.isfinite(outputs).all():
        raise EvaluationError(f"{what} gives outputs that are not finite (NaN or infinite)")


def dynamic_batch(inputs: tuple[Tensor, ...]) -> Any:
    """Return the dynamic shapes, in `torch.export`'s form, of inputs that share their batch."""
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    return tuple({0: batch} for _ in inputs)


def paired(example: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return at least two rows to trace with: a batch of one would be taken for a constant."""
    return example if len(example[0]) > 1 else tuple(torch.cat([each, each]) for each in example)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep INC's and Inductor's remarks, a line for every operator, from the user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _padded(inputs: Tensor, rows: int) -> Tensor:
    missing = rows - len(inputs)
    return torch.cat([inputs, inputs.new_zeros(missing, *inputs.shape[1:])]) if missing else inputs


@contextmanager
def _weights_only() -> Iterator[None]:
    """Forbid `torch.load` to unpickle objects: reading an export archive falls back to that where tensors fail."""
    before = os.environ.get(WEIGHTS_ONLY)
    os.environ[WEIGHTS_ONLY] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[WEIGHTS_ONLY]
        else:
            os.environ[WEIGHTS_ONLY] = before
