"""Measured latency of an extracted sub-network in a backend."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Self

from torch import nn

from nas_compress.backends import Backend, Precision
from nas_compress.latency.meter import LatencyMeter
from nas_compress.latency.objective import PredictedLatency
from nas_compress.objectives.base import Measurement, Objective
from nas_compress.objectives.timing import DEFAULT_SETTINGS, TimingSettings
from nas_compress.space import Architecture
from nas_compress.space.precision import PRECISION
from nas_compress.supernets.base import Supernet
from nas_compress.supernets.precision_config import BY_ARCHITECTURE

if TYPE_CHECKING:
    from nas_compress.agent import NAS


logger = logging.getLogger(__name__)


class Latency(Objective):
    """Median time of one forward pass in ms; the spread is the standard error of the median.

    The context holds what the value depends on: the super-network's configuration (its weights do not matter), backend
    and versions, hardware, threads, batch, precision. How long was measured is in the provenance of each value, with
    the other figures of `LatencyStats`.

    Args:
        supernet: Gives the inputs.
        backend: A backend, or the registered name of one.
        batch_size: Inputs per forward pass.
        threads: Threads within one operation.
        precision: What the backend computes in, if it is given by name.
        isolated: Whether to measure in a process of its own, its threads pinned to cores; None for what the backend
            asks for.
        settings: How long to measure.

    Attributes:
        meter: What measures.

    Raises:
        ConfigError: An option is out of range, or an unknown backend.
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
        precision: Precision = "fp32",
        isolated: bool | None = None,
        settings: TimingSettings = DEFAULT_SETTINGS,
    ) -> None:
        self._supernet = supernet
        self.meter = LatencyMeter(
            backend,
            batch_size=batch_size,
            threads=threads,
            precision=precision,
            isolated=isolated,
            settings=settings,
        )

    @classmethod
    def from_agent(cls, agent: NAS) -> Latency | PredictedLatency:
        """Return the latency as the `latency` section of an agent's config asks for it; see `Objective.from_agent`.

        It is predicted where the section names a table.
        """
        section = agent.config.section
        measured = cls.measured_for(agent)
        if section.latency.lut is not None:
            return PredictedLatency.from_table(section.latency.lut, agent.supernet, measured.meter, agent.space)
        if measured.meter.backend.slow_build:
            name, time = measured.meter.backend.name, measured.meter.backend.slow_build
            logger.warning("latency: %s takes %s to build each of %d networks", name, time, section.num_evals)
        return measured

    @classmethod
    def measured_for(cls, agent: NAS) -> Self:
        """Return the latency as the `latency` section asks for it to be measured, whether it names a table or not."""
        section = agent.config.section
        latency = section.latency
        return cls(
            agent.supernet,
            latency.backend,
            batch_size=section.batch_size,
            threads=latency.threads,
            precision=latency.precision,
            isolated=latency.isolated,
            settings=latency.settings(),
        )

    def measure(self, subnet: nn.Module, architecture: Architecture) -> Measurement:
        """Compile the sub-network and time it; see `Objective.measure`."""
        example = self._supernet.example_input(self.meter.batch_size, architecture)
        stats = self.meter.measure(subnet, example)
        return Measurement(stats.median_ms, stats.error_ms, stats.to_dict())

    def context(self) -> dict[str, Any]:
        """Return super-network, backend, versions, hardware, threads, batch, precision; see `Objective.context`."""
        supernet = self._supernet.describe()
        searched = {"precision": BY_ARCHITECTURE} if PRECISION in supernet else {}
        return {"supernet": supernet, **self.meter.describe(), **searched}
