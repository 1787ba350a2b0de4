"""Weights in files: safetensors, and other projects' torch files, which are read without running their code."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nas_compress.errors import CheckpointError, OutputError
from nas_compress.files import replacing

State = dict[str, Tensor]


def read_state(path: str | Path) -> State:
    """Read tensors by name, from safetensors or from a torch file.

    In torch files the state dictionary may lie under `state_dict` or `model`; a `module.` before every name is
    dropped.

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
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"cannot read {path} (damaged, or not plain tensors): {reason}") from error
    for key in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} holds no state dictionary (tensors by name)")
    return {key.removeprefix("module."): value for key, value in state.items()}


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Return the plain data that `write_state` stored with the tensors."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    return {key: json.loads(value) for key, value in metadata.items()}


def write_state(path: str | Path, state: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None) -> None:
    """Write tensors as safetensors, all at once or not at all, with plain data as JSON texts in the header.

    Raises:
        OutputError: The file cannot be written.
    """
    path = Path(path)
    header = {key: json.dumps(value) for key, value in (metadata or {}).items()}
    tensors = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in state.items()}
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, header or None)
        except SafetensorError as error:
            raise OutputError(f"cannot write {path}: {error}") from error


def load_into(module: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Load a state dictionary that must fit exactly.

    Args:
        module: Takes the tensors.
        state: A tensor for each of its parameters and buffers, and no other.
        source: Where they come from, for messages.

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
