"""The state of pruning in rounds in a folder, from which it goes on exactly."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import nn

from nas_compress.compression.resize import fit_shapes
from nas_compress.errors import CheckpointError, first_line
from nas_compress.weights import load_into, read_state, write_state


class RoundsFolder:
    """A folder that holds a network after its last complete round, and the training of the round in work.

    The file of the weights names what they come from; writing it is what makes a round complete.

    Args:
        path: The folder.
        run: Everything the outcome depends on, as plain JSON data.
    """

    def __init__(self, path: str | Path, run: Mapping[str, Any]) -> None:
        self.path = Path(path).expanduser()
        self._run: dict[str, Any] = json.loads(json.dumps(run))

    def training(self, number: int) -> Path:
        """Return the folder of a round's training; rounds count from 1."""
        return self.path / f"training-{number:04d}"

    def keep(self, network: nn.Module, number: int) -> None:
        """Store a network after a round, and remove what led to it."""
        file = self._file(number)
        write_state(file, network.state_dict(), {"run": self._run, "round": number})
        shutil.rmtree(self.training(number), ignore_errors=True)
        for old in self.path.glob("round-*.safetensors"):
            if old != file:
                old.unlink()

    def restore(self, network: nn.Module) -> int:
        """Give a network the shapes and weights after the last complete round, and return its number; 0 if none is.

        Raises:
            CheckpointError: The folder holds other work, with the first difference, or is damaged.
        """
        file = max(self.path.glob("round-*.safetensors"), default=None)
        if file is None:
            return 0
        run, number = self._header(file)
        for field in sorted({*self._run, *run}):
            if self._run.get(field) != run.get(field):
                raise CheckpointError(
                    f"{file} is of other work: {field} was {run.get(field)!r} there, is {self._run.get(field)!r} here; "
                    "give another folder, or delete this one to start anew"
                )
        state = read_state(file)
        fit_shapes(network, state, file)
        load_into(network, state, file)
        return number

    def _file(self, number: int) -> Path:
        return self.path / f"round-{number:04d}.safetensors"

    def _header(self, file: Path) -> tuple[dict[str, Any], int]:
        try:
            with safe_open(file, framework="pt") as opened:
                header = {key: json.loads(value) for key, value in (opened.metadata() or {}).items()}
        except (SafetensorError, OSError, ValueError) as error:
            raise self._damaged(file, first_line(error)) from error
        run, number = header.get("run"), header.get("round")
        if not isinstance(run, dict) or not isinstance(number, int) or self._file(number) != file:
            raise self._damaged(file, "its header is not that of a round of pruning")
        return run, number

    @staticmethod
    def _damaged(file: Path, reason: str) -> CheckpointError:
        return CheckpointError(f"{file} is damaged ({reason}); delete its folder to start anew")
