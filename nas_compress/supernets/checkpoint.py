"""The weights of super-networks: from a file, in our naming or the published one, or from where the registry says."""

from __future__ import annotations

import logging
import shutil
from contextlib import suppress
from dataclasses import asdict
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import torch

from nas_compress.data.augment import Augmentation
from nas_compress.errors import CheckpointError, OutputError
from nas_compress.files import replacing
from nas_compress.supernets.base import ImageSupernet
from nas_compress.supernets.trained import is_remote, verified
from nas_compress.weights import load_into, read_header, read_state, write_state

if TYPE_CHECKING:
    from nas_compress.supernets.base import Supernet

logger = logging.getLogger(__name__)

TIMEOUT_S = 60.0
"""Seconds of silence after which a download is given up."""


def load_checkpoint(supernet: Supernet, path: str | Path) -> None:
    """Load a super-network's weights, in our own naming or in that of its published checkpoint.

    Raises:
        CheckpointError: The file cannot be read or is of another network.
    """
    from nas_compress.supernets.bert import BertSupernet

    state = read_state(path)
    ours, published = supernet.from_published(state), {id(tensor): key for key, tensor in state.items()}
    if isinstance(supernet, BertSupernet):
        supernet.check_head(ours, path)
    load_into(supernet, ours, path, {key: published.get(id(tensor), key) for key, tensor in ours.items()})
    if isinstance(supernet, ImageSupernet):
        supernet.augmentation = _augmentation(path)


def save_checkpoint(supernet: Supernet, path: str | Path) -> None:
    """Write a super-network's weights as safetensors, with what it is and what its images were changed by.

    Raises:
        OutputError: The file cannot be written.
    """
    header: dict[str, Any] = {"supernet": supernet.describe()}
    if isinstance(supernet, ImageSupernet) and supernet.augmentation is not None:
        header["augmentation"] = asdict(supernet.augmentation)
    write_state(path, supernet.state_dict(), header)


def _augmentation(path: str | Path) -> Augmentation | None:
    """Return how the images were changed that a file's weights were trained on; None where it does not say."""
    found = read_header(path).get("augmentation")
    try:
        return None if found is None else Augmentation(**found)
    except TypeError as error:
        raise CheckpointError(f"{path} is damaged: augmentation is {found!r:.80}") from error


def obtain(address: str) -> Path:
    """Return a local file for an address of the registry: downloaded, or a file with its card that is still whole.

    Raises:
        CheckpointError: It cannot be downloaded, or is not what its card says.
    """
    return fetch(address) if is_remote(address) else verified(address)


def fetch(url: str) -> Path:
    """Return a local copy of a published file, downloaded once into torch's hub cache.

    Raises:
        CheckpointError: It cannot be downloaded, or holds no tensors by name; such a file is not kept.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name
    remedy = "try again, or fetch it by other means and name the file in supernet_ckpt_path"
    if not path.is_file():
        try:
            _download(url, path)
        except (OSError, HTTPException, OutputError) as error:
            raise CheckpointError(f"cannot download {url}: {error}; {remedy}") from error
    try:
        read_state(path)
    except CheckpointError as error:
        with suppress(OSError):
            path.unlink()
        raise CheckpointError(f"what came from {url} is no checkpoint, and was removed ({error}); {remedy}") from error
    return path


def _download(url: str, path: Path) -> None:
    """Write what an address answers to a file, all of it or nothing."""
    with urlopen(Request(url, headers={"User-Agent": "nas-compress"}), timeout=TIMEOUT_S) as answer:
        told = answer.headers["Content-Length"]
        logger.info("downloading %s (%s bytes)", url, told or "unknown")
        with replacing(path) as temporary:
            with temporary.open("wb") as file:
                shutil.copyfileobj(answer, file)
            if told is not None and (size := temporary.stat().st_size) != int(told):
                raise HTTPException(f"{size:,} of {int(told):,} bytes came")
