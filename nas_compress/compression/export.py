"""Writing a sub-network as ONNX, checked against torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from nas_compress.backends.onnxruntime import OnnxSession, to_onnx
from nas_compress.errors import EvaluationError
from nas_compress.files import replacing
from nas_compress.objectives.modes import evaluating

OUTPUT_TOLERANCE = 1e-4


def export_onnx(module: nn.Module, example: Tensor, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a module as ONNX with a dynamic batch, and check that ONNX Runtime computes what torch computes.

    Args:
        module: Maps one tensor to one tensor; given back in the mode it had.
        example: An input with the batch first; its values are those of the check.
        path: Where to write; an existing file is replaced once the check has passed.
        metadata: Stored in the file (`OnnxSession.metadata` reads it back).

    Raises:
        EvaluationError: torch cannot export the module, its outputs are not finite, or those of the file differ by more
            than `OUTPUT_TOLERANCE` of the largest output (and of 1).
        OutputError: The file cannot be written.
    """
    import onnx

    model = onnx.load_model_from_string(to_onnx(module, example))
    onnx.helper.set_model_props(model, dict(metadata or {}))
    serialized: bytes = model.SerializeToString()
    _compare(module, OnnxSession(serialized), example)
    with replacing(path) as temporary:
        temporary.write_bytes(serialized)


def _compare(module: nn.Module, session: OnnxSession, example: Tensor) -> None:
    """Compare outputs on the example and on another batch size, which a fixed batch in the graph would not take."""
    for inputs in (example, torch.cat([example, example[:1].flip(-1)])):
        with torch.no_grad(), evaluating(module):
            wanted = module(inputs)
        if not wanted.isfinite().all():
            raise EvaluationError("the network gives outputs that are NaN or infinite; look at its weights")
        difference = (session(inputs) - wanted).abs().max().item()
        allowed = OUTPUT_TOLERANCE * max(1.0, wanted.abs().max().item())
        if not difference <= allowed:
            raise EvaluationError(
                f"the exported model differs from the torch one by {difference:.2g} at batch {len(inputs)}; "
                f"allowed: {allowed:.2g}"
            )
