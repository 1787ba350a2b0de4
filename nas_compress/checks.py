"""Checks across fields and against registries and files; cheap, and free of any deep-learning library."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_compress.constraints import parse_constraint
from nas_compress.errors import ConfigError, NASError, suggest
from nas_compress.registry import Registry
from nas_compress.settings import Location, Problem, show
from nas_compress.tasks import TASKS

if TYPE_CHECKING:
    from nas_compress.approaches import SupernetSearch
    from nas_compress.objectives.config import LatencyConfig, TimingConfig
    from nas_compress.space import SearchSpace
    from nas_compress.supernets.precision_config import PrecisionConfig


def name_problems(registry: Registry[Any], name: str, location: Location) -> Iterator[Problem]:
    """Yield a problem if the registry does not hold the name."""
    try:
        registry.canonical(name)
    except NASError as error:
        yield Problem(location, str(error))


def canonical_metrics(metrics: Sequence[str]) -> list[str]:
    """Return the registered spellings of those metrics that exist."""
    from nas_compress.objectives import objectives

    return [objectives.canonical(name) for name in metrics if name in objectives]


def metric_problems(metrics: Sequence[str], here: Location) -> Iterator[Problem]:
    """Check that all metrics exist and none is given twice."""
    from nas_compress.objectives import objectives

    known: dict[str, str] = {}
    for index, name in enumerate(metrics):
        location = (*here, "metrics", index)
        if name not in objectives:
            yield from name_problems(objectives, name, location)
            continue
        canonical = objectives.canonical(name)
        if canonical in known:
            also = "" if known[canonical] == name else f" (as {known[canonical]!r})"
            yield Problem(location, f"{name!r} is given twice{also}")
        known[canonical] = name


def direction_problems(metrics: Sequence[str], higher: Sequence[bool] | None, here: Location) -> Iterator[Problem]:
    """Check INC's `higher_is_better` against the directions of the metrics, which are fixed."""
    from nas_compress.objectives import objectives

    if not higher or not all(name in objectives for name in metrics):
        return
    right = [objectives.entry(name).info["direction"] == "maximize" for name in metrics]
    if list(higher) != right:
        wanted = ", ".join(f"{name}: {show(value)}" for name, value in zip(metrics, right, strict=True))
        yield Problem((*here, "higher_is_better"), f"{list(higher)} does not fit the metrics ({wanted}); leave it out")


def latency_problems(latency: LatencyConfig, here: Location) -> Iterator[Problem]:
    """Check that the backend exists, is installed and has the precision, the table, and what `timing_problems` does."""
    from nas_compress.backends import backends

    unknown = list(name_problems(backends, latency.backend, (*here, "backend")))
    yield from unknown
    if not unknown:
        backend = backends.get(latency.backend)
        yield from raised_problems(backend.check, (*here, "backend"))
        yield from raised_problems(lambda: backend.check_precision(latency.precision), here)
    if latency.lut is not None:
        yield from table_problems(latency, latency.lut, (*here, "lut"))
    yield from timing_problems(latency, here)


def table_problems(latency: LatencyConfig, path: Path, location: Location) -> Iterator[Problem]:
    """Check that a latency table is there, and was measured with the backend and in the way that the section names."""
    from nas_compress.latency.table import read_conditions

    if problems := list(file_problems(path, location)):
        yield from problems
        return
    try:
        conditions = read_conditions(path)
    except NASError as error:
        yield Problem(location, str(error))
        return
    for name in ("backend", "threads", "precision"):
        if conditions[name] != getattr(latency, name):
            found, wanted = show(conditions[name]), show(getattr(latency, name))
            yield Problem(location, f"{show(path)} was measured with {name} {found}, and {name} is {wanted} here")


def timing_problems(latency: TimingConfig, here: Location) -> Iterator[Problem]:
    """Check that the numbers of runs fit together, and that the machine has the threads."""
    if latency.min_runs > latency.max_runs:
        yield Problem((*here, "min_runs"), f"{latency.min_runs} is larger than max_runs ({latency.max_runs})")
    cores = os.cpu_count() or 1
    if latency.threads > cores:
        yield Problem((*here, "threads"), f"{latency.threads} is more than this machine's {cores} CPU cores")


def raised_problems(check: Callable[[], object], location: Location) -> Iterator[Problem]:
    """Yield a problem if a check raises one of the package's errors."""
    try:
        check()
    except NASError as error:
        yield Problem(location, str(error))


def results_problems(section: SupernetSearch, here: Location) -> Iterator[Problem]:
    """Check that the results can be written, and that one process is to do it."""
    if section.distributed:
        yield Problem((*here, "distributed"), "true is not supported; start one search per machine and leave it false")
    yield from results_path_problems(section.results_csv_path, (*here, "results_csv_path"))


def needs_data(metrics: Sequence[str]) -> bool:
    """Return whether a metric is one of quality: measured on data, and so in want of it and of trained weights."""
    return bool(_quality_metrics(metrics))


def _quality_metrics(metrics: Sequence[str]) -> list[str]:
    from nas_compress.objectives import objectives

    return [name for name in canonical_metrics(metrics) if objectives.entry(name).info.get("quality")]


def supernet_problems(
    name: str | None, metrics: Sequence[str], here: Location, limited: Sequence[str] = ()
) -> Iterator[Problem]:
    """Check that the super-network exists and does the task of all metrics of quality.

    Args:
        name: Its name.
        metrics: All that is measured.
        here: Where it is named.
        limited: Those of `metrics`, in their registered spelling, that are measured for the sake of a limit alone.
    """
    from nas_compress.supernets import replay_of, supernets

    if name is None:
        yield Problem((*here, "supernet"), f"is not set; known: {', '.join(supernets)}")
        return
    if name not in supernets:
        yield from name_problems(supernets, name, (*here, "supernet"))
        return
    offered = supernets.entry(name).info["metrics"]
    if replay_of(name) is not None:
        for metric in canonical_metrics(metrics):
            if metric not in offered:
                reason = f"{metric!r} is not in the tables of {name!r}; those are: {', '.join(offered)}"
                yield Problem((*here, "constraints" if metric in limited else "metrics"), reason)
        return
    for metric in _quality_metrics(metrics):
        if metric not in offered:
            known = f"those are: {', '.join(offered)}" if offered else "it has no trained weights to measure"
            reason = f"{metric!r} is not a metric of supernet {name!r}'s task; {known}"
            yield Problem((*here, "constraints" if metric in limited else "metrics"), reason)


def space_problems(
    space: SearchSpace | None,
    allowed: Mapping[str, Any] | None,
    location: Location,
    precision: PrecisionConfig | None = None,
) -> Iterator[Problem]:
    """Check a restriction of a super-network's space, if that is known, with the precisions that are searched."""
    if space is None or not allowed:
        return
    try:
        (space if precision is None else precision.space(space)).restrict(allowed)
    except NASError as error:
        yield Problem(location, str(error))


def dataset_problems(
    section: Any, here: Location, *, needed: bool = True, own_supernet: bool = False
) -> Iterator[Problem]:
    """Check that the dataset (the super-network's, if none is named) exists, has its files, and fits.

    Args:
        section: Has `supernet`, `dataset` and `dataset_path`.
        here: Where the section stands.
        needed: Whether data is used at all; a name or a path that is given is checked in any case.
        own_supernet: A super-network is given as an object, and the one that is named takes no data.
    """
    from nas_compress.data import check, data_sources
    from nas_compress.supernets import replay_of, supernets

    if not own_supernet and replay_of(section.supernet) is not None:
        return
    name = section.dataset
    if name is not None and name not in data_sources:
        yield from name_problems(data_sources, name, (*here, "dataset"))
        return
    known = section.supernet is not None and section.supernet in supernets
    if name is None and known:
        name = supernets.entry(section.supernet).info["dataset"]
    if name is None and needed and (known or own_supernet):
        yield Problem((*here, "dataset"), f"is not set; known: {', '.join(data_sources)}")
    if name is None or not (needed or section.dataset_path is not None):
        return
    if known and needed and not own_supernet:
        yield from _fit_problems(section.supernet, name, (*here, "dataset"))
    options = getattr(section, "dataset_options", {})
    try:
        check(name, section.dataset_path, options)
    except ConfigError as error:
        yield Problem((*here, "dataset_options"), str(error).removeprefix("dataset_options: "))
    except NASError as error:
        yield Problem((*here, "dataset_path"), str(error).removeprefix("dataset_path = "))


def _fit_problems(supernet: str, dataset: str, location: Location) -> Iterator[Problem]:
    """Check that a dataset is for a super-network's task; for images, with as many channels, where both are known."""
    from nas_compress.data import data_sources, task_of
    from nas_compress.supernets import supernets

    info = supernets.entry(supernet).info
    task = info.get("task", "images")
    if task_of(dataset) != task:
        yield Problem(location, f"{dataset!r} is data of {task_of(dataset)}, supernet {supernet!r} takes {task}")
        return
    wanted = info.get("channels")
    found = data_sources.entry(dataset).info.get("channels")
    if wanted is not None and found is not None and wanted != found:
        kinds = {1: "1 channel (grey)", 3: "3 channels (colour)"}
        shown = [kinds.get(number, f"{number} channels") for number in (found, wanted)]
        yield Problem(location, f"{dataset!r} has images of {shown[0]}, supernet {supernet!r} takes {shown[1]}")


def weights_problems(section: Any, here: Location, *, needed: bool = True) -> Iterator[Problem]:
    """Check the checkpoint or, where none is given and trained weights are needed, that the super-network has some.

    A replay problem's tables are checked in place of weights.

    Args:
        section: Has `supernet` and `supernet_ckpt_path`; for a replay problem, `dataset` and `dataset_path` too.
        here: Where the section stands.
        needed: Whether the weights must be trained ones; a checkpoint that is given is checked in any case.
    """
    from nas_compress.supernets import replay_of, supernets

    if replay_of(section.supernet) is not None:
        yield from replay_problems(section, here)
        return
    location = (*here, "supernet_ckpt_path")
    if section.supernet_ckpt_path is not None:
        yield from checkpoint_problems(section.supernet_ckpt_path, location)
    elif needed and section.supernet in supernets:
        info = supernets.entry(section.supernet).info
        if info.get("weights") is None and info["metrics"]:  # without metrics of quality, there is nothing to train
            reason = f"is not set, and {section.supernet!r} comes without weights"
            yield Problem(location, f"{reason}; train it with: nas-compress train-supernet RECIPE")


def replay_problems(section: Any, here: Location) -> Iterator[Problem]:
    """Check that a replay problem has its tables, and nothing that goes with a network."""
    from nas_compress.replay.base import find_files
    from nas_compress.supernets import replay_of

    description = replay_of(section.supernet)
    if description is None:
        return
    for name in ("supernet_ckpt_path", "dataset"):
        if getattr(section, name) is not None:
            reason = f"does not go with {section.supernet!r}, whose values come from published tables; leave it out"
            yield Problem((*here, name), reason)
    location = (*here, "dataset_path")
    if section.dataset_path is None:
        files = ", ".join(description.files)
        yield Problem(location, f"is not set; {section.supernet!r} wants the folder that holds {files}")
        return
    try:
        find_files(section.dataset_path, description.files)
    except NASError as error:
        yield Problem(location, str(error))


def network_problems(supernet: str, here: Location, *, untrained: bool) -> Iterator[Problem]:
    """Check that a name stands for what recipes can take: networks, that share weights or are trained by themselves.

    Args:
        supernet: The name.
        here: Where the recipe stands.
        untrained: Whether its search is train-free, and what it finds is trained afterwards.
    """
    from nas_compress.supernets import replay_of, supernets

    if replay_of(supernet) is not None:
        reason = f"{supernet!r} has no network to train, compress or export, only values from published tables"
        yield Problem((*here, "supernet"), f"{reason}; nas-compress search takes it")
        return
    info = supernets.entry(supernet).info if supernet in supernets else {}
    if not info.get("metrics", ("acc",)) and not untrained:
        reason = f"{supernet!r} shares no weights: there is nothing to train before a network is chosen"
        yield Problem(
            (*here, "supernet"), f"{reason}; search it train-free (nas: {{approach: denas}}), then 'finetune'"
        )
    elif (task := info.get("task", "images")) not in TASKS:
        yield Problem((*here, "supernet"), f"{supernet!r} does the task {task!r}; recipes know {', '.join(TASKS)}")


def checkpoint_problems(path: Path, location: Location) -> Iterator[Problem]:
    """Check that a checkpoint is there and begins as a safetensors or torch file does."""
    if problems := list(file_problems(path, location)):
        yield from problems
        return
    with path.open("rb") as file:
        head = file.read(9)
    if path.suffix == ".safetensors":
        header = int.from_bytes(head[:8], "little")
        whole = len(head) == 9 and head[8:] == b"{" and header + 8 <= path.stat().st_size
    else:
        whole = head.startswith((b"PK\x03\x04", b"\x80"))
    if not whole:
        yield Problem(location, f"{show(path)} is not a whole safetensors or torch file")


def file_problems(path: Path, location: Location) -> Iterator[Problem]:
    """Check that a file is there and can be read."""
    if path.is_dir():
        yield Problem(location, f"{show(path)} is a folder; wants a file")
    elif not path.exists():
        yield Problem(location, f"no such file: {show(path)}{_neighbour(path)}")
    elif not os.access(path, os.R_OK):
        yield Problem(location, f"{show(path)} cannot be read (permission denied)")


def _neighbour(path: Path) -> str:
    """Return a hint at a file of a similar name, or at the first missing folder."""
    missing = next((p for p in reversed(path.absolute().parents) if not p.is_dir()), None)
    if missing is not None:
        return f" (the folder {missing} does not exist)"
    return suggest(path.name, [p.name for p in path.absolute().parent.iterdir()][:1000])


def results_path_problems(path: Path, location: Location) -> Iterator[Problem]:
    """Check that a file can be written there."""
    if path.suffix == ".jsonl":
        yield Problem(location, f"{show(path)} is the name of an archive; wants that of a table, such as results.csv")
        return
    if path.is_dir():
        yield Problem(location, f"{show(path)} is a folder; wants a file name")
        return
    parent = next(p for p in path.absolute().parents if p.exists())
    if not parent.is_dir():
        yield Problem(location, f"{show(path)} cannot be written: {parent} is not a folder")
    elif not os.access(path if path.exists() else parent, os.W_OK):
        yield Problem(location, f"{show(path)} cannot be written (permission denied in {parent})")


def limit_problems(name: str, text: str, location: Location) -> Iterator[Problem]:
    """Check that a limit on a registered metric can be read, and is in the metric's unit."""
    from nas_compress.objectives import objectives

    try:
        parse_constraint(text, name=name, unit=objectives.entry(name).info["unit"])
    except NASError as error:
        yield Problem(location, str(error))
