"""Reading and writing weights: our safetensors and other projects' torch files, never a pickle's code."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nas_compress.errors import CheckpointError

if TYPE_CHECKING:
    from nas_compress.supernets.base import Supernet

State = dict[str, Tensor]


def read_state(path: str | Path) -> State:
    """Read a state dictionary from a safetensors file, or from a torch file without running its code.

    Raises:
        CheckpointError: The file is missing, damaged, or holds something else than tensors by name.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"cannot read {path}: {reason} (safetensors or a torch state dictionary)") from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} holds no state dictionary (names and tensors)")
    return {key.removeprefix("module."): value for key, value in state.items()}


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Return the plain data that `write_state` stored with the tensors."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    return {key: json.loads(value) for key, value in metadata.items()}


def write_state(path: str | Path, state: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None) -> None:
    """Write tensors as safetensors, with plain data as JSON in the header; the file appears whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    header = {key: json.dumps(value) for key, value in (metadata or {}).items()}
    try:
        save_file({key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}, partial, header or None)
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise CheckpointError(f"cannot write {path}: {error}") from error


def load_into(module: torch.nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Load a state dictionary that must fit exactly.

    Raises:
        CheckpointError: The first key that is missing, left over, or of another shape, with both shapes.
    """
    expected = module.state_dict()
    for key, tensor in expected.items():
        if key not in state:
            raise CheckpointError(f"{source} is of another network: it lacks {key} of shape {tuple(tensor.shape)}")
        if state[key].shape != tensor.shape:
            got, want = tuple(state[key].shape), tuple(tensor.shape)
            raise CheckpointError(f"{source} is of another network: {key} has shape {got}, this network wants {want}")
    for key in state:
        if key not in expected:
            raise CheckpointError(f"{source} is of another network: it has {key}, which this network lacks")
    module.load_state_dict(dict(state))


def load_checkpoint(supernet: Supernet, path: str | Path) -> None:
    """Load a super-network's weights, in our own naming or in that of its published checkpoint.

    Raises:
        CheckpointError: The file cannot be read or is of another network.
    """
    load_into(supernet, supernet.from_published(read_state(path)), path)


def fetch(url: str, sha256: str | None = None) -> Path:
    """Return a local copy of a published file, downloaded once into torch's hub cache.

    Raises:
        CheckpointError: There is no network, or the file is not the one that was published.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path))
        except OSError as error:
            raise CheckpointError(
                f"cannot download {url}: {error}; fetch it by other means and name the file in supernet_ckpt_path"
            ) from error
    verify(path, sha256)
    return path


def verify(path: Path, sha256: str | None) -> None:
    """Raise `CheckpointError` unless the file has this checksum (None checks nothing)."""
    if sha256 is not None and hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise CheckpointError(f"{path} is damaged: its checksum is not {sha256[:16]}...; delete it and try again")
