"""Intel Extension for PyTorch (IPEX) as a backend."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from nas_compress.backends.base import Backend, Session
from nas_compress.backends.torch import TorchSession, torch_threads
from nas_compress.errors import EvaluationError, MissingExtraError, first_line

if TYPE_CHECKING:
    from torch import Tensor, nn

IPEX = "intel-extension-for-pytorch"


class IpexBackend(Backend):
    """IPEX in fp32: optimised, traced and frozen, for the example's batch size alone.

    An IPEX release works with one minor version of torch. On any other its import prints to standard output and
    raises `AttributeError`, so versions are compared before it is imported. Importing it changes torch's kernels
    for the whole process.
    """

    name = "ipex"
    packages = (IPEX, "torch")
    extra = "ipex"

    @classmethod
    def check(cls) -> None:
        """Compare the minor versions of IPEX and torch; see `Backend.check`."""
        versions = cls.version()
        wanted = ".".join(versions[IPEX].split(".")[:2])
        if versions["torch"].split(".")[:2] != wanted.split("."):
            reason = f"{versions[IPEX]} wants torch {wanted}.*, found torch {versions['torch']}"
            raise MissingExtraError(IPEX, cls.extra, reason)

    def compile(self, module: nn.Module, example: Tensor, threads: int = 1) -> Session:
        """Return a session on an optimised copy of the module; see `Backend.compile`."""
        self.check()
        import intel_extension_for_pytorch as ipex
        import torch

        module = copy.deepcopy(module).eval()
        try:
            with torch_threads(threads), torch.no_grad():
                traced = torch.jit.trace(ipex.optimize(module), example)  # type: ignore[no-untyped-call]
                frozen = torch.jit.freeze(traced)
                for _ in range(2):  # the profiling executor compiles in the first two runs
                    frozen(example)
        except RuntimeError as error:
            raise EvaluationError(f"IPEX cannot take this network: {first_line(error)}") from error
        return TorchSession(frozen, threads)
