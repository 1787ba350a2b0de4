"""Writing a sub-network as ONNX, checked against torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from nas_compress.backends.base import as_tuple
from nas_compress.backends.onnx import Axes
from nas_compress.backends.onnxruntime import OnnxSession, to_onnx
from nas_compress.errors import EvaluationError
from nas_compress.files import replacing
from nas_compress.objectives.modes import evaluating
from nas_compress.supernets.base import Inputs

OUTPUT_TOLERANCE = 1e-4


def export_onnx(
    module: nn.Module,
    example: Inputs,
    path: Path,
    metadata: Mapping[str, str] | None = None,
    *,
    axes: Axes | None = None,
    sample: Inputs | None = None,
) -> None:
    """Write a module as ONNX with a dynamic batch, and check that ONNX Runtime computes what torch computes.

    Args:
        module: Maps tensors to a tensor or a tuple of tensors; given back in the mode it had.
        example: An input, or several by position, with the batch first; the values are those of the check.
        path: Where to write; an existing file is replaced once the check has passed.
        metadata: Stored in the file (`OnnxSession.metadata` reads it back).
        axes: Axes that are dynamic besides the batch.
        sample: More inputs to check, of other lengths along those axes.

    Raises:
        EvaluationError: torch cannot export the module, its outputs are not finite, or those of the file differ by more
            than `OUTPUT_TOLERANCE` of the largest output (and of 1).
        OutputError: The file cannot be written.
    """
    import onnx

    model = onnx.load_model_from_string(to_onnx(module, example, axes))
    onnx.helper.set_model_props(model, dict(metadata or {}))
    serialized: bytes = model.SerializeToString()
    session, inputs = OnnxSession(serialized), as_tuple(example)
    # Another batch size than the example's, too, which a fixed batch in the graph would not take.
    more = tuple(torch.cat([each, each[:1].flip(-1)]) for each in inputs)
    for checked in (inputs, more, *(() if sample is None else (as_tuple(sample),))):
        _compare(module, session, checked)
    with replacing(path) as temporary:
        temporary.write_bytes(serialized)


def _compare(module: nn.Module, session: OnnxSession, inputs: tuple[Tensor, ...]) -> None:
    with torch.no_grad(), evaluating(module):
        outputs = module(*inputs)
    outputs = tuple(outputs) if isinstance(outputs, list) else as_tuple(outputs)
    for wanted, found in zip(outputs, as_tuple(session(*inputs)), strict=True):
        if not wanted.is_floating_point():
            wanted, found = wanted.double(), found.double()
        if not wanted.isfinite().all():
            raise EvaluationError("the network gives outputs that are NaN or infinite; look at its weights")
        difference = (found - wanted).abs().max().item()
        allowed = OUTPUT_TOLERANCE * max(1.0, wanted.abs().max().item())
        if not difference <= allowed:
            raise EvaluationError(
                f"the exported model differs from the torch one by {difference:.2g} at batch {len(inputs[0])}; "
                f"allowed: {allowed:.2g}"
            )
