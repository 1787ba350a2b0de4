"""Measuring what a search on predicted latencies found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nas_compress.archive import Archive
from nas_compress.errors import EvaluationError
from nas_compress.latency.predictor import PredictionErrors
from nas_compress.records import FINALIST, Record
from nas_compress.search.trial import Trial
from nas_compress.space import Architecture

if TYPE_CHECKING:
    from nas_compress.agent import NAS
    from nas_compress.objectives.latency import Latency
    from nas_compress.result import SearchResult
    from nas_compress.search import SearchProblem


def measure_front(result: SearchResult, problem: SearchProblem, agent: NAS, archive: Archive) -> None:
    """Measure the front of a search that went by predicted latency, and add that to the result's provenance.

    `provenance["finalists"]` is then a list of `Finalist.to_dict`, in the order of the front, and
    `provenance["prediction_errors"]` says how far the predictions were off, in words. Where latency was measured all
    along, nothing is done.

    Args:
        result: Of the search.
        problem: Of the search.
        agent: Ran it: it has the super-network, and builds sub-networks.
        archive: The search's; what was measured before is answered from it.

    Raises:
        ArchiveError: The archive cannot be written.
    """
    from nas_compress.latency.objective import PredictedLatency

    if not any(isinstance(objective, PredictedLatency) for objective in problem.metrics):
        return
    from nas_compress.objectives.latency import Latency

    finalists = measure_finalists(result.front(), Latency.measured_for(agent), agent.supernet.extract, archive)
    errors = finalist_errors(finalists)
    result.provenance["finalists"] = [finalist.to_dict() for finalist in finalists]
    result.provenance["prediction_errors"] = "too few to tell" if errors is None else str(errors)


@dataclass(frozen=True)
class Finalist:
    """One architecture that a search found.

    Attributes:
        architecture: It.
        predicted_ms: The latency that the search went by.
        measured_ms: The latency measured directly; None where that failed.
        spread_ms: The standard error of that; None likewise.
        error: Why it could not be measured, else None.
    """

    architecture: Architecture
    predicted_ms: float
    measured_ms: float | None
    spread_ms: float | None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for JSON."""
        return {**asdict(self), "architecture": self.architecture.to_dict()}


def measure_finalists(
    trials: Sequence[Trial], latency: Latency, build: Callable[[Architecture], Any], archive: Archive
) -> list[Finalist]:
    """Measure the latency of trials whose latency was predicted.

    Measurements go into the search's archive under the context of measured latencies, which is not that of predicted
    ones: what is there already is not measured again.

    Args:
        trials: The trials, of a Pareto front say, with a predicted latency each.
        latency: Measures.
        build: Returns the extracted sub-network of an architecture.
        archive: The search's.

    Raises:
        ArchiveError: The archive cannot be written.
    """
    key = archive.add_context(latency.context())
    finalists = []
    for trial in trials:
        record = archive.get(trial.architecture, latency.name, key)
        if record is None:
            record = _measured(trial.architecture, latency, build, key)
            archive.append(record)
        predicted = trial.values[latency.name]
        finalists.append(Finalist(trial.architecture, predicted, record.value, record.spread, record.error))
    return finalists


def _measured(architecture: Architecture, latency: Latency, build: Callable[[Architecture], Any], key: str) -> Record:
    try:
        found = latency.measure(build(architecture), architecture)
    except EvaluationError as error:
        return Record(architecture, latency.name, key, provenance={FINALIST: True}, error=str(error))
    return Record(architecture, latency.name, key, found.value, found.spread, {**found.provenance, FINALIST: True})


def finalist_errors(finalists: Sequence[Finalist]) -> PredictionErrors | None:
    """Return how far the predictions were off; None where fewer than two were measured."""
    pairs = np.array([(f.predicted_ms, f.measured_ms) for f in finalists if f.measured_ms is not None])
    return PredictionErrors.of(*pairs.T) if len(pairs) > 1 else None
