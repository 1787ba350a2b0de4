"""What a replay problem is: a search space whose values come from published tables, at no cost."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from nas_compress.errors import ConfigError, DataError
from nas_compress.objectives import objectives as objective_registry
from nas_compress.objectives.base import AnalyticObjective, Measurement, Objective
from nas_compress.replay.catalog import Description
from nas_compress.space import Architecture, SearchSpace

FloatVector = NDArray[np.float64]
IntMatrix = NDArray[np.int64]


class Replay(ABC):
    """A search problem with published values: accuracy in %, latency in ms, MACs and parameters as counts.

    Args:
        folder: The folder of published tables.

    Attributes:
        description: What is known without the tables.
        conditions: By metric, what its values hold for (device, training, model), as plain JSON data.
        name: Name of the problem.
        space: The search space.
        metrics: The metrics that it offers: names of registered objectives.
        reference: The reference point of the hypervolume by metric, in natural units.
        paths: The files that it reads.

    Raises:
        DataError: A file is missing or damaged; the message names it.
    """

    description: ClassVar[Description]
    conditions: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __init__(self, folder: str | Path) -> None:
        self.name = self.description.name
        self.metrics = self.description.metrics
        self.reference = dict(self.description.reference)
        self.space = self.description.space()
        self.paths = find_files(Path(folder), self.description.files)

    def fingerprint(self) -> str:
        """Return a hash of the files that the values come from."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        digest = hashlib.sha256()
        for path in self.paths:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()[:16]

    # -- values --------------------------------------------------------------------------------------------

    def values(self, metric: str, architectures: Sequence[Architecture]) -> FloatVector:
        """Return the values of a metric in natural units, shape (n,).

        Raises:
            ConfigError: The problem does not offer the metric.
            ArchitectureError: An architecture does not fit the space.
        """
        return self.encoded_values(metric, self.encode(architectures))

    def encoded_values(self, metric: str, encoded: IntMatrix) -> FloatVector:
        """Return the values of encoded architectures of shape (n, genes); inactive genes may hold anything legal."""
        self._check_metric(metric)
        return np.asarray(self._compute(metric, encoded), dtype=np.float64)

    def spread(self, metric: str, architectures: Sequence[Architecture]) -> FloatVector | None:
        """Return the standard deviations of the values over repeated trainings, shape (n,); None if unknown."""
        return None

    @abstractmethod
    def _compute(self, metric: str, encoded: IntMatrix) -> NDArray[Any]:
        """Return the values of an offered metric, shape (n,)."""

    def _check_metric(self, metric: str) -> None:
        if metric not in self.metrics:
            offered = ", ".join(self.metrics)
            raise ConfigError(f"{metric!r} is not a metric of replay problem {self.name!r}; those are: {offered}")

    def encode(self, architectures: Sequence[Architecture]) -> IntMatrix:
        """Return what `SearchSpace.encode` does, for many architectures at once.

        Raises:
            ArchitectureError: An architecture does not fit the space.
        """
        dimensions = [d.name for d in self.space.dimensions]
        try:
            rows = [list(chain.from_iterable(a[name] for name in dimensions)) for a in architectures]
            values = np.array(rows, dtype=np.float64).reshape(len(rows), self.space.choice_values.shape[0])
        except (KeyError, ValueError):
            return self.space.encode(architectures)
        match = values[:, :, None] == self.space.choice_values
        encoded = match.argmax(axis=2)
        active = self.space.active(encoded)
        for row in np.flatnonzero((active & ~match.any(axis=2)).any(axis=1)):
            self.space.validate(architectures[int(row)])
        return np.where(active, encoded, 0)

    def own_rows(self, space: SearchSpace, encoded: IntMatrix) -> IntMatrix | None:
        """Return encoded architectures of a part of the space as those of the whole; None of a space that is no part.

        Args:
            space: The part: the same genes, with some of their values.
            encoded: Shape (n, genes).
        """
        if space.dimensions == self.space.dimensions:
            return encoded
        if space.gene_names != self.space.gene_names:
            return None
        part, whole = space.choice_values, self.space.choice_values
        match = part[:, :, None] == whole[:, None, :]
        if not (match.any(axis=2) | np.isnan(part)).all():
            return None
        places: IntMatrix = match.argmax(axis=2)[np.arange(len(part)), encoded]
        return places

    # -- objectives ----------------------------------------------------------------------------------------

    def objectives(self, metrics: Sequence[str]) -> list[Objective]:
        """Return objectives that answer with this problem's values, in the order of `metrics`.

        MACs and parameters are computed (`AnalyticObjective`); accuracy and latency count as measured.

        Raises:
            ConfigError: A metric is unknown, or the problem does not offer it.
        """
        found: list[Objective] = []
        for name in map(objective_registry.canonical, metrics):
            self._check_metric(name)
            base = ReplayedCost if name in ("macs", "params") else ReplayedMeasurement
            found.append(_with_facts(base, name)(self))
        return found

    def context(self, metric: str) -> dict[str, Any]:
        """Return what a value of a metric holds for, as plain JSON data."""
        context = {"replayed": self.name, "files": list(self.description.files), "sha256": self.fingerprint()}
        return context | dict(self.conditions.get(metric, {}))


class ReplayedMeasurement(Objective):
    """A measured quantity whose values are looked up.

    Args:
        problem: Has the values.
    """

    depends_on_weights = False

    def __init__(self, problem: Replay) -> None:
        self._problem = problem

    def measure(self, subnet: Any, architecture: Architecture) -> Measurement:
        """Return the published value; the sub-network is not looked at."""
        spread = self._problem.spread(self.name, [architecture])
        value = float(self._problem.values(self.name, [architecture])[0])
        return Measurement(value, None if spread is None else float(spread[0]), {"replayed": self._problem.name})

    def context(self) -> dict[str, Any]:
        """Return the table and its conditions; see `Objective.context`."""
        return self._problem.context(self.name)


class ReplayedCost(AnalyticObjective):
    """A cost that follows from the architecture alone.

    Args:
        problem: Has the values.
    """

    def __init__(self, problem: Replay) -> None:
        self._problem = problem

    def compute(self, architectures: Sequence[Architecture]) -> FloatVector:
        """Return the counts, shape (n,); see `AnalyticObjective.compute`."""
        return self._problem.values(self.name, architectures)

    def compute_encoded(self, space: SearchSpace, encoded: IntMatrix) -> FloatVector:
        """Return the counts, shape (n,); see `AnalyticObjective.compute_encoded`."""
        rows = self._problem.own_rows(space, encoded)
        return (
            super().compute_encoded(space, encoded) if rows is None else self._problem.encoded_values(self.name, rows)
        )

    def context(self) -> dict[str, Any]:
        """Return the table and its conditions; see `Objective.context`."""
        return self._problem.context(self.name)


ReplayedObjective = ReplayedMeasurement | ReplayedCost


def _with_facts(base: type[ReplayedObjective], name: str) -> type[ReplayedObjective]:
    """Return a class of objectives with the registered direction, unit and column of a metric."""
    info = objective_registry.entry(name).info
    facts = {"name": name, **{key: info[key] for key in ("direction", "unit", "column", "best") if key in info}}
    return cast(type[ReplayedObjective], type(f"{base.__name__}_{name}", (base,), facts))


def find_files(folder: Path, files: Sequence[str]) -> list[Path]:
    """Return the paths of a problem's files.

    Raises:
        DataError: The folder or a file is missing; the message names it.
    """
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder}; wants the folder of published tables")
    paths = [folder / name for name in files]
    for path in paths:
        if not path.is_file():
            raise DataError(f"no such file: {path}")
    return paths
