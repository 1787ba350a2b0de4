"""What a backend is: it turns a torch module into a session that can be timed and evaluated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from importlib import metadata
from typing import TYPE_CHECKING, Any, ClassVar

from nas_compress.errors import MissingExtraError

if TYPE_CHECKING:
    from torch import Tensor, nn


class Session(ABC):
    """A network ready to run on a fixed number of threads."""

    @abstractmethod
    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the outputs for float32 `inputs` with the batch first."""

    @abstractmethod
    def bound(self, inputs: Tensor) -> AbstractContextManager[Callable[[], Any]]:
        """Return a context that yields a function of no arguments: one run on `inputs`, and nothing else.

        Inputs are converted and thread counts set on entry, so that the function is fit for timing.
        """


class Backend(ABC):
    """A way to run an extracted sub-network.

    Attributes:
        name: The registered name.
        packages: Distributions it needs; their versions are a part of a measurement's context.
        extra: The extra of this package that installs them, empty if a plain install does.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    extra: ClassVar[str] = ""

    @classmethod
    def check(cls) -> None:
        """Look up the needed packages without importing them.

        Raises:
            MissingExtraError: A package is missing, or its version does not fit.
        """
        for package in cls.packages:
            cls._version_of(package)

    @classmethod
    def version(cls) -> Mapping[str, str]:
        """Return the installed versions of the needed packages.

        Raises:
            MissingExtraError: A package is missing.
        """
        return {package: cls._version_of(package) for package in cls.packages}

    @classmethod
    def _version_of(cls, package: str) -> str:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            raise MissingExtraError(package, cls.extra) from None

    @abstractmethod
    def compile(self, module: nn.Module, example: Tensor, threads: int = 1) -> Session:
        """Return a session for a module in evaluation mode; the module is left as it was.

        Args:
            module: Plain torch layers, fp32.
            example: An input of the shape it will get; other batch sizes work too unless the backend's own
                documentation says otherwise.
            threads: Threads within one operation.

        Raises:
            EvaluationError: The backend cannot take this module.
        """
