"""Runs the steps of a recipe, each of them resumable, and keeps what each came to."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas_compress.compression.state import State
from nas_compress.compression.steps import STEPS
from nas_compress.errors import ConfigError
from nas_compress.files import replacing
from nas_compress.recipe import Recipe, Step
from nas_compress.report import write_report

log = logging.getLogger(__name__)

_FORMAT = "nas_compress recipe run"


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
    """

    folder: Path
    outcomes: dict[str, dict[str, Any]]
    artefacts: list[dict[str, Any]]


def compress(
    recipe: Recipe | str | Path, *, progress: Callable[[StepProgress], None] | None = None
) -> CompressionResult:
    """Run a recipe, or go on with it at the first step that is not done.

    A step is done when the run in the output folder finished it with the same settings, the settings of all steps
    before it included. Training and search go on within the step.

    Args:
        recipe: A `Recipe`, or the path (or template name) of a YAML file with one.
        progress: Called often while the steps work.

    Raises:
        ConfigError: The recipe is wrong; raised before any work.
        NASError: A step cannot be done; the steps before it are kept.
    """
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.from_yaml(recipe)
    recipe.check()
    run = _Run(recipe)
    for step in recipe.steps:
        run.do(step, progress or (lambda _: None))
    artefacts = run.state.outcomes.get("benchmark", {}).get("artefacts", [])
    if artefacts:
        write_report(run.state.folder)
    return CompressionResult(run.state.folder, run.state.outcomes, artefacts)


class _Run:
    """One run of a recipe in its folder, with the record of finished steps (`steps.json`)."""

    def __init__(self, recipe: Recipe) -> None:
        self.state = State(recipe, recipe.folder)
        self._record_path = recipe.folder / "steps.json"
        self._recorded = self._read()
        self._digest = hashlib.sha256(_canonical(recipe.model_dump(mode="json", exclude={"steps", "output", "name"})))
        recipe.to_yaml(recipe.folder / "recipe.yaml")

    def do(self, step: Step, progress: Callable[[StepProgress], None]) -> None:
        """Run a step, unless its outcome is recorded."""
        self._digest.update(_canonical({step.name: step.options.model_dump(mode="json")}))
        key = self._digest.hexdigest()[:16]
        recorded = self._recorded.get(step.name)
        if recorded is not None and recorded["key"] == key:
            self.state.outcomes[step.name] = recorded["outcome"]
            progress(StepProgress(step.name, 1, 1, "done before"))
            return
        progress(StepProgress(step.name, 0, 1))
        outcome = STEPS[step.name](
            self.state, step.options, lambda d, t, n="": progress(StepProgress(step.name, d, t, n))
        )
        self.state.outcomes[step.name] = outcome
        self._recorded[step.name] = {"key": key, "outcome": outcome}
        self._write()
        progress(StepProgress(step.name, 1, 1, "done"))

    def _read(self) -> dict[str, Any]:
        if not self._record_path.is_file():
            return {}
        try:
            record = json.loads(self._record_path.read_text(encoding="utf-8"))
            if record["format"] != _FORMAT:
                raise KeyError("format")
            steps: dict[str, Any] = record["steps"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{self._record_path} is damaged or not a recipe's record; delete it to run all steps again"
            ) from error
        return steps

    def _write(self) -> None:
        text = json.dumps({"format": _FORMAT, "version": 1, "steps": self._recorded}, indent=1)
        with replacing(self._record_path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
