"""What some steps need besides the package's own: looked up without importing it, so before any work."""

from __future__ import annotations

from importlib import util

from nas_compress.backends.hardware import has_bf16_dot_product
from nas_compress.errors import EvaluationError, MissingExtraError


def check_torch_pruning() -> None:
    """Check that torch-pruning is installed.

    Raises:
        MissingExtraError: It is not.
    """
    try:
        found = util.find_spec("torch_pruning")
    except ImportError:
        found = None
    if found is None:
        raise MissingExtraError("torch-pruning", "")


def check_bf16() -> None:
    """Check that the processor computes in bf16.

    Raises:
        EvaluationError: It does not.
    """
    if not has_bf16_dot_product():
        raise EvaluationError("mixed_precision: this processor does not compute in bf16 (AVX512-BF16, AMX)")
