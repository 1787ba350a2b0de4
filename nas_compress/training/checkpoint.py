"""The state of a training run in a folder, from which the run goes on exactly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from nas_compress.errors import CheckpointError, first_line
from nas_compress.files import replacing
from nas_compress.training.optimizer import KINDS, State
from nas_compress.weights import Tensors, load_into, read_state, write_state

FORMAT = "nas_compress training"
VERSION = 2


@dataclass(frozen=True)
class EpochLog:
    """What one epoch of training came to.

    Attributes:
        epoch: Epoch, from 1.
        loss: Mean over the steps of the loss of the step's first sub-network.
        accuracy: Share of (augmented) training images that sub-network classified correctly, in %.
    """

    epoch: int
    loss: float
    accuracy: float


class _Index(BaseModel):
    """The contents of `training.json`; a file of anything else is damaged."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: str
    version: int
    run: dict[str, Any]
    epoch: int
    state: str
    log: list[EpochLog]


class RunFolder:
    """A folder that holds the state of one training run after its last complete epoch.

    `training.json` names the run, its log and the file of tensors that belongs to them; replacing it is what
    makes an epoch complete.

    Args:
        path: The folder.
        run: Everything the run's outcome depends on, as plain JSON data.
    """

    def __init__(self, path: str | Path, run: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self._run: dict[str, Any] = json.loads(json.dumps(run))

    @property
    def _index(self) -> Path:
        return self.path / "training.json"

    def save(self, epoch: int, log: list[EpochLog], module: nn.Module, state: State) -> None:
        """Store the state after `epoch` complete epochs.

        Args:
            epoch: Complete epochs.
            log: An entry per epoch.
            module: The module in training.
            state: The optimizer's.
        """
        tensors = {f"weights.{key}": tensor for key, tensor in module.state_dict().items()}
        tensors |= {f"{kind}.{key}": value for key, values in state.items() for kind, value in values.items()}
        file = _state_name(epoch)
        write_state(self.path / file, tensors)
        index = _Index(format=FORMAT, version=VERSION, run=self._run, epoch=epoch, state=file, log=log)
        with replacing(self._index) as temporary:
            temporary.write_text(index.model_dump_json(indent=1) + "\n", encoding="utf-8")
        # Earlier epochs, and unfinished files of processes that were killed.
        for pattern in ("epoch-*.safetensors", ".epoch-*.part.safetensors", ".training.*.part.json"):
            for old in self.path.glob(pattern):
                if old.name != file:
                    old.unlink()

    def load(self, module: nn.Module) -> tuple[int, list[EpochLog], State]:
        """Restore a module and return (complete epochs, log, the optimizer's state); (0, [], {}) in a new folder.

        Raises:
            CheckpointError: The folder is damaged, or holds another run; the message names the difference.
        """
        if not self._index.is_file():
            return 0, [], {}
        index = self._read_index()
        for field in sorted({*self._run, *index.run}):
            here, there = self._run.get(field), index.run.get(field)
            if here != there:
                raise CheckpointError(
                    f"{self._index} is of another run: {_difference(field, there, here)}; "
                    "give another folder, or delete this one to start anew"
                )
        weights, state = _parts(self.path / index.state)
        _check_state(module, state, self.path / index.state)
        load_into(module, weights, self.path / index.state)
        return index.epoch, index.log, state

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
        if index.epoch < 1 or index.state != _state_name(index.epoch) or len(index.log) != index.epoch:
            found = f"epoch {index.epoch}, state {index.state!r} and a log of {len(index.log)}"
            raise self._damaged(f"{found} do not belong together")
        return index

    def _damaged(self, reason: str) -> CheckpointError:
        return CheckpointError(f"{self._index} is damaged or not a training run ({reason}); delete it to start anew")


def _state_name(epoch: int) -> str:
    return f"epoch-{epoch:04d}.safetensors"


def _parts(path: Path) -> tuple[Tensors, State]:
    """Return the weights by name, and the optimizer's state, of a state file."""
    weights: Tensors = {}
    state: State = {}
    for key, tensor in read_state(path).items():
        part, _, name = key.partition(".")
        if not name or part not in ("weights", *KINDS):
            raise CheckpointError(f"{path} is damaged: it holds {key!r}, which is no part of a training state")
        if part == "weights":
            weights[name] = tensor
        else:
            state.setdefault(name, {})[part] = tensor
    return weights, state


def _check_state(module: nn.Module, state: State, path: Path) -> None:
    parameters = dict(module.named_parameters())
    for name, tensors in state.items():
        for kind, tensor in tensors.items():
            if name not in parameters:
                raise CheckpointError(f"{path} is damaged: it holds {kind} of {name!r}, which this network lacks")
            got, want = tuple(tensor.shape), () if kind == "step" else tuple(parameters[name].shape)
            if got != want:
                raise CheckpointError(
                    f"{path} is damaged: {kind} of {name!r} has shape {got}, this network wants {want}"
                )


def _difference(field: str, there: Any, here: Any) -> str:
    """Name the first difference between two values, going down into dictionaries."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted({*there, *here}):
            if there.get(key) != here.get(key):
                return _difference(f"{field}.{key}", there.get(key), here.get(key))
    return f"{field} was {there!r} there, is {here!r} here"
