"""Measured latency of an extracted sub-network in a backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from torch import nn

from nas_compress.backends import Backend, backends
from nas_compress.backends.hardware import describe_hardware
from nas_compress.errors import ConfigError
from nas_compress.objectives.base import Measurement, Objective
from nas_compress.objectives.timing import DEFAULT_SETTINGS, TimingSettings, measure_latency
from nas_compress.space import Architecture
from nas_compress.supernets.base import Supernet

if TYPE_CHECKING:
    from nas_compress.agent import NAS


class Latency(Objective):
    """Median time of one forward pass in ms; the spread is the standard error of the median.

    The context holds what the value depends on: the super-network's configuration (its weights do not matter), backend
    and versions, hardware, threads, batch, precision. How long was measured is in the provenance of each value, with
    the other figures of `LatencyStats`.

    Args:
        supernet: Gives the inputs.
        backend: A backend, or the registered name of one.
        batch_size: Images per forward pass.
        threads: Threads within one operation.
        settings: How long to measure.

    Raises:
        ConfigError: `batch_size` or `threads` out of range, or an unknown backend.
        MissingExtraError: The backend's packages are not installed.
    """

    name = "latency"
    direction = "minimize"
    unit = "ms"
    column = "Latency (ms)"
    depends_on_weights = False

    def __init__(
        self,
        supernet: Supernet,
        backend: str | Backend = "onnxruntime",
        *,
        batch_size: int = 1,
        threads: int = 1,
        settings: TimingSettings = DEFAULT_SETTINGS,
    ) -> None:
        for field, value in (("batch_size", batch_size), ("threads", threads)):
            if value < 1:
                raise ConfigError(f"latency: {field} = {value!r} is out of range; allowed: 1 and more")
        self._backend = backends.get(backend)() if isinstance(backend, str) else backend
        self._backend.check()
        self._supernet = supernet
        self._batch_size = batch_size
        self._threads = threads
        self._settings = settings

    @classmethod
    def from_agent(cls, agent: NAS) -> Self:
        """Return the latency as the `latency` section of an agent's config asks for it; see `Objective.from_agent`."""
        section = agent.config.section
        latency = section.latency
        return cls(
            agent.supernet,
            latency.backend,
            batch_size=section.batch_size,
            threads=latency.threads,
            settings=latency.settings(),
        )

    def measure(self, subnet: nn.Module, architecture: Architecture) -> Measurement:
        """Compile the sub-network and time it; see `Objective.measure`."""
        example = self._supernet.example_input(self._batch_size, architecture)
        session = self._backend.compile(subnet, example, self._threads)
        with session.bound(example) as run:
            stats = measure_latency(run, self._settings, threads=self._threads)
        return Measurement(stats.median_ms, stats.error_ms, stats.to_dict())

    def context(self) -> dict[str, Any]:
        """Return super-network, backend, versions, hardware, threads, batch, precision; see `Objective.context`."""
        return {
            "supernet": self._supernet.describe(),
            "backend": self._backend.name,
            "versions": dict(self._backend.version()),
            "hardware": describe_hardware(),
            "threads": self._threads,
            "batch_size": self._batch_size,
            "precision": "fp32",
        }
