"""Weights in files: safetensors, and other projects' torch files, which are read without running their code."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import warnings
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nas_compress.errors import CheckpointError, OutputError, first_line
from nas_compress.files import replacing

Tensors = dict[str, Tensor]

NESTED = ("state_dict", "model", "net", "state_dict_ema")
"""Where torch files keep the state dictionary among other things; the first that is there counts."""


def read_state(path: str | Path) -> Tensors:
    """Read tensors by name, from safetensors or from a torch file.

    In torch files the state dictionary may lie under one of `NESTED`; a `module.` before every name is dropped.

    Raises:
        CheckpointError: The file is missing, damaged, or holds something else than tensors by name.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}")
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"cannot read {path} (damaged?): {first_line(error)}") from error
    state = _load_torch(path)
    while isinstance(state, Mapping) and (key := next((k for k in NESTED if isinstance(state.get(k), Mapping)), None)):
        state = state[key]
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        names = f"{', '.join(map(str, state)):.200}" if isinstance(state, Mapping) else f"a {type(state).__name__}"
        raise CheckpointError(f"{path} holds no state dictionary (tensors by name); it holds {names}")
    return {key.removeprefix("module."): value for key, value in state.items()}


def read_header(path: str | Path) -> dict[str, Any]:
    """Return the plain data that `write_state` put into a file of safetensors; none from other files.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    if Path(path).suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"cannot read {path} (damaged?): {first_line(error)}") from error
    except ValueError:
        return {}  # another project's header: any texts


class _Ignored:
    """Stands in for another project's objects in a file: nothing of theirs is kept, and no code of theirs runs."""

    def __setstate__(self, state: object) -> None:
        """Leave out what they held."""


_KNOWN_OBJECTS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    Namespace,
    *((_Ignored, f"fairseq.meters.{name}Meter") for name in ("Average", "Time", "Stopwatch")),
]
"""What fairseq puts into its checkpoints besides tensors: options, and figures of the training."""


def _load_torch(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_KNOWN_OBJECTS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about plain pickles, which are refused
            return torch.load(path, map_location="cpu", weights_only=True)
    # Any byte of a damaged file may be taken for a command of torch's unpickler, so that errors of nearly every kind
    # come out of it (IndexError, struct.error, AssertionError, TypeError, ...); all of them are the file's fault.
    except Exception as error:
        raise CheckpointError(f"cannot read {path} (damaged, or not plain tensors): {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return what is wrong with a torch file; torch itself advises to run the code in it."""
    if not isinstance(error, pickle.UnpicklingError):
        return first_line(error)
    found = re.search(r"GLOBAL (\S+)", str(error))
    if found is None:
        return "it is not a file of torch.save"
    return f"it holds objects of {found[1]}, whose code is not run; save the state dictionary alone"


def check_tensors(state: Mapping[str, object]) -> None:
    """Check that a state dictionary is tensors alone.

    Raises:
        CheckpointError: An entry is something else, as `get_extra_state` of a module gives.
    """
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"the network's state holds {key}, a {type(value).__name__}, which cannot be stored; "
                "get_extra_state must give a tensor"
            )


def write_state(path: str | Path, state: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None) -> None:
    """Write tensors as safetensors, all at once or not at all, with plain data as JSON texts in the header.

    The same tensors and data make the same file, byte for byte.

    Raises:
        CheckpointError: The state holds something else than tensors.
        OutputError: The file cannot be written.
    """
    path = Path(path)
    check_tensors(state)
    header = {key: json.dumps(value) for key, value in (metadata or {}).items()}
    tensors = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in state.items()}
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, header or None)
        except SafetensorError as error:
            raise OutputError(f"cannot write {path}: {error}") from error
        if len(header) > 1:
            _order_header(temporary)


def _order_header(path: Path) -> None:
    """Put the texts of a header in order: safetensors writes them in another one every time, and files would differ."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        file.seek(8)
        file.write(text.ljust(size))  # the same texts in another order, padded with spaces as it was


def load_into(
    module: nn.Module, state: Mapping[str, Tensor], source: str | Path, names: Mapping[str, str] | None = None
) -> None:
    """Load a state dictionary that must fit exactly.

    Args:
        module: Takes the tensors.
        state: A tensor for each of its parameters and buffers, and no other.
        source: Where they come from, for messages.
        names: What the source calls the tensors, where that differs, for messages.

    Raises:
        CheckpointError: The first key that is missing, left over, not finite, or of another shape or kind of numbers,
            with both shapes or types. The module is then as it was.
    """
    expected = module.state_dict()
    told = {key: key if name == key else f"{key} ({name} in the file)" for key, name in (names or {}).items()}
    for key, tensor in expected.items():
        if key not in state:
            raise CheckpointError(f"{source} is of another network: it lacks {key} of shape {tuple(tensor.shape)}")
        if state[key].shape != tensor.shape:
            got, want = tuple(state[key].shape), tuple(tensor.shape)
            key = told.get(key, key)
            raise CheckpointError(f"{source} is of another network: {key} has shape {got}, this network wants {want}")
        if reason := _unfit(state[key], tensor):
            raise CheckpointError(f"{source} cannot be loaded: {told.get(key, key)} {reason}")
    for key in state:
        if key not in expected:
            key = told.get(key, key)
            raise CheckpointError(f"{source} is of another network: it has {key}, which this network lacks")
    module.load_state_dict(dict(state))


def _unfit(found: Tensor, wanted: Tensor) -> str:
    """Return why a tensor's numbers cannot stand for another's; empty if they can, in another precision at most."""
    if (found.is_floating_point(), found.is_complex()) != (wanted.is_floating_point(), wanted.is_complex()):
        got, want = (str(each.dtype).removeprefix("torch.") for each in (found, wanted))
        return f"is of type {got}, this network wants {want}"
    values = found.float() if found.is_floating_point() else found
    odd = ~torch.isfinite(values)
    if bool(odd.any()) and not torch.equal(values[odd], wanted.to(values)[odd]):  # masks of attention are infinite
        return "is not finite"
    return ""


def hash_tensors(tensors: Mapping[str, Tensor], description: str = "") -> str:
    """Return a hash of names and contents, of whatever order and device.

    Args:
        tensors: Tensors by name (a module's state dictionary).
        description: Text to hash with them.
    """
    check_tensors(tensors)
    digest = hashlib.sha256(description.encode())
    for key, tensor in sorted(tensors.items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
