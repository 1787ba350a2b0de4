"""Static int8 quantization of torch modules with Intel Neural Compressor (INC), through PT2E and Inductor."""

from __future__ import annotations

import copy
import io
import logging
import os
import pickle
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas_compress.backends.torch import torch_threads
from nas_compress.errors import CheckpointError, DataError, EvaluationError, MissingExtraError, first_line
from nas_compress.files import replacing

DISTRIBUTIONS = ("neural-compressor-pt", "neural-compressor")
LARGEST_BATCH = 4096
REPEAT_TOLERANCE = 1e-5
WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


class Int8Module(nn.Module):
    """A quantized graph compiled for one batch size; other batches are cut into pieces of it, the last one padded.

    Inductor turns the graph into int8 kernels only where `freezing` is on while it compiles, and compiles anew for
    every shape and thread count (seconds each): so the shape is fixed, and freezing is on in every call.

    Args:
        graph: As INC's `convert` returns it, or as read back from a file.
        example: An input with the batch first, of the batch size to compile for.

    Raises:
        EvaluationError: Inductor cannot take the graph, or the compiled graph gives different outputs when it is called
            again (Inductor is known to overwrite the second operand of `Linear(x) + parameter`).
    """

    def __init__(self, graph: nn.Module, example: Tensor) -> None:
        super().__init__()
        self._graph = graph
        self._compiled = torch.compile(graph, dynamic=False)
        self._example = example
        self._check_repeats()

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs for inputs with the batch first."""
        from torch._inductor import config

        rows = len(self._example)
        with torch.no_grad(), config.patch(freezing=True):
            if len(inputs) == rows:
                return self._run(inputs)
            pieces = [self._run(self._padded(piece))[: len(piece)] for piece in torch.split(inputs, rows)]
        return torch.cat(pieces)

    def _run(self, inputs: Tensor) -> Tensor:
        output: Tensor = self._compiled(inputs)
        return output

    def _padded(self, inputs: Tensor) -> Tensor:
        rows = len(self._example) - len(inputs)
        return torch.cat([inputs, inputs.new_zeros(rows, *inputs.shape[1:])]) if rows else inputs

    def _check_repeats(self) -> None:
        with _quiet():
            try:
                first, *again = [self(self._example).clone() for _ in range(3)]
            except RuntimeError as error:
                raise EvaluationError(f"Inductor cannot compile the int8 graph: {first_line(error)}") from error
        drift = max((output - first).abs().max().item() for output in again)
        if not drift <= REPEAT_TOLERANCE * max(1.0, first.abs().max().item()):
            raise EvaluationError(f"the int8 module is corrupt: outputs of repeated calls differ by {drift:.2g}")

    def save(self, path: Path) -> None:
        """Write the graph and its weights, fp32 as INC keeps them, as a torch export archive (`.pt2`).

        Raises:
            OutputError: The file cannot be written.
        """
        with _quiet(), torch.no_grad():
            program = torch.export.export(self._graph, (_pair(self._example),), dynamic_shapes=_dynamic_batch())
            archive = io.BytesIO()
            torch.export.save(program, archive)
        with replacing(path) as temporary:
            temporary.write_bytes(archive.getvalue())


def quantize_inc(module: nn.Module, example: Tensor, calibration: Iterable[Tensor], *, threads: int = 1) -> Int8Module:
    """Return an int8 form of a module that runs in torch (post-training static quantization).

    It takes ten seconds to a minute.

    Args:
        module: Plain torch layers; left as it was.
        example: An input with the batch first; its batch size is the one compiled for.
        calibration: Batches of training images, shape (n, C, r, r).
        threads: Threads within one operation to compile for.

    Raises:
        MissingExtraError: INC is not installed.
        DataError: There are no calibration images.
        EvaluationError: INC or Inductor cannot take the module; see also `Int8Module`.
    """
    _check_installed()
    with _quiet(), torch_threads(threads):
        try:
            graph = _convert(copy.deepcopy(module).eval(), example, calibration)
        except RuntimeError as error:
            raise EvaluationError(f"INC cannot quantize this network: {first_line(error)}") from error
        return Int8Module(graph, example)


def load_int8(path: Path, example: Tensor, *, threads: int = 1) -> Int8Module:
    """Read what `Int8Module.save` wrote and compile it; nothing is unpickled, and no native code is loaded.

    Args:
        path: A `.pt2` file.
        example: An input of the batch size to compile for.
        threads: Threads within one operation to compile for.

    Raises:
        CheckpointError: The file is missing, damaged, or holds more than a graph and plain tensors.
        EvaluationError: See `Int8Module`.
    """
    import torch.ao.quantization.fx._decomposed  # noqa: F401 - registers the operators of the graph

    try:
        with zipfile.ZipFile(path) as archive:
            native = [name for name in archive.namelist() if "aotinductor" in name or name.endswith((".so", ".pyd"))]
        if native:
            raise CheckpointError(f"{path} holds native code ({native[0]}), which is not loaded")
        with _quiet(), _weights_only():
            graph: nn.Module = torch.export.load(path).module()
    except (OSError, zipfile.BadZipFile, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} is not an int8 network of `quantize`: {first_line(error)}") from error
    with torch_threads(threads):
        return Int8Module(graph, example)


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


def _dynamic_batch() -> Any:
    return ({0: torch.export.Dim("batch", min=1, max=LARGEST_BATCH)},)


def _pair(example: Tensor) -> Tensor:
    """Return at least two rows to trace with: a batch of one would be taken for a constant."""
    return example if len(example) > 1 else torch.cat([example, example])


def _check_installed() -> None:
    installed = {name.lower().replace("_", "-") for d in metadata.distributions() if (name := d.metadata["Name"])}
    if installed.isdisjoint(DISTRIBUTIONS):
        raise MissingExtraError(DISTRIBUTIONS[0], "")


def _convert(module: nn.Module, example: Tensor, calibration: Iterable[Tensor]) -> nn.Module:
    """Export, observe the calibration images, and return the graph with quantize and dequantize pairs."""
    from neural_compressor.torch.export import export
    from neural_compressor.torch.quantization import StaticQuantConfig, convert, prepare

    exported = export(module, (_pair(example),), dynamic_shapes=_dynamic_batch())
    prepared: Any = prepare(exported, StaticQuantConfig())
    seen = 0
    with torch.no_grad():
        for images in calibration:
            prepared(images)
            seen += len(images)
    if not seen:
        raise DataError("quantization wants at least one batch of calibration images, got none")
    graph: nn.Module = convert(prepared)
    return graph


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep INC's and Inductor's remarks, a line for every operator, from the user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
