"""Runs the steps of a recipe, each of them resumable, and keeps what each came to."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import BaseModel

from nas_compress.backends.hardware import describe_hardware
from nas_compress.compression.inputs import check_inputs
from nas_compress.compression.outcome import files_of
from nas_compress.compression.state import State
from nas_compress.compression.steps import STEPS, trained_supernet
from nas_compress.errors import ConfigError
from nas_compress.files import replacing, sole_use
from nas_compress.recipe import DistillStep, Recipe, Step, TrainSupernetStep
from nas_compress.report import steps_table, write_report
from nas_compress.supernets import supernets
from nas_compress.supernets.trained import is_remote, verified

if TYPE_CHECKING:
    import pandas as pd

TRAINING = "train_supernet"


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
    it; training and search go on within the step.

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


class _StepRecord(BaseModel):
    """A finished step: what it depended on, what it came to, and hashes of the files that it made."""

    key: str
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
        self._record = self._read()
        self._digest = hashlib.sha256(_canonical(self._inputs()))
        self._checked = False

    def _inputs(self) -> dict[str, Any]:
        """Return what all steps depend on: settings, and the contents of the files that they name."""
        recipe = self.state.recipe
        settings = recipe.model_dump(mode="json", exclude={"steps", "output", "name", "latency"})
        return {**settings, "weights": _hash_weights(recipe), "data": self.state.data.fingerprint}

    def do(self, label: str, step: Step, progress: Callable[[StepProgress], None]) -> dict[str, Any]:
        """Run a step, unless it is done, and return what it came to."""
        key = self._key(label, step)
        self.state.step = label
        if (done := self._done(label, key)) is not None:
            self.state.outcomes[label] = done.outcome
            progress(StepProgress(label, 1, 1, "done before"))
            return done.outcome
        if not self._checked:
            check_inputs(self.state)
            self._checked = True
        self._forget_from(label)
        progress(StepProgress(label, 0, 1))
        outcome = STEPS[step.name](self.state, step.options, lambda d, t, n="": progress(StepProgress(label, d, t, n)))
        self.state.outcomes[label] = outcome
        files = {name: _hash(self.state.folder / name) for name in files_of(outcome)}
        self._record.steps[label] = _StepRecord(key=key, outcome=outcome, files=files)
        self._write()
        progress(StepProgress(label, 1, 1, outcome.get("dropped", "done")))
        return outcome

    def follow(self) -> None:
        """Train the super-network along with the first process, which keeps what comes of it."""
        step = dict(self.state.recipe.labelled())[TRAINING]
        key = self._key(TRAINING, step)
        self.state.step = TRAINING
        if self._done(TRAINING, key) is None:
            trained_supernet(self.state, cast(TrainSupernetStep, step.options), lambda done, total, note="": None)

    def _done(self, label: str, key: str) -> _StepRecord | None:
        """Return the record of a step that need not run again."""
        done = self._record.steps.get(label)
        return done if done is not None and done.key == key and self._whole(done) else None

    def _key(self, label: str, step: Step) -> str:
        """Return what the step's outcome depends on, as a hash; the work in progress does not depend on all of it."""
        options = step.options.model_dump(mode="json")
        if isinstance(step.options, DistillStep) and isinstance(step.options.teacher, Path):
            options["teacher"] = _hash(step.options.teacher)
        begun = self._digest.copy()
        begun.update(_canonical({label: {k: v for k, v in options.items() if k not in _EXTENDABLE}}))
        self.state.work_keys[label] = begun.hexdigest()[:12]
        self._digest.update(_canonical({label: options}))
        if step.name == "select":  # from here on, networks are measured
            self._digest.update(_canonical(self.state.recipe.latency.model_dump(mode="json")))
        if step.name == "benchmark":
            self._digest.update(_canonical([describe_hardware(), _versions()]))
        return self._digest.hexdigest()[:16]

    def _whole(self, done: _StepRecord) -> bool:
        """Return whether the files of a step are as it wrote them."""
        paths = {name: self.state.folder / name for name in files_of(done.outcome)}
        return all(path.is_file() and done.files.get(name) in (None, _hash(path)) for name, path in paths.items())

    def _forget_from(self, label: str) -> None:
        """Drop a step, those after it and those that the recipe no longer has, with the files they made."""
        names = [name for name, _ in self.state.recipe.labelled()]
        kept = names[: names.index(label)]
        for name in [name for name in self._record.steps if name not in kept]:
            for file in files_of(self._record.steps.pop(name).outcome):
                (self.state.folder / file).unlink(missing_ok=True)
        for report in ("report.json", "report.html"):
            (self.state.folder / report).unlink(missing_ok=True)
        self._write()
        self.state.recipe.to_yaml(self.state.folder / "recipe.yaml")

    def _read(self) -> _Record:
        if not self._record_path.is_file():
            return _Record()
        try:
            return _Record.model_validate_json(self._record_path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{self._record_path} is damaged or not a recipe's record; delete it to run all steps again"
            ) from error

    def _write(self) -> None:
        with replacing(self._record_path) as temporary:
            temporary.write_text(self._record.model_dump_json(indent=1) + "\n", encoding="utf-8")


_EXTENDABLE = ("num_evals", "patience", "min_gain", "time_budget", "reference_point")
"""Options that say how much to do, not what: work goes on where they alone are changed."""


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


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
