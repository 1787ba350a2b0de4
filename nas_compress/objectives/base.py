"""What an objective is: a named quantity of a sub-network, measured or computed, in its natural unit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from nas_compress.errors import ConfigError
from nas_compress.space import Architecture, SearchSpace

if TYPE_CHECKING:
    from torch import nn

    from nas_compress.agent import NAS

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class Measurement:
    """One measured or computed value.

    Attributes:
        value: In the objective's unit.
        spread: Its uncertainty in the same unit (what kind, the objective documents); None if it is exact.
        provenance: How this very value came about (number of runs, of images, ...).
    """

    value: float
    spread: float | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


def best_possible(direction: Direction, unit: str, best: float | None = None) -> float | None:
    """Return the best value that a quantity can have, None where nothing is known of it.

    Args:
        direction: Whether it is maximised or minimised.
        unit: Percentages end at 100.
        best: Its best value, where the unit does not tell.
    """
    if best is not None or direction == "minimize":
        return best or 0.0
    return 100.0 if unit == "%" else None


class Objective(ABC):
    """A quantity to maximize or minimize, in natural units: signs flip inside `search/` alone.

    Attributes:
        name: The name in configs, archives and results (`"acc"`).
        direction: `"maximize"` or `"minimize"`.
        unit: Unit of the value (`"%"`, `"ms"`), empty for counts.
        column: Header of the column in results tables.
        best: The best value there can be, where `best_possible` cannot tell it from the unit.
        depends_on_weights: Whether other weights of the super-network, or another BN recalibration, change the value.
        uses_subnet: Whether `measure` looks at the sub-network; if no objective does, none is built.
    """

    name: str
    direction: Direction
    unit: str
    column: str
    best: ClassVar[float | None] = None
    depends_on_weights: ClassVar[bool] = True
    uses_subnet: ClassVar[bool] = True

    @classmethod
    def from_agent(cls, agent: NAS) -> Objective:
        """Return the objective as an agent's configuration asks for it; by default it is made without arguments.

        Args:
            agent: Has the super-network and the data, which are loaded when they are asked for, and the `config`.
        """
        return cls()

    @abstractmethod
    def measure(self, subnet: nn.Module, architecture: Architecture) -> Measurement:
        """Measure an extracted, recalibrated sub-network in evaluation mode (None unless `uses_subnet`).

        Raises:
            EvaluationError: This sub-network has no value (a NaN, a failed export); the search records that and
                goes on.
        """

    def context(self) -> dict[str, Any]:
        """Return everything besides the architecture that the value depends on, as plain JSON data.

        Data and its split, backend, hardware, threads, batch, precision: two measurements are comparable
        exactly when their contexts are equal. The super-network's weights are added to it elsewhere, where
        `depends_on_weights` says so.
        """
        return {}


class AnalyticObjective(Objective):
    """A quantity that follows from the architecture alone: computed exactly, never predicted."""

    depends_on_weights = False
    uses_subnet = False

    @abstractmethod
    def compute(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """Return the values of canonical architectures, shape (n,)."""

    def compute_encoded(self, space: SearchSpace, encoded: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the values of canonical encoded architectures of shape (n, genes), shape (n,).

        Searches compute many: sub-classes that need not decode override it.

        Raises:
            ConfigError: `compute` gives another number of values.
        """
        values = np.asarray(self.compute(space.decode(encoded)), dtype=np.float64)
        if values.shape != (len(encoded),):
            raise ConfigError(f"{self.name}: compute gives shape {values.shape} for {len(encoded)} architectures")
        return values

    def measure(self, subnet: nn.Module | None, architecture: Architecture) -> Measurement:
        """Return the computed value; the sub-network is not looked at."""
        return Measurement(float(self.compute([architecture])[0]))
