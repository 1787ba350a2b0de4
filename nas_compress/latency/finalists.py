"""Measuring what a search on predicted latencies found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nas_compress.archive import Archive
from nas_compress.errors import EvaluationError, InfeasibleError
from nas_compress.latency.predictor import PredictionErrors
from nas_compress.records import FINALIST, Record
from nas_compress.search.trial import Trial
from nas_compress.space import Architecture

if TYPE_CHECKING:
    from nas_compress.agent import NAS
    from nas_compress.objectives.latency import Latency
    from nas_compress.result import SearchResult
    from nas_compress.search import SearchProblem

LATENCY = "latency"
MEASURED = "latency, measured on the front"
"""The name, among a result's contexts, of what finalists were measured on."""


def measure_front(result: SearchResult, problem: SearchProblem, agent: NAS, archive: Archive) -> None:
    """Measure the front of a search that went by predicted latency, and let the result go by what was measured.

    The measured latencies may bring other trials to the front: these are measured too, until all of it is. A trial that
    was measured keeps what the search went by in `Trial.predicted`. `provenance["finalists"]` is a list of
    `Finalist.to_dict`, in the order of the trials, and `provenance["prediction_errors"]` says how far the
    predictions were off, in words. Where latency was measured all along, nothing is done.

    Args:
        result: Of the search.
        problem: Of the search.
        agent: Ran it: it has the super-network, and builds sub-networks.
        archive: The search's; what was measured before is answered from it.

    Raises:
        ArchiveError: The archive cannot be written.
        InfeasibleError: By what was measured, no trial keeps all limits.
    """
    from nas_compress.latency.objective import PredictedLatency

    if not any(isinstance(objective, PredictedLatency) for objective in problem.metrics):
        return
    from nas_compress.objectives.latency import Latency

    latency, found = Latency.measured_for(agent), dict[Architecture, Finalist]()
    key = archive.add_context(latency.context())
    known = [trial for trial in result.measured if archive.get(trial.architecture, latency.name, key) is not None]
    new = known or result.front()
    while new:
        finalists = measure_finalists(new, latency, agent.supernet.extract, archive)
        found |= {finalist.architecture: finalist for finalist in finalists}
        go_by(result, found, archive.contexts[key])
        new = [trial for trial in result.front() if trial.architecture not in found]
    if not result.feasible:
        raise InfeasibleError(f"{result.closest()}; latencies of the best were measured, not only predicted")


def go_by(result: SearchResult, found: Mapping[Architecture, Finalist], context: Mapping[str, Any]) -> None:
    """Let a result's trials have the latencies that were measured, and say so in its provenance; see `measure_front`.

    Args:
        result: Of the search.
        found: All that were measured.
        context: What they were measured on.
    """
    result.trials = tuple(_measured_trial(trial, found.get(trial.architecture)) for trial in result.trials)
    ordered = [found[each] for each in dict.fromkeys(trial.architecture for trial in result.trials) if each in found]
    errors, contexts = finalist_errors(ordered), result.provenance.get("contexts", {})
    result.provenance["finalists"] = [finalist.to_dict() for finalist in ordered]
    result.provenance["prediction_errors"] = "too few to tell" if errors is None else str(errors)
    result.provenance["contexts"] = {**contexts, MEASURED: context}


def _measured_trial(trial: Trial, finalist: Finalist | None) -> Trial:
    if finalist is None or finalist.measured_ms is None:
        return trial
    spreads = {name: spread for name, spread in trial.spreads.items() if name != LATENCY}
    if finalist.spread_ms is not None:
        spreads[LATENCY] = finalist.spread_ms
    values = {**trial.values, LATENCY: finalist.measured_ms}
    return replace(trial, values=values, spreads=spreads, predicted={LATENCY: finalist.predicted_ms})


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
