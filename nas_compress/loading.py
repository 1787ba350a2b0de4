"""A search's result from its archive."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas_compress.constraints import Constraint, limit_texts, parse_constraint
from nas_compress.errors import ArchiveError, ConfigError
from nas_compress.objectives import Objective, objectives
from nas_compress.records import FINALIST, ArchiveContents, Record, context_hash, read_archive
from nas_compress.result import ObjectiveInfo, SearchResult
from nas_compress.search.trial import Trial
from nas_compress.space import Architecture
from nas_compress.space.dimension import Condition, Dimension
from nas_compress.space.search_space import SearchSpace


def load_result(
    path: str | os.PathLike[str], given: Sequence[Objective | ObjectiveInfo | str] | None = None
) -> SearchResult:
    """Return the result of a search, finished or not; see `SearchResult.load`."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ArchiveError(f"cannot read the archive {path}: {error.strerror}") from error
    contents = read_archive(data, str(path))
    search = contents.search
    _check_header(search, path)
    limits = search.get("constraints", {})
    optimised = _optimised(search, path) if given is None else [_described(each, path) for each in _listed(given)]
    there = list(dict.fromkeys([*search.get("metrics", ()), *limits, *(r.objective for r in contents.records)]))
    if lacking := [o.name for o in optimised if o.name not in there]:
        raise ConfigError(f"objectives: {path} has no {', '.join(lacking)}; it has {', '.join(there)}")
    known = [o.name for o in optimised]
    limited = _registered([name for name in limits if name not in known], path)
    metrics = [*optimised, *limited]
    names = [o.name for o in metrics]
    records = {
        architecture: {name: record for name, record in measured.items() if name in names}
        for architecture, measured in contents.latest().items()
    }
    result = SearchResult(
        _trials(records, names),
        optimised,
        limited=limited,
        constraints=_constraints(limits, metrics),
        reference=_reference(contents, optimised),
        provenance=_provenance(contents, records, path),
        largest=_largest(search.get("space")),
    )
    _take_finalists(result, contents)
    return result


def _check_header(search: Mapping[str, Any], path: object) -> None:
    """Check that what is read of a search's description is of the types in which it is written."""
    space = search.get("space")
    sound = {
        "metrics": _texts(search.get("metrics", [])),
        "directions": _texts(search.get("directions", [])),
        "constraints": isinstance(search.get("constraints", {}), Mapping),
        "space": space is None
        or (isinstance(space, Mapping) and isinstance(space.get("dimensions"), Mapping) and "conditions" in space),
    }
    if wrong := next((name for name, right in sound.items() if not right), None):
        raise ArchiveError(f"{path}, line 1 is damaged ({wrong}: {search[wrong]!r:.80}); restore the file")


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _listed(given: Sequence[Objective | ObjectiveInfo | str]) -> Sequence[Objective | ObjectiveInfo | str]:
    if isinstance(given, str):
        raise ConfigError(f"objectives: {given!r} is no list; give [{given!r}]")
    names = [each if isinstance(each, str) else each.name for each in given]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"objectives: {twice!r} is given more than once")
    return given


def _optimised(search: Mapping[str, Any], path: object) -> list[ObjectiveInfo]:
    """Return the objectives that the archive itself describes, as a basic search does, or registered ones."""
    if "directions" not in search:
        return _registered(search.get("metrics"), path)
    pairs = zip(search["metrics"], search["directions"], strict=True)
    return [ObjectiveInfo(name, direction, "", name) for name, direction in pairs]


def _described(objective: Objective | ObjectiveInfo | str, path: object) -> ObjectiveInfo:
    return _registered([objective], path)[0] if isinstance(objective, str) else ObjectiveInfo.of(objective)


def _registered(names: Sequence[str] | None, path: object) -> list[ObjectiveInfo]:
    if names is None:
        raise ConfigError(f"{path} does not say which metrics were optimised; give objectives")
    for name in names:
        if name not in objectives:
            raise ConfigError(f"{path}: the metric {name!r} is not registered here; register it, or give objectives")
    infos = [(name, objectives.entry(name).info) for name in names]
    return [ObjectiveInfo(name, i["direction"], i["unit"], i["column"], i.get("best")) for name, i in infos]


def _reference(contents: ArchiveContents, optimised: Sequence[ObjectiveInfo]) -> Mapping[str, float] | None:
    """Return the reference point that was given to the last run, if it is one for these objectives."""
    given: Mapping[str, float] | None = contents.runs[-1]["reference"] if contents.runs else None
    return given if given is not None and set(given) == {o.name for o in optimised} else None


def _constraints(limits: Mapping[str, Any], metrics: Sequence[ObjectiveInfo]) -> list[Constraint]:
    units = {o.name: o.unit for o in metrics}
    return [parse_constraint(text, name=name, unit=units[name]) for name, text in limit_texts(limits)]


Records = Mapping[Architecture, Mapping[str, Record]]


def _trials(found: Records, names: Sequence[str]) -> list[Trial]:
    """Return a trial per architecture that failed or has all metrics; one that the search was at is left out."""
    trials = []
    for architecture, records in found.items():
        failed = next((r for r in records.values() if r.error is not None), None)
        if failed is not None:
            trials.append(Trial(architecture, error=f"{failed.objective}: {failed.error}"))
        elif len(records) == len(names):
            values = {name: float(records[name].value or 0.0) for name in names}
            spreads = {name: spread for name in names if (spread := records[name].spread) is not None}
            trials.append(Trial(architecture, values, spreads=spreads))
    return trials


def _take_finalists(result: SearchResult, contents: ArchiveContents) -> None:
    """Let the trials that were measured after a search on predictions have what was measured last."""
    from nas_compress.latency.finalists import Finalist, go_by

    metrics = {o.name for o in result.metrics}
    measured = [record for record in contents.records if FINALIST in record.provenance and record.objective in metrics]
    if not measured or measured[-1].context in map(context_hash, result.provenance["contexts"].values()):
        return
    key, trials = measured[-1].context, {trial.architecture: trial for trial in result.measured}
    finalists = {
        r.architecture: Finalist(r.architecture, trials[r.architecture].values[r.objective], r.value, r.spread, r.error)
        for r in measured
        if r.context == key and r.architecture in trials
    }
    go_by(result, finalists, contents.contexts[key])


def _provenance(contents: ArchiveContents, found: Records, path: object) -> dict[str, Any]:
    used = {name: record.context for records in found.values() for name, record in records.items()}
    return {
        "search": contents.search,
        "archive": str(path),
        "contexts": {name: contents.contexts[key] for name, key in used.items()},
    }


def _largest(space: Mapping[str, Any] | None) -> Architecture | None:
    """Return the largest architecture of a space as `SearchSpace.describe` tells of it."""
    if space is None:
        return None
    choices = {name: tuple(map(tuple, values)) for name, values in space["dimensions"].items()}
    dimensions = [Dimension(name, values, ordered=False) for name, values in choices.items()]
    conditions = [Condition((g[0], g[1]), (c[0], c[1]), at_least) for g, c, at_least in space["conditions"]]
    return SearchSpace(space["name"], dimensions, conditions).largest()
