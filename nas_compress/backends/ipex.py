"""Intel Extension for PyTorch (IPEX) as a backend."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from nas_compress.backends.base import Backend, Session, as_tuple
from nas_compress.backends.torch import TorchSession, inference
from nas_compress.errors import EvaluationError, MissingExtraError, first_line

if TYPE_CHECKING:
    from torch import nn

    from nas_compress.supernets.base import Inputs

IPEX = "intel-extension-for-pytorch"


class IpexBackend(Backend):
    """IPEX in fp32 or bf16: optimised, traced and frozen, for the example's shapes alone.

    An IPEX release works with one minor version of torch. On any other its import prints to standard output and
    raises `AttributeError`, so versions are compared before it is imported. Importing it changes torch's kernels
    for the whole process, so that it is measured in a process of its own unless told otherwise.
    """

    name = "ipex"
    packages = (IPEX, "torch")
    extra = "ipex"
    precisions = ("fp32", "bf16")
    isolated = True

    @classmethod
    def check(cls) -> None:
        """Compare the minor versions of IPEX and torch; see `Backend.check`."""
        versions = cls.version()
        wanted = ".".join(versions[IPEX].split(".")[:2])
        if versions["torch"].split(".")[:2] != wanted.split("."):
            reason = f"{versions[IPEX]} wants torch {wanted}.*, found torch {versions['torch']}"
            raise MissingExtraError(IPEX, cls.extra, reason)

    def compile(self, module: nn.Module, example: Inputs, threads: int = 1) -> Session:
        """Return a session on an optimised copy of the module; see `Backend.compile`."""
        self.check()
        import torch

        try:
            import intel_extension_for_pytorch as ipex
        except (ImportError, OSError, AttributeError) as error:  # a shared library that is missing or of another build
            raise MissingExtraError(IPEX, self.extra, f"cannot be imported: {first_line(error)}") from error

        module, inputs = copy.deepcopy(module).eval(), as_tuple(example)
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        try:
            with inference(threads, self.precision):
                traced = torch.jit.trace(ipex.optimize(module, dtype=dtype), inputs)  # type: ignore[no-untyped-call]
                frozen = torch.jit.freeze(traced)
                for _ in range(2):  # the profiling executor compiles in the first two runs
                    frozen(*inputs)
        except RuntimeError as error:
            raise EvaluationError(f"IPEX cannot take this network: {first_line(error)}") from error
        return TorchSession(frozen, threads, precision=self.precision)
