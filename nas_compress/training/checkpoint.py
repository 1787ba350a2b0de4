"""The state of a training run in a folder, from which the run goes on exactly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from nas_compress.errors import CheckpointError, first_line
from nas_compress.files import replacing
from nas_compress.weights import Tensors, load_into, read_state, write_state

FORMAT = "nas_compress training"
VERSION = 1


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

    def save(self, epoch: int, log: list[EpochLog], module: nn.Module, momentum: Mapping[str, Tensor]) -> None:
        """Store the state after `epoch` complete epochs.

        Args:
            epoch: Complete epochs.
            log: An entry per epoch.
            module: The module in training.
            momentum: Momentum buffers by parameter name.
        """
        tensors = {f"weights.{key}": tensor for key, tensor in module.state_dict().items()}
        tensors |= {f"momentum.{key}": tensor for key, tensor in momentum.items()}
        state = _state_name(epoch)
        write_state(self.path / state, tensors)
        index = _Index(format=FORMAT, version=VERSION, run=self._run, epoch=epoch, state=state, log=log)
        with replacing(self._index) as temporary:
            temporary.write_text(index.model_dump_json(indent=1) + "\n", encoding="utf-8")
        # Earlier epochs, and unfinished files of processes that were killed.
        for pattern in ("epoch-*.safetensors", ".epoch-*.part.safetensors", ".training.*.part.json"):
            for old in self.path.glob(pattern):
                if old.name != state:
                    old.unlink()

    def load(self, module: nn.Module) -> tuple[int, list[EpochLog], Tensors]:
        """Restore a module and return (complete epochs, log, momentum buffers); (0, [], {}) in a new folder.

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
        weights, momentum = _parts(self.path / index.state)
        _check_momentum(module, momentum, self.path / index.state)
        load_into(module, weights, self.path / index.state)
        return index.epoch, index.log, momentum

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


def _parts(path: Path) -> tuple[Tensors, Tensors]:
    """Return weights and momentum buffers of a state file by name."""
    parts: dict[str, Tensors] = {"weights": {}, "momentum": {}}
    for key, tensor in read_state(path).items():
        part, dot, name = key.partition(".")
        if part not in parts or not dot:
            raise CheckpointError(f"{path} is damaged: it holds {key!r}, which is no part of a training state")
        parts[part][name] = tensor
    return parts["weights"], parts["momentum"]


def _check_momentum(module: nn.Module, momentum: Tensors, path: Path) -> None:
    parameters = dict(module.named_parameters())
    for name, tensor in momentum.items():
        if name not in parameters:
            raise CheckpointError(f"{path} is damaged: it holds momentum of {name!r}, which this network lacks")
        if tensor.shape != parameters[name].shape:
            got, want = tuple(tensor.shape), tuple(parameters[name].shape)
            raise CheckpointError(f"{path} is damaged: momentum of {name!r} has shape {got}, this network wants {want}")


def _difference(field: str, there: Any, here: Any) -> str:
    """Name the first difference between two values, going down into dictionaries."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted({*there, *here}):
            if there.get(key) != here.get(key):
                return _difference(f"{field}.{key}", there.get(key), here.get(key))
    return f"{field} was {there!r} there, is {here!r} here"
