"""The state of a training run in a folder, from which the run goes on exactly."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from nas_compress.errors import CheckpointError, first_line
from nas_compress.files import replacing
from nas_compress.training.optimizer import State
from nas_compress.weights import Tensors, hash_tensors, load_into, read_state, write_state

FORMAT = "nas_compress training"
VERSION = 3

_STATE = r"epoch-\d{4,}-\d{6,}"
_OWN = re.compile(rf"{_STATE}\.safetensors|\.{_STATE}\.\d+\.part\.safetensors|\.training\.\d+\.part\.json")
"""Names of states, and of unfinished files of processes that were killed."""


@dataclass(frozen=True)
class EpochLog:
    """What one epoch of training came to.

    Attributes:
        epoch: Epoch, from 1.
        loss: Mean over the steps of the loss of the step's first sub-network.
        accuracy: Share of the (augmented) training examples (tokens, in sequences) that it told right, in %.
        stage: Name of the stage of progressive shrinking; empty elsewhere.
        curve: The same share on search-validation examples, in %, by sub-network.
    """

    epoch: int
    loss: float
    accuracy: float
    stage: str = ""
    curve: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Position:
    """How far a run is.

    Attributes:
        epoch: Complete epochs.
        step: Complete steps of the epoch after them.
        sums: Sums of loss, right rows and rows over these steps.
    """

    epoch: int
    step: int = 0
    sums: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class TrainingState:
    """All tensors of a run.

    Attributes:
        weights: The module's.
        optimizer: The optimizer's, by parameter.
        average: The moving average's; empty without one.
        extra: Others, such as a teacher's.
    """

    weights: Tensors
    optimizer: State
    average: Tensors
    extra: Tensors

    def named(self) -> Tensors:
        """Return all tensors by the names that they have in a file."""
        parts = {"weights": self.weights, "average": self.average, "extra": self.extra}
        named = {f"{part}.{key}": tensor for part, tensors in parts.items() for key, tensor in tensors.items()}
        states = self.optimizer.items()
        return named | {f"optimizer.{kind}.{key}": t for key, values in states for kind, t in values.items()}


class _Index(BaseModel):
    """The contents of `training.json`; a file of anything else is damaged."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: str
    version: int
    run: dict[str, Any]
    epoch: int
    step: int
    sums: tuple[float, float, float]
    state: str
    log: list[EpochLog]

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.step, self.sums)


class RunFolder:
    """A folder that holds the state of one training run after an epoch, or after a step in the middle of one.

    `training.json` names the run, its log and the file of tensors that belongs to them; replacing it is what
    makes a state complete.

    Args:
        path: The folder.
        run: Everything the run's outcome depends on besides the weights that it starts from, as plain JSON data.
    """

    def __init__(self, path: str | Path, run: Mapping[str, Any]) -> None:
        self.path = Path(path).expanduser()
        self._run: dict[str, Any] = json.loads(json.dumps(run))

    @property
    def _index(self) -> Path:
        return self.path / "training.json"

    def save(self, position: Position, log: list[EpochLog], state: TrainingState) -> None:
        """Store a state.

        Args:
            position: Where the run stands.
            log: An entry per complete epoch.
            state: The tensors.
        """
        file = _state_name(position)
        write_state(self.path / file, state.named())
        index = _Index(
            format=FORMAT,
            version=VERSION,
            run=self._run,
            epoch=position.epoch,
            step=position.step,
            sums=position.sums,
            state=file,
            log=log,
        )
        with replacing(self._index) as temporary:
            temporary.write_text(index.model_dump_json(indent=1) + "\n", encoding="utf-8")
        for old in self.path.iterdir():
            if old.name != file and _OWN.fullmatch(old.name):
                old.unlink()

    def load(self, module: nn.Module) -> tuple[Position, list[EpochLog], TrainingState] | None:
        """Restore a module; return where the run stands, its log and its state, or None in a new folder.

        A run is told by the weights that it starts from as well. A module that was trained as far as the state stands
        for (in place, and interrupted) goes on too.

        Raises:
            CheckpointError: The folder is damaged, or holds another run; the message names the difference.
        """
        weights = hash_tensors(module.state_dict())
        self._run["weights"] = weights
        if not self._index.is_file():
            return None
        index = self._read_index()
        state = _parts(self.path / index.state)
        if weights == hash_tensors(state.weights):
            self._run["weights"] = index.run.get("weights")
        if difference := _difference("", index.run, self._run):
            alone = difference.startswith("weights ")  # a network in training that died without storing them, say
            going_on = "the network as it was before its training to go on, " if alone else ""
            raise CheckpointError(
                f"{self._index} is of another run: {difference}; give {going_on}another folder, or delete this one to "
                "start anew"
            )
        _check_state(module, state, self.path / index.state)
        load_into(module, state.weights, self.path / index.state)
        return index.position, index.log, state

    def _read_index(self) -> _Index:
        try:
            text = self._index.read_text(encoding="utf-8")
            plain = json.loads(text)
        except (OSError, ValueError) as error:
            raise self._damaged(first_line(error)) from error
        if not isinstance(plain, dict) or plain.get("format") != FORMAT:
            raise self._damaged(f"format is not {FORMAT!r}")
        if plain.get("version") != VERSION:
            raise CheckpointError(f"{self._index} has version {plain.get('version')!r}; this release reads {VERSION}")
        try:
            index = _Index.model_validate_json(text)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            raise self._damaged(f"{'.'.join(map(str, problem['loc']))}: {problem['msg'].lower()}") from error
        begun = index.epoch > 0 or index.step > 0
        if not begun or index.state != _state_name(index.position) or len(index.log) != index.epoch:
            found = f"epoch {index.epoch}, step {index.step}, state {index.state!r} and a log of {len(index.log)}"
            raise self._damaged(f"{found} do not belong together")
        return index

    def _damaged(self, reason: str) -> CheckpointError:
        return CheckpointError(f"{self._index} is damaged or not a training run ({reason}); delete it to start anew")


def _state_name(position: Position) -> str:
    return f"epoch-{position.epoch:04d}-{position.step:06d}.safetensors"


def _parts(path: Path) -> TrainingState:
    """Return the tensors of a state file."""
    plain: dict[str, Tensors] = {"weights": {}, "average": {}, "extra": {}}
    optimizer: State = {}
    for key, tensor in read_state(path).items():
        part, _, name = key.partition(".")
        kind, _, parameter = name.partition(".")
        if part in plain and name:
            plain[part][name] = tensor
        elif part == "optimizer" and parameter:
            optimizer.setdefault(parameter, {})[kind] = tensor
        else:
            raise CheckpointError(f"{path} is damaged: it holds {key!r}, which is no part of a training state")
    return TrainingState(plain["weights"], optimizer, plain["average"], plain["extra"])


def _check_state(module: nn.Module, state: TrainingState, path: Path) -> None:
    """Check that optimizer state and average are of the module's tensors; states without dimension are counts."""
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    found = [(kind, name, t) for name, tensors in state.optimizer.items() for kind, t in tensors.items()]
    found += [("average", name, tensor) for name, tensor in state.average.items()]
    for kind, name, tensor in found:
        if not tensor.ndim:
            continue
        if name not in own:
            raise CheckpointError(f"{path} is damaged: it holds {kind} of {name!r}, which this network lacks")
        got, want = tuple(tensor.shape), tuple(own[name].shape)
        if got != want:
            raise CheckpointError(f"{path} is damaged: {kind} of {name!r} has shape {got}, this network wants {want}")


def _difference(field: str, there: Any, here: Any) -> str | None:
    """Name the first difference between two values, going down into dictionaries; None where there is none.

    What is missing counts as null, so that a run of an earlier release goes on where later ones have more options.
    """
    if isinstance(there, dict) and isinstance(here, dict):
        parts = (_difference(f"{field}.{key}", there.get(key), here.get(key)) for key in sorted({*there, *here}))
        return next((part for part in parts if part), None)
    return None if there == here else f"{field.removeprefix('.')} was {there!r} there, is {here!r} here"
