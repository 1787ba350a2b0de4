"""What the metrics of quality have in common: they are measured on the first rows of one part of the data."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from nas_compress.data.base import Parts
from nas_compress.errors import ConfigError, EvaluationError
from nas_compress.objectives.base import Measurement, Objective
from nas_compress.supernets.precision_config import BY_ARCHITECTURE

if TYPE_CHECKING:
    from nas_compress.agent import NAS

Source = TypeVar("Source", bound=Parts[Any])


class DataObjective(Objective, Generic[Source]):
    """A quality on one part of the data.

    Args:
        data: Where the rows come from.
        split: `"val"` in a search; `"test"` is for the final figures alone.
        batch_size: Rows per forward pass.
        fraction: Share of the rows to use, in (0, 1]: the first ones, the same for every architecture.
        precision: What the sub-networks compute in, for the record.

    Attributes:
        task: What the data is for, as its parts have it.
        counted: What a row is, in the plural: the key of their number in contexts.

    Raises:
        ConfigError: `fraction` or `batch_size` out of range; the data is for another task.
        DataError: The data has no such split.
    """

    task: ClassVar[str]
    counted: ClassVar[str]

    def __init__(
        self,
        data: Source,
        *,
        split: str = "val",
        batch_size: int = 64,
        fraction: float = 1.0,
        precision: str = "fp32",
    ) -> None:
        if not 0 < fraction <= 1:
            raise ConfigError(f"{self.name}: fraction = {fraction!r} is out of range; allowed: more than 0, at most 1")
        if batch_size < 1:
            raise ConfigError(f"{self.name}: batch_size = {batch_size!r} is out of range; allowed: 1 and more")
        self._data = data
        self._split_name = split
        self._split = data.split(split)
        if self._split.task != self.task:
            other = f"{data.name!r} is for {self._split.task}"
            raise ConfigError(f"{self.name} is measured on data for {self.task}; {other}")
        self._batch_size = batch_size
        self._precision = precision
        self._count = math.ceil(fraction * self._rows())

    def _rows(self) -> int:
        """Return how many rows the part has."""
        return len(self._split)

    @classmethod
    def from_agent(cls, agent: NAS) -> Objective:
        """Return the quality on an agent's search-validation part; see `Objective.from_agent`."""
        data: Any = agent.data
        return cls(data, **agent_options(agent))

    def context(self) -> dict[str, Any]:
        """Return data, split and number of rows; see `Objective.context`."""
        return {
            "dataset": self._data.name,
            "data": self._data.fingerprint,
            "split": self._split_name,
            self.counted: self._count,
            "precision": self._precision,
        }


def agent_options(agent: NAS) -> dict[str, Any]:
    """Return batch size, share of the rows and precision as an agent's config has them."""
    section = agent.config.section
    precision = "fp32" if section.precision is None else BY_ARCHITECTURE
    return {"batch_size": section.eval_batch_size, "fraction": section.test_fraction, "precision": precision}


def proportion(right: int, seen: int, counted: str) -> Measurement:
    """Return the share of right answers in %, with its standard error in points.

    The value is the share k / n. The standard error is that of (k + 1) / (n + 2), as if one right and one wrong answer
    more had been seen, so that it is not 0 where all n answers are right or all are wrong (Agresti and Coull, 1998,
    "Approximate is better than 'exact' for interval estimation of binomial proportions").

    Args:
        right: Right answers k.
        seen: All answers n.
        counted: What was answered, in the plural.

    Raises:
        EvaluationError: There are no answers.
    """
    if not seen:
        raise EvaluationError(f"accuracy wants at least one {counted.removesuffix('s')}, the split is empty")
    drawn = (right + 1) / (seen + 2)
    return Measurement(100 * right / seen, 100 * math.sqrt(drawn * (1 - drawn) / (seen + 2)), {counted: seen})
