"""Runs the steps of a recipe, each of them resumable, and keeps what each came to."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from pydantic import BaseModel

from nas_compress.backends.hardware import describe_hardware
from nas_compress.compression.changes import judged
from nas_compress.compression.inputs import check_inputs
from nas_compress.compression.outcome import files_of, weights_of
from nas_compress.compression.state import State
from nas_compress.compression.steps import STEPS, trained_supernet
from nas_compress.errors import ConfigError
from nas_compress.files import replacing, sole_use
from nas_compress.recipe import NasStep, Recipe, Step, TrainSupernetStep
from nas_compress.recipe.steps import Conditional, StepOptions
from nas_compress.report import steps_table, write_report
from nas_compress.supernets import supernets
from nas_compress.supernets.trained import is_remote, verified

if TYPE_CHECKING:
    import pandas as pd

TRAINING = "train_supernet"
KEPT = (TRAINING, "nas", "finetune", "distill", "prune")
"""Steps that take hours: what they made under other options stays under `steps/`, and is found again."""


@dataclass(frozen=True)
class StepProgress:
    """Where a recipe stands, given to a progress callback.

    Attributes:
        step: Name of the current step.
        done: Work done in the step, in units of its own.
        total: Work of the whole step in those units.
        note: A few words on what is being done.
    """

    step: str
    done: float
    total: float
    note: str = ""


@dataclass(frozen=True)
class CompressionResult:
    """What a recipe made.

    Attributes:
        folder: Where all files are.
        outcomes: What each step came to, as plain data, by the step's name.
        artefacts: The entries of `report.json`, one per exported file; empty without a `benchmark` step.
        stopped: Why the recipe ended before its last step: the condition that held, by `stop_if`; None if it did not.
    """

    folder: Path
    outcomes: dict[str, dict[str, Any]]
    artefacts: list[dict[str, Any]]
    stopped: str | None = None

    def table(self) -> pd.DataFrame:
        """Return accuracy, size and latency of the network after each step that made one; see `report.steps`."""
        return steps_table(self.outcomes)


def compress(
    recipe: Recipe | str | Path,
    *,
    until: str | None = None,
    progress: Callable[[StepProgress], None] | None = None,
) -> CompressionResult:
    """Run a recipe, or go on with it at the first step that is not done.

    A step is done when the run in the output folder finished it with the same data, weights and settings, those of all
    steps before it included, and its files are still as it wrote them. A step that is not is run again with all after
    it; training and search go on within the step. What the folder has of the steps before is dropped when the new one
    has succeeded; what was trained and searched is kept under `steps/`, for when its options come back.

    Started by `torchrun`, the processes train the super-network together; the first one does all else. That is as far
    as several processes go: `until` must be `"train_supernet"`.

    Args:
        recipe: A `Recipe`, or the path (or template name) of a YAML file with one.
        until: Stop after this step: its name, with a number for a later one of that name (`prune_2`).
        progress: Called often while the steps work.

    Raises:
        ConfigError: The recipe is wrong, or another run is at work in its folder; raised before any work.
        NASError: A step cannot be done; the steps before it are kept.
    """
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.from_yaml(recipe)
    check(recipe, until)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and _follows(until):
        _Run(recipe).follow()
        return CompressionResult(recipe.folder, {}, [])
    with sole_use(recipe.folder):
        return _run(recipe, until, progress or (lambda _: None))


def _follows(until: str | None) -> bool:
    """Return whether this process of several is there to train along with the first one."""
    if until != TRAINING:
        raise ConfigError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, and several processes do no more of a recipe than the training "
            "of its super-network: run train-supernet under torchrun (in Python: until='train_supernet'), then the "
            "recipe in one process"
        )
    return int(os.environ.get("RANK", "0")) > 0


def _run(recipe: Recipe, until: str | None, progress: Callable[[StepProgress], None]) -> CompressionResult:
    run, stopped = _Run(recipe), None
    for label, step in recipe.labelled():
        outcome = run.do(label, step, progress)
        if outcome.get("stops"):
            stopped = f"{label}: {outcome['dropped']}"
        if stopped or label == until:
            break
    artefacts = run.state.outcomes.get("benchmark", {}).get("artefacts", [])
    if artefacts:
        write_report(run.state.folder)
    return CompressionResult(run.state.folder, run.state.outcomes, artefacts, stopped)


def check(recipe: Recipe, until: str | None = None) -> None:
    """Check that a recipe can be run up to a step; raises `ConfigError` before any work."""
    if until is not None and until not in dict(recipe.labelled()):
        raise ConfigError(f"the recipe {recipe.name!r} has no {until!r} step")
    recipe.check()


Content = TypeVar("Content", bound=BaseModel)


class _StepRecord(BaseModel):
    """A finished step: what it depended on (`work`: conditions apart), what it came to, and hashes of its files."""

    key: str
    work: str = ""
    outcome: dict[str, Any]
    files: dict[str, str] = {}


class _Record(BaseModel):
    """The content of `steps.json`: the finished steps of the last run, in order."""

    format: Literal["nas_compress recipe run"] = "nas_compress recipe run"
    version: Literal[1] = 1
    steps: dict[str, _StepRecord] = {}


class _Run:
    """One run of a recipe in its folder, with the record of finished steps."""

    def __init__(self, recipe: Recipe) -> None:
        self.state = State(recipe, recipe.folder)
        self._record_path = recipe.folder / "steps.json"
        self._record = _read(self._record_path, _Record) if self._record_path.is_file() else _Record()
        self._digest = hashlib.sha256(_canonical(self._inputs()))
        self._checked = False

    def _inputs(self) -> dict[str, Any]:
        """Return what all steps depend on: settings, and the contents of the files that they name."""
        recipe = self.state.recipe
        files = {"supernet_ckpt_path", "dataset_path"}
        settings = recipe.model_dump(mode="json", exclude={"steps", "output", "name", "latency", *files})
        return {**settings, "weights": _hash_weights(recipe), "data": self.state.data.fingerprint}

    def do(self, label: str, step: Step, progress: Callable[[StepProgress], None]) -> dict[str, Any]:
        """Run a step, unless it is done, and return what it came to."""
        key, note = self._key(label, step), "done before"
        self.state.step = label
        record = self._done(label, key)
        if record is None:
            record = self._put_back(label, key)
            if record is None:
                record = self._make(label, step, key, progress)
                note = record.outcome.get("dropped", "done")
            self._publish(label, record)
        if step.name != "nas" and not record.outcome.get("dropped"):  # these may go on: for longer, under other limits
            shutil.rmtree(self.state.work, ignore_errors=True)
        self.state.outcomes[label] = record.outcome
        for weights in weights_of(record.outcome):  # what follows is of these, however they came about
            self._digest.update(record.files[weights].encode())
        progress(StepProgress(label, 1, 1, record.outcome.get("note", note)))
        return record.outcome

    def _make(self, label: str, step: Step, key: str, progress: Callable[[StepProgress], None]) -> _StepRecord:
        """Run a step and return its record."""
        if not self._checked:
            check_inputs(self.state)
            self._checked = True
        progress(StepProgress(label, 0, 1))
        outcome = self._judged_anew(label, step)
        if outcome is None:
            run = STEPS[step.name]
            outcome = run(self.state, step.options, lambda d, t, n="": progress(StepProgress(label, d, t, n)))
        files = {name: _hash(self.state.folder / name) for name in files_of(outcome)}
        record = _StepRecord(key=key, work=self.state.work_keys[label], outcome=outcome, files=files)
        if step.name in KEPT:
            kept = self._kept_in(label, key)
            for name in files:
                _link(self.state.folder / name, kept / name)
            _write(kept / "record.json", record)
        return record

    def _judged_anew(self, label: str, step: Step) -> dict[str, Any] | None:
        """Return what a step's conditions say of what it made and measured under other ones; None if it did not."""
        if not isinstance(step.options, Conditional):
            return None
        for path in self._kept_in(label, "").parent.glob(f"{label}-*/record.json"):
            record = _read(path, _StepRecord)
            if record.work == self.state.work_keys[label] and record.files and _whole(record, path.parent):
                for name in record.files:
                    _link(path.parent / name, self.state.folder / name)
                made = {name: value for name, value in record.outcome.items() if name != "kept"}
                return judged(self.state, step.options, made)
        return None

    def follow(self) -> None:
        """Train the super-network along with the first process, which keeps what comes of it."""
        step = dict(self.state.recipe.labelled())[TRAINING]
        key = self._key(TRAINING, step)
        self.state.step = TRAINING
        if self._done(TRAINING, key) is None and self._kept(TRAINING, key) is None:
            trained_supernet(self.state, cast(TrainSupernetStep, step.options), lambda done, total, note="": None)

    def _done(self, label: str, key: str) -> _StepRecord | None:
        """Return the record of a step that need not run again."""
        done = self._record.steps.get(label)
        return done if done is not None and done.key == key and _whole(done, self.state.folder) else None

    def _key(self, label: str, step: Step) -> str:
        """Return what the step's outcome depends on, as a hash; the work in progress does not depend on all of it."""
        options = _by_content(step.options.model_dump())
        begun, extendable = self._digest.copy(), _extendable(step.options)
        begun.update(_canonical({label: {k: v for k, v in options.items() if k not in extendable}}))
        self.state.work_keys[label] = begun.hexdigest()[:12]
        self._digest.update(_canonical({label: options}))
        if step.name == "select":  # from here on, networks are measured
            self._digest.update(_canonical(self.state.recipe.latency.model_dump(mode="json")))
        if step.name == "benchmark":
            self._digest.update(_canonical([describe_hardware(), _versions()]))
        return self._digest.hexdigest()[:16]

    def _kept_in(self, label: str, key: str) -> Path:
        return self.state.folder / "steps" / "kept" / f"{label}-{key}"

    def _kept(self, label: str, key: str) -> _StepRecord | None:
        """Return the record of a step that an earlier run finished, and whose files were kept."""
        folder = self._kept_in(label, key)
        if not (folder / "record.json").is_file():
            return None
        record = _read(folder / "record.json", _StepRecord)
        return record if _whole(record, folder) else None

    def _put_back(self, label: str, key: str) -> _StepRecord | None:
        """Give a step's kept files their places again and return its record; None where there is nothing kept."""
        record = self._kept(label, key)
        for name in () if record is None else files_of(record.outcome):
            _link(self._kept_in(label, key) / name, self.state.folder / name)
        return record

    def _publish(self, label: str, record: _StepRecord) -> None:
        """Record a step; drop those after it, and those that the recipe no longer has, with the files they made."""
        names = [name for name, _ in self.state.recipe.labelled()]
        before = {name: self._record.steps[name] for name in names[: names.index(label)]}
        old = {file for each in self._record.steps.values() for file in files_of(each.outcome)}
        self._record.steps = {**before, label: record}
        now = {file for each in self._record.steps.values() for file in files_of(each.outcome)}
        named = {path.resolve() for _, path in self.state.recipe.files()}
        for file in (self.state.folder / each for each in [*(old - now), "report.json", "report.html"]):
            if file.resolve() not in named:
                file.unlink(missing_ok=True)
        _write(self._record_path, self._record)
        if not self.state.recipe.is_read_from(copy := self.state.folder / "recipe.yaml"):
            self.state.recipe.to_yaml(copy)


def _extendable(options: StepOptions) -> set[str]:
    """Return the options that say how much to do or what to keep: work goes on where they alone are changed."""
    if not isinstance(options, NasStep):
        return {"skip_if", "stop_if"}
    # A full search measures a sample first, and `num_evals` says how many where nothing else does.
    sampled = options.approach == "full" and options.training_samples is None
    return {"patience", "min_gain", "time_budget", "reference_point"} | (set() if sampled else {"num_evals"})


def _whole(record: _StepRecord, folder: Path) -> bool:
    """Return whether the files of a step are in a folder as it wrote them."""
    paths = {name: folder / name for name in files_of(record.outcome)}
    return all(path.is_file() and record.files.get(name) in (None, _hash(path)) for name, path in paths.items())


def _read(path: Path, kind: type[Content]) -> Content:
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is damaged or not a recipe's record; delete it to run all steps again") from error


def _write(path: Path, record: BaseModel) -> None:
    with replacing(path) as temporary:
        temporary.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _link(source: Path, target: Path) -> None:
    """Give a file a second name; copy it where the file system has no links."""
    with replacing(target) as temporary:
        temporary.unlink()
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("onnxruntime", "torch")}


def _hash_weights(recipe: Recipe) -> str | None:
    """Return a hash of the file that trained weights come from; None where a step makes them, or they are published."""
    if recipe.supernet_ckpt_path is not None:
        return _hash(recipe.supernet_ckpt_path)
    address = supernets.entry(recipe.supernet).info.get("weights") if recipe.loads_weights else None
    return None if address is None or is_remote(address) else _hash(verified(address))


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _by_content(value: Any) -> Any:
    """Return options with a hash of its content for every file: what it is called, and where it lies, is no matter."""
    if isinstance(value, dict):
        return {name: _by_content(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_by_content(each) for each in value]
    return _hash(value) if isinstance(value, Path) else value


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
