"""The only loop that evaluates: ask, canonicalize, look up or measure, append, tell."""

from __future__ import annotations

import functools
import logging
import math
import os
import reprlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any, SupportsFloat

import numpy as np

from nas_compress.archive import Archive
from nas_compress.constraints import Constraint, keeps
from nas_compress.errors import ConfigError, EvaluationError, InfeasibleError, NASError, TrainingError, first_line
from nas_compress.objectives.base import AnalyticObjective, Measurement, Objective
from nas_compress.records import Record, differences
from nas_compress.result import SearchResult
from nas_compress.search import SearchProblem, SearchStrategy, Trial
from nas_compress.search.base import check_asked
from nas_compress.search.feasible import SMALL
from nas_compress.search.volume import VolumeCurve
from nas_compress.space import Architecture
from nas_compress.stopping import Stop, StopRules, StopWatch
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
        hypervolume: The normalised hypervolume so far, see `SearchResult.hypervolumes`; None until it is known.
    """

    done: int
    total: int
    trial: Trial
    measured: bool
    hypervolume: float | None = None

    @property
    def note(self) -> str:
        """The same in a few words."""
        volume = "" if self.hypervolume is None else f", hypervolume {self.hypervolume:.4g}"
        return f"{self.done} of {self.total} architectures{volume}"


LARGEST = 1e100
"""Largest value that counts as one: predictors and volumes square values and add the squares up."""


class Study:
    """One search over a space.

    It is resumed by running it again with the same archive and a fresh strategy of the same seed: what was measured
    before is answered from the archive, so that the strategy asks what it asked then.

    Args:
        problem: The space, what is measured, and the limits.
        strategy: Proposes the architectures; fresh, that is, never asked before.
        archive: Where measurements are kept; its owner closes it.
        build: Returns the extracted and recalibrated sub-network of a canonical architecture. It is called only for
            what is not in the archive and cannot be computed.
        rules: When the search ends; trials answered from the archive count.
        reference: Reference point of the hypervolume, a value per objective; see `SearchResult`.
        csv_path: Where to write a readable table of the trials, if anywhere.
        context: What every value that depends on weights depends on besides its objective's own context: supernet,
            checkpoint.
        on_trial: Called after every trial.
    """

    def __init__(
        self,
        problem: SearchProblem,
        strategy: SearchStrategy,
        archive: Archive,
        build: Callable[[Architecture], Any],
        *,
        rules: StopRules,
        reference: Mapping[str, float] | None = None,
        csv_path: str | os.PathLike[str] | None = None,
        context: Mapping[str, Any] | None = None,
        on_trial: Callable[[StudyProgress], None] | None = None,
    ) -> None:
        self.problem = problem
        self.strategy = strategy
        self.archive = archive
        self.rules = rules
        self._build = build
        self._reference = reference
        self._csv_path = csv_path
        self._context = dict(context or {})
        self._on_trial = on_trial
        self._keys: dict[str, str] = {}
        self._measured = 0
        self._warned: set[tuple[str, type[Exception]]] = set()
        self._curve = VolumeCurve(problem.objectives, reference)
        self._watch = StopWatch(rules, self._curve)
        self._trials: list[Trial] = []
        self._largest = _computed_of_largest(problem)

    def run(self) -> SearchResult:
        """Evaluate until a rule says to stop, or the strategy has no more to ask.

        Returns:
            All trials in the order in which they were asked for, and what they were measured on.

        Raises:
            ConfigError: The strategy asked for more than it was to.
            EvaluationError: The first trials failed, all of them, or the largest architecture did and a limit refers
                to it.
            InfeasibleError: No trial keeps all limits; the message gives the closest. The measurements are kept.
            ArchiveError: The archive or the table cannot be written.
            NASError: Any other that an evaluation raises, save `EvaluationError` and `TrainingError`: those, and errors
                that are none of the package's, are about one architecture, which is recorded as failed.
        """
        known = len(self.archive) > 0
        csv_path, table = self._csv_path, None
        if csv_path is not None:
            table = ResultsCSV(csv_path, self.problem.metrics, replace=known)
        with table or nullcontext():
            self._keys = {o.name: self._add_context(o) for o in self.problem.metrics}
            self.archive.begin_run(self._keys, self._reference)
            stop = self._search(table)
            if not self._curve.volumes:
                self._curve.settle()
                if table is not None and self._curve.volumes:
                    table.fill(self._curve.volumes)
        return self._result(stop)

    def _search(self, table: ResultsCSV | None) -> Stop:
        stop: Stop | None = None
        while stop is None:
            stop = self._watch.due() or self._step(table)
        self._check_any_works()
        logger.info("the search ends after %d trials: %s", len(self._trials), stop.reason)
        return stop

    def _step(self, table: ResultsCSV | None) -> Stop | None:
        """Ask once, evaluate and tell; a strategy is told whole answers alone, so nothing when time runs out."""
        most = self._watch.most()
        asked = check_asked(self.strategy, self.strategy.ask(most), most)
        batch: list[Trial] = []
        for architecture in asked:
            batch.append(self._try(self.problem.space.canonicalize(architecture), table))
            self._check_largest(batch[-1])
            if len(self._trials) == HOPELESS:
                self._check_any_works()
            if len(batch) < len(asked) and (stop := self._watch.out_of_time()):
                return stop
        if not asked:
            return Stop("exhausted", self._nothing_left())
        self.strategy.tell(batch)
        return None

    def _nothing_left(self) -> str:
        """Say that the space is exhausted, or that no more was found: of a large one, a limited part is never known."""
        computed = {o.name for o in self.problem.metrics if isinstance(o, AnalyticObjective)}
        limited = any(c.name in computed for c in self.problem.constraints)
        if limited and self.problem.space.size() > max(SMALL, len(self._trials)):
            return "no further architecture within the limits was found"
        return "there is nothing left to ask for"

    def _try(self, architecture: Architecture, table: ResultsCSV | None) -> Trial:
        before = self._measured
        records = self._evaluate(architecture)
        trial = _trial(architecture, records)
        self._trials.append(trial)
        if architecture == self.problem.space.largest():
            self._largest = {**trial.values, **self._largest}
        self._curve.add(trial.values, trial.ok and keeps(self.problem.constraints, trial.values, self._largest))
        self._watch.see()
        volumes = self._curve.volumes
        if table is not None:
            table.append(trial, max(record.date for record in records), volumes)
        if self._on_trial is not None:
            measured, volume = self._measured > before, volumes[-1] if volumes else None
            self._on_trial(StudyProgress(len(self._trials), self.rules.num_evals, trial, measured, volume))
        return trial

    def _evaluate(self, architecture: Architecture) -> list[Record]:
        """Return the records of all objectives, or those up to the first failure."""
        subnet = functools.cache(lambda: self._build(architecture))
        records = []
        for objective in self.problem.metrics:
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
        self._watch.start_clock()
        try:
            module: Any = subnet() if objective.uses_subnet else None
            measurement = _checked(objective, objective.measure(module, architecture))
        except (EvaluationError, TrainingError) as error:
            logger.warning("%s of %s failed: %s", objective.name, architecture, error)
            return Record(*key, error=str(error) or type(error).__name__)
        except NASError:
            raise
        except Exception as error:
            return Record(*key, error=self._surprise(objective, architecture, error))
        if not abs(float(measurement.value)) <= LARGEST:  # NaN, too
            logger.warning("%s of %s is %s", objective.name, architecture, measurement.value)
            return Record(*key, error=f"the value is {measurement.value}", provenance=measurement.provenance)
        spread = None if measurement.spread is None else float(measurement.spread)
        if spread is not None and not math.isfinite(spread):
            spread = None
        return Record(*key, value=float(measurement.value), spread=spread, provenance=measurement.provenance)

    def _surprise(self, objective: Objective, architecture: Architecture, error: Exception) -> str:
        """Return an error that is none of the package's as a failure's text; each kind of it is a warning once."""
        kind, line = type(error).__name__, first_line(error)
        text = kind if line == kind else f"{kind}: {line}"
        known = (objective.name, type(error)) in self._warned
        self._warned.add((objective.name, type(error)))
        level = logging.DEBUG if known else logging.WARNING
        logger.log(level, "%s of %s failed: %s", objective.name, architecture, text)
        logger.debug("%s failed", objective.name, exc_info=error)
        return text

    def _add_context(self, objective: Objective) -> str:
        """Return the hash of what an objective is measured on; a change since earlier measurements is logged."""
        context = {**(self._context if objective.depends_on_weights else {}), **objective.context()}
        key = self.archive.add_context(context)
        earlier = [r.context for r in self.archive.records if r.objective == objective.name]
        if earlier and key not in earlier:
            changed = "; ".join(differences(self.archive.contexts[earlier[-1]], self.archive.contexts[key]))
            logger.warning("%s is measured again, as its conditions changed (%s)", objective.name, changed)
        return key

    def _check_largest(self, trial: Trial) -> None:
        """Raise `EvaluationError` if this is the largest architecture, it failed, and a limit refers to it."""
        if not trial.ok and trial.architecture == self.problem.space.largest() and (limit := self._unknown_limit()):
            reason = f"the largest architecture, which it refers to, could not be measured: {trial.error}"
            raise EvaluationError(f"constraint {limit}: {reason}{self._remedy()}")

    def _unknown_limit(self) -> Constraint | None:
        """Return a limit that refers to a value of the largest architecture which is not known, if there is one."""
        return next((c for c in self.problem.constraints if c.relative and c.name not in self._largest), None)

    def _check_any_works(self) -> None:
        """Raise `EvaluationError` if no trial so far could be measured."""
        trials = self._trials
        if not trials:
            raise EvaluationError("the strategy asked for no architecture")
        if not any(trial.ok for trial in trials):
            reason = f"none of the first {len(trials)} architectures could be measured"
            raise EvaluationError(f"{reason}. The first one: {trials[0].error}{self._remedy()}")

    def _remedy(self) -> str:
        files = " and ".join(str(path) for path in (self.archive.path, self._csv_path) if path is not None)
        return f"; the failures are recorded: mend the cause and delete {files} to try again" if files else ""

    def _result(self, stop: Stop) -> SearchResult:
        if limit := self._unknown_limit():
            logger.warning("constraint %s is left out: the largest architecture was not measured", limit)
        result = SearchResult(
            self._trials,
            self.problem.objectives,
            limited=self.problem.limited,
            constraints=self.problem.constraints,
            reference=self._reference,
            provenance=self._provenance(stop),
            largest=self.problem.space.largest(),
            largest_values=self._largest,
        )
        if not result.feasible:
            kept = "" if self.archive.path is None else f". All measurements are kept in {self.archive.path}"
            raise InfeasibleError(f"{result.closest()}{kept} (the search ended as {stop.reason})")
        return result

    def _provenance(self, stop: Stop) -> dict[str, Any]:
        contexts = self.archive.contexts
        return {
            "search": self.archive.search,
            "archive": None if self.archive.path is None else str(self.archive.path),
            "contexts": {name: contexts[key] for name, key in self._keys.items()},
            "trials": len(self._trials),
            "failed": sum(not trial.ok for trial in self._trials),
            "measured_now": self._measured,
            "stopped": asdict(stop),
            "strategy": self.strategy.summary(),
        }


def _checked(objective: Objective, measured: object) -> Measurement:
    """Return what an objective measured.

    Raises:
        ConfigError: That is no `Measurement` of a number, its spread a number or None.
    """
    if isinstance(measured, Measurement):
        numbers = [measured.value, *([] if measured.spread is None else [measured.spread])]
        if all(isinstance(number, SupportsFloat) and np.ndim(number) == 0 for number in numbers):
            return measured
    found = reprlib.repr(measured)
    raise ConfigError(f"objective {objective.name}: measure returned {found}; wants a Measurement of one number")


def _computed_of_largest(problem: SearchProblem) -> dict[str, float]:
    """Return those values of the largest architecture that relative limits refer to and that can be computed."""
    largest = problem.space.largest()
    relative = {c.name for c in problem.constraints if c.relative}
    computed = (o for o in problem.metrics if isinstance(o, AnalyticObjective) and o.name in relative)
    return {o.name: float(o.compute([largest])[0]) for o in computed}


def _trial(architecture: Architecture, records: Sequence[Record]) -> Trial:
    failed = next((r for r in records if r.error is not None), None)
    if failed is not None:
        return Trial(architecture, error=f"{failed.objective}: {failed.error}")
    return Trial(
        architecture,
        {r.objective: r.value for r in records if r.value is not None},
        spreads={r.objective: r.spread for r in records if r.spread is not None},
    )
