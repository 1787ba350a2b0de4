"""What a backend is: it turns a torch module into a session that can be timed and evaluated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from nas_compress.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nas_compress.supernets.base import Inputs

Precision = Literal["fp32", "bf16"]


class Session(ABC):
    """A network ready to run on a fixed number of threads; on one thread it computes in the one that calls it."""

    @abstractmethod
    def __call__(self, *inputs: Tensor) -> Any:
        """Return the output, or the tuple of the outputs, for inputs by position with the batch first in each.

        Floating outputs are fp32, whatever the session computes in.
        """

    @abstractmethod
    def bound(self, *inputs: Tensor) -> AbstractContextManager[Callable[[], Any]]:
        """Return a context that yields a function of no arguments: one run on `inputs`, and nothing else.

        Inputs are converted and thread counts set on entry, so that the function is fit for timing.
        """


class Backend(ABC):
    """A way to run an extracted sub-network.

    Args:
        precision: What it computes in: one of `precisions`.

    Attributes:
        name: The registered name.
        packages: Distributions it needs; their versions are a part of a measurement's context.
        extra: The extra of this package that installs them, empty if a plain install does.
        precisions: What it can compute in, its default first.
        isolated: Whether it is to be measured in a process of its own unless told otherwise.
        slow_build: How long one network takes to build, in words, where that is too long for a search; else empty.
        precision: What it computes in.

    Raises:
        ConfigError: It does not compute in this precision.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    extra: ClassVar[str] = ""
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32",)
    isolated: ClassVar[bool] = False
    slow_build: ClassVar[str] = ""
    precision: Precision = "fp32"

    def __init__(self, precision: Precision = "fp32") -> None:
        self.check_precision(precision)
        self.precision = precision

    @classmethod
    def check_precision(cls, precision: str) -> None:
        """Raise `ConfigError` unless the backend computes in this precision."""
        if precision not in cls.precisions:
            allowed = ", ".join(cls.precisions)
            raise ConfigError(f"precision = {precision!r} does not go with backend {cls.name!r}; allowed: {allowed}")

    @classmethod
    def check(cls) -> None:
        """Look up what the backend needs, without importing it.

        Raises:
            MissingExtraError: A package is missing, or its version does not fit.
            ConfigError: The machine lacks something else.
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
    def compile(self, module: nn.Module, example: Inputs, threads: int = 1) -> Session:
        """Return a session for a module in evaluation mode; the module is left as it was.

        Args:
            module: Plain torch layers, fp32.
            example: An input, or the inputs by position, of the shape it will get; other batch sizes work too unless
                the backend's own documentation says otherwise.
            threads: Threads within one operation.

        Raises:
            EvaluationError: The backend cannot take this module.
        """

    def portable(self, module: nn.Module, example: Inputs) -> Callable[[int], Session]:
        """Return a function from a number of threads to the session, one that can be pickled for another process.

        By default the module itself goes there, and is compiled there.

        Raises:
            EvaluationError: The backend cannot take this module.
        """
        return partial(self.compile, module, example)


def as_tuple(inputs: Inputs) -> tuple[Tensor, ...]:
    """Return the inputs of a network by position."""
    return inputs if isinstance(inputs, tuple) else (inputs,)
