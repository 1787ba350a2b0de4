"""The weights of super-networks: from a file, in our naming or the published one, or from where the registry says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import torch

from nas_compress.errors import CheckpointError
from nas_compress.supernets.trained import is_remote, verified
from nas_compress.weights import load_into, read_state

if TYPE_CHECKING:
    from nas_compress.supernets.base import Supernet


def load_checkpoint(supernet: Supernet, path: str | Path) -> None:
    """Load a super-network's weights, in our own naming or in that of its published checkpoint.

    Raises:
        CheckpointError: The file cannot be read or is of another network.
    """
    load_into(supernet, supernet.from_published(read_state(path)), path)


def obtain(address: str) -> Path:
    """Return a local file for an address of the registry: downloaded, or a file with its card that is still whole.

    Raises:
        CheckpointError: It cannot be downloaded, or is not what its card says.
    """
    return fetch(address) if is_remote(address) else verified(address)


def fetch(url: str) -> Path:
    """Return a local copy of a published file, downloaded once into torch's hub cache.

    Raises:
        CheckpointError: It cannot be downloaded.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path))
        except OSError as error:
            raise CheckpointError(
                f"cannot download {url}: {error}; fetch it by other means and name the file in supernet_ckpt_path"
            ) from error
    return path
