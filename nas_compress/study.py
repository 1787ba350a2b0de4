"""The only loop that evaluates: ask, canonicalize, look up or measure, append, tell."""

from __future__ import annotations

import functools
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from nas_compress.archive import Archive
from nas_compress.errors import ConfigError, EvaluationError
from nas_compress.objectives.base import AnalyticObjective, Objective
from nas_compress.records import Record, differences
from nas_compress.result import SearchResult
from nas_compress.search.base import SearchStrategy, Trial
from nas_compress.space import Architecture, SearchSpace
from nas_compress.tables import ResultsCSV

logger = logging.getLogger(__name__)

HOPELESS = 10
"""Number of first trials after which a search is given up if all of them failed."""


@dataclass(frozen=True)
class StudyProgress:
    """Where a search stands, told after every trial.

    Attributes:
        done: Trials so far.
        total: Trials that the search is to make.
        trial: The last one.
        measured: Whether any value of it was measured now; if not, all came from the archive.
    """

    done: int
    total: int
    trial: Trial
    measured: bool


class Study:
    """One search over a space.

    It is resumed by running it again with the same archive and a fresh strategy of the same seed: what was measured
    before is answered from the archive, so that the strategy asks what it asked then.

    Args:
        space: The architectures.
        objectives: What is measured of each, in this order.
        strategy: Proposes the architectures; fresh, that is, never asked before.
        archive: Where measurements are kept; its owner closes it.
        build: Returns the extracted and recalibrated sub-network of a canonical architecture. It is called only for
            what is not in the archive and cannot be computed.
        num_evals: Number of architectures to evaluate, those answered from the archive included; at least 1.
        csv_path: Where to write a readable table of the trials, if anywhere.
        context: What every value that depends on weights depends on besides its objective's own context: supernet,
            checkpoint.
        on_trial: Called after every trial.

    Raises:
        ConfigError: There is no objective, two have one name, or `num_evals` is below 1.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        strategy: SearchStrategy,
        archive: Archive,
        build: Callable[[Architecture], Any],
        *,
        num_evals: int,
        csv_path: str | os.PathLike[str] | None = None,
        context: Mapping[str, Any] | None = None,
        on_trial: Callable[[StudyProgress], None] | None = None,
    ) -> None:
        names = [o.name for o in objectives]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"objectives: {names} wants at least one name, and none twice")
        if num_evals < 1:
            raise ConfigError(f"num_evals: {num_evals} is not at least 1")
        self.space = space
        self.objectives = tuple(objectives)
        self.strategy = strategy
        self.archive = archive
        self.num_evals = num_evals
        self._build = build
        self._csv_path = csv_path
        self._context = dict(context or {})
        self._on_trial = on_trial
        self._keys: dict[str, str] = {}
        self._measured = 0

    def run(self) -> SearchResult:
        """Evaluate until `num_evals` architectures are told, or the strategy has no more to ask.

        Returns:
            All trials in the order in which they were asked for, and what they were measured on.

        Raises:
            EvaluationError: The first trials failed, all of them.
            ArchiveError: The archive or the table cannot be written.
        """
        known = len(self.archive) > 0
        csv_path, table = self._csv_path, None
        if csv_path is not None:
            table = ResultsCSV(csv_path, self.objectives, replace=known)
        with table or nullcontext():
            self._keys = {o.name: self._add_context(o) for o in self.objectives}
            trials = self._search(table)
        return SearchResult(trials, self.objectives, provenance=self._provenance(trials), largest=self.space.largest())

    def _search(self, table: ResultsCSV | None) -> list[Trial]:
        trials: list[Trial] = []
        while len(trials) < self.num_evals:
            asked = self.strategy.ask(self.num_evals - len(trials))
            if not asked:
                logger.info("the search ends after %d trials: there is nothing left to ask for", len(trials))
                break
            batch: list[Trial] = []
            for architecture in asked:
                batch.append(self._try(self.space.canonicalize(architecture), table, len(trials) + len(batch) + 1))
            self.strategy.tell(batch)
            trials += batch
            if len(trials) >= HOPELESS and not any(trial.ok for trial in trials):
                break
        if not any(trial.ok for trial in trials):
            raise self._nothing_works(trials)
        return trials

    def _try(self, architecture: Architecture, table: ResultsCSV | None, number: int) -> Trial:
        before = self._measured
        records = self._evaluate(architecture)
        trial = _trial(architecture, records)
        if table is not None:
            table.append(trial, max(record.date for record in records))
        if self._on_trial is not None:
            self._on_trial(StudyProgress(number, self.num_evals, trial, measured=self._measured > before))
        return trial

    def _evaluate(self, architecture: Architecture) -> list[Record]:
        """Return the records of all objectives, or those up to the first failure."""
        subnet = functools.cache(lambda: self._build(architecture))
        records = []
        for objective in self.objectives:
            record = self.archive.get(architecture, objective.name, self._keys[objective.name])
            if record is None:
                record = self._measure(objective, architecture, subnet)
                self.archive.append(record)
                self._measured += 1
            records.append(record)
            if record.error is not None:
                break
        return records

    def _measure(self, objective: Objective, architecture: Architecture, subnet: Callable[[], Any]) -> Record:
        key = (architecture, objective.name, self._keys[objective.name])
        try:
            module: Any = None if isinstance(objective, AnalyticObjective) else subnet()
            measurement = objective.measure(module, architecture)
        except EvaluationError as error:
            logger.warning("%s of %s failed: %s", objective.name, architecture, error)
            return Record(*key, error=str(error) or type(error).__name__)
        if not math.isfinite(measurement.value):
            logger.warning("%s of %s is %s", objective.name, architecture, measurement.value)
            return Record(*key, error=f"the value is {measurement.value}", provenance=measurement.provenance)
        spread = measurement.spread
        if spread is not None and not math.isfinite(spread):
            spread = None
        return Record(*key, value=float(measurement.value), spread=spread, provenance=measurement.provenance)

    def _add_context(self, objective: Objective) -> str:
        """Return the hash of what an objective is measured on; a change since earlier measurements is logged."""
        context = {**(self._context if objective.depends_on_weights else {}), **objective.context()}
        key = self.archive.add_context(context)
        earlier = [r.context for r in self.archive.records if r.objective == objective.name]
        if earlier and key not in earlier:
            changed = "; ".join(differences(self.archive.contexts[earlier[-1]], self.archive.contexts[key]))
            logger.warning("%s is measured again, as its conditions changed (%s)", objective.name, changed)
        return key

    def _nothing_works(self, batch: Sequence[Trial]) -> EvaluationError:
        files = " and ".join(str(path) for path in (self.archive.path, self._csv_path) if path is not None)
        where = f"; the failures are recorded: mend the cause and delete {files} to try again" if files else ""
        return EvaluationError(
            f"none of the first {len(batch)} architectures could be measured. The first one: {batch[0].error}{where}"
        )

    def _provenance(self, trials: Sequence[Trial]) -> dict[str, Any]:
        contexts = self.archive.contexts
        return {
            "search": self.archive.search,
            "archive": None if self.archive.path is None else str(self.archive.path),
            "contexts": {name: contexts[key] for name, key in self._keys.items()},
            "trials": len(trials),
            "failed": sum(not trial.ok for trial in trials),
            "measured_now": self._measured,
        }


def _trial(architecture: Architecture, records: Sequence[Record]) -> Trial:
    failed = next((r for r in records if r.error is not None), None)
    if failed is not None:
        return Trial(architecture, error=f"{failed.objective}: {failed.error}")
    return Trial(
        architecture,
        {r.objective: r.value for r in records if r.value is not None},
        spreads={r.objective: r.spread for r in records if r.spread is not None},
    )
