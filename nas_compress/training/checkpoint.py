"""The state of a training run in a folder, from which the run goes on exactly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nas_compress.errors import CheckpointError
from nas_compress.files import replacing
from nas_compress.weights import load_into, read_state, write_state

FORMAT = "nas_compress training"
VERSION = 1


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

    def save(self, epoch: int, log: list[dict[str, Any]], module: nn.Module, momentum: Mapping[str, Tensor]) -> None:
        """Store the state after `epoch` complete epochs.

        Args:
            epoch: Complete epochs.
            log: An entry per epoch.
            module: The module in training.
            momentum: Momentum buffers by parameter name.
        """
        tensors = {f"weights.{key}": tensor for key, tensor in module.state_dict().items()}
        tensors |= {f"momentum.{key}": tensor for key, tensor in momentum.items()}
        state = f"epoch-{epoch:04d}.safetensors"
        write_state(self.path / state, tensors)
        index = {"format": FORMAT, "version": VERSION, "run": self._run, "epoch": epoch, "state": state, "log": log}
        with replacing(self._index) as temporary:
            temporary.write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
        # Earlier epochs, and unfinished files of processes that were killed.
        for pattern in ("epoch-*.safetensors", ".epoch-*.part.safetensors", ".training.*.part.json"):
            for old in self.path.glob(pattern):
                if old.name != state:
                    old.unlink()

    def load(self, module: nn.Module) -> tuple[int, list[dict[str, Any]], dict[str, Tensor]]:
        """Restore a module and return (complete epochs, log, momentum buffers); (0, [], {}) in a new folder.

        Raises:
            CheckpointError: The folder is damaged, or holds another run; the message names the difference.
        """
        if not self._index.is_file():
            return 0, [], {}
        index = self._read_index()
        for field in sorted({*self._run, *index["run"]}):
            here, there = self._run.get(field), index["run"].get(field)
            if here != there:
                raise CheckpointError(
                    f"{self._index} is of another run: {_difference(field, there, here)}; "
                    "give another folder, or delete this one to start anew"
                )
        parts: dict[str, dict[str, Tensor]] = {"weights": {}, "momentum": {}}
        for key, tensor in read_state(self.path / index["state"]).items():
            part, _, name = key.partition(".")
            parts[part][name] = tensor
        load_into(module, parts["weights"], self.path / index["state"])
        return index["epoch"], index["log"], parts["momentum"]

    def _read_index(self) -> dict[str, Any]:
        try:
            index = json.loads(self._index.read_text(encoding="utf-8"))
            if index["format"] != FORMAT or not {"run", "epoch", "state", "log"} <= set(index):
                raise KeyError("format")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{self._index} is damaged or not a training run; delete it to start anew") from error
        if index["version"] != VERSION:
            raise CheckpointError(f"{self._index} has version {index['version']}; this release reads {VERSION}")
        loaded: dict[str, Any] = index
        return loaded


def _difference(field: str, there: Any, here: Any) -> str:
    """Name the first difference between two values, going down into dictionaries."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted({*there, *here}):
            if there.get(key) != here.get(key):
                return _difference(f"{field}.{key}", there.get(key), here.get(key))
    return f"{field} was {there!r} there, is {here!r} here"
