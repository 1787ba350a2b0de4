"""Measuring the latency of networks under conditions that stay the same from one to the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nas_compress.backends import Backend, Precision, Session, backends
from nas_compress.backends.base import as_tuple
from nas_compress.backends.hardware import describe_hardware
from nas_compress.errors import ConfigError, EvaluationError, NASError, first_line
from nas_compress.latency.isolated import Worker
from nas_compress.objectives.timing import DEFAULT_SETTINGS, LatencyStats, TimingSettings, measure_latency

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nas_compress.supernets.base import Inputs


@dataclass(frozen=True)
class Prepared:
    """A network that can be timed more than once.

    Attributes:
        session: The session or, for another process, what makes it for a number of threads.
        inputs: The inputs by position.
    """

    session: Session | Callable[[int], Session]
    inputs: tuple[Tensor, ...]


class LatencyMeter:
    """Measures networks in one backend.

    Args:
        backend: A backend, or the registered name of one.
        batch_size: Inputs per forward pass: a part of the conditions; the examples that are given have it.
        threads: Threads within one operation.
        precision: What the backend computes in, if it is given by name.
        isolated: Whether to measure in a process of its own, its threads pinned to cores; None for what the backend
            asks for.
        settings: How long to measure.

    Raises:
        ConfigError: `batch_size`, `threads` or `precision` is not allowed, an unknown backend, or threads that cannot
            be pinned.
        MissingExtraError: The backend's packages are not installed.
    """

    def __init__(
        self,
        backend: str | Backend = "onnxruntime",
        *,
        batch_size: int = 1,
        threads: int = 1,
        precision: Precision = "fp32",
        isolated: bool | None = None,
        settings: TimingSettings = DEFAULT_SETTINGS,
    ) -> None:
        for field, value in (("batch_size", batch_size), ("threads", threads)):
            if value < 1:
                raise ConfigError(f"latency: {field} = {value!r} is out of range; allowed: 1 and more")
        self.backend = backends.get(backend)(precision) if isinstance(backend, str) else backend
        if not hasattr(self.backend, "name"):
            raise ConfigError(
                f"backend {type(self.backend).__name__}: wants a class attribute `name`, as it is registered"
            )
        self.backend.check()
        self.batch_size = batch_size
        self.threads = threads
        self.settings = settings
        alone = self.backend.isolated if isolated is None else isolated
        self._worker = Worker(threads) if alone else None

    def measure(self, module: nn.Module, example: Inputs) -> LatencyStats:
        """Build a network and time it.

        Raises:
            EvaluationError: The backend cannot take the network, or the process that measured it died.
        """
        return self.time(self.prepare(module, example))

    def prepare(self, module: nn.Module, example: Inputs) -> Prepared:
        """Return a network that can be timed more than once; raises `EvaluationError` as `measure` does."""
        if self._worker is not None:
            return Prepared(self.backend.portable(module, example), as_tuple(example))
        return Prepared(self.backend.compile(module, example, self.threads), as_tuple(example))

    def time(self, network: Prepared, settings: TimingSettings | None = None) -> LatencyStats:
        """Time a prepared network; raises as `measure` does.

        Args:
            network: What `prepare` returned.
            settings: How long to measure, if not as long as always: then a busy machine is not worth a warning, since
                the caller measures more than once.
        """
        if self._worker is not None and not isinstance(network.session, Session):
            return self._worker.measure(network.session, network.inputs, settings or self.settings)
        session = network.session if isinstance(network.session, Session) else network.session(self.threads)
        try:
            with session.bound(*network.inputs) as run:
                return measure_latency(run, settings or self.settings, threads=self.threads, warn=settings is None)
        except NASError:
            raise
        except Exception as error:  # the backends' own exceptions share no base
            raise EvaluationError(f"{self.backend.name} cannot run this network: {first_line(error)}") from error

    def describe(self) -> dict[str, Any]:
        """Return backend, versions, hardware, threads, batch, precision and pinned cores, as plain data."""
        conditions = {
            "backend": self.backend.name,
            "versions": dict(self.backend.version()),
            "hardware": describe_hardware(),
            "threads": self.threads,
            "batch_size": self.batch_size,
            "precision": self.backend.precision,
        }
        return conditions if self._worker is None else {**conditions, "pinned_to_cores": self._worker.cores}

    def close(self) -> None:
        """End the process that measures, if there is one; a later measurement starts another."""
        if self._worker is not None:
            self._worker.close()
