"""Quantization of torch modules with Intel Neural Compressor (INC): int8 and bf16 modules that run in torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from nas_compress.backends.base import as_tuple
from nas_compress.backends.torch import torch_threads
from nas_compress.compression.inc_graph import check_request, checked_calibration, quantizer_of
from nas_compress.compression.inc_module import Int8Module, load_int8, quiet
from nas_compress.compression.inc_tune import TunedModule, autotune_inc
from nas_compress.compression.options import Scheme

__all__ = ["Int8Module", "TunedModule", "autotune_inc", "load_int8", "quantize_inc"]


def quantize_inc(
    module: nn.Module,
    example: Tensor | tuple[Tensor, ...],
    calibration: Iterable[Tensor | tuple[Tensor, ...]],
    *,
    approach: Scheme = "static",
    keep_fp32: Sequence[str] = (),
    threads: int = 1,
) -> Int8Module:
    """Return a quantized form of a module that runs in torch (post-training quantization).

    It takes ten seconds to a minute. Linear layers whose output is added to a parameter of the same shape stay in fp32,
    because Inductor would overwrite the parameter; the result's `kept_fp32` and `reason` say so.

    Args:
        module: Plain torch layers; left as it was.
        example: An input, or the tuple of the inputs, with the batch first; its batch size is the one compiled for.
        calibration: Batches of training images, shape (n, C, r, r), or tuples of inputs. `dynamic` and
            `mixed_precision` do not look at them.
        approach: `static` (int8 convolutions and linear layers, ranges of activations from the calibration),
            `dynamic` (int8 linear layers, ranges from each input), `mixed_precision` (bf16 convolutions and linear
            layers) or `smoothquant` (int8 in IPEX; see `inc_ipex`).
        keep_fp32: Names of modules that stay in fp32, with all inside them.
        threads: Threads within one operation to compile for.

    Raises:
        MissingExtraError: INC is not installed, or IPEX where it is needed.
        ConfigError: The module has no layer of a name in `keep_fp32`.
        DataError: The calibration batches are none, of another shape than the example, or not finite.
        EvaluationError: INC or Inductor cannot take the module, the processor has no bf16, or logits are not finite;
            see also `Int8Module`.
    """
    check_request(module, approach, keep_fp32)
    inputs = as_tuple(example)
    batches = checked_calibration(calibration, inputs)
    with quiet(), torch_threads(threads):
        quantizer = quantizer_of(module, inputs, batches, approach)
        return quantizer.compiled(inputs, keep_fp32)
