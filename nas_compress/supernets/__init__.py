"""Super-networks by name.

The registry maps a name to a factory `(num_classes=..., seed=...) -> Supernet`; `Entry.info` holds what must be
known without importing torch: the `task` that the net does and its metrics of quality, the dataset it is meant for, the
channels of its input images, a function that returns its space, and where its published weights are.

The names `replay/...` stand for replay problems: there is no network, `info["replay"]` is the problem's `Description`,
and `info["metrics"]` are all the metrics that it offers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nas_compress.errors import CheckpointError, ConfigError
from nas_compress.registry import Entry, Registry
from nas_compress.replay import Description, replays
from nas_compress.supernets.asr_config import ASRS
from nas_compress.supernets.bert_config import BERTS
from nas_compress.supernets.conv_chain_config import CONV_CHAINS
from nas_compress.supernets.hat_config import HATS
from nas_compress.supernets.mobilenet_config import MOBILENETS
from nas_compress.supernets.resnet_config import RESNETS
from nas_compress.supernets.vit_config import VITS

if TYPE_CHECKING:
    from nas_compress.supernets.base import Supernet


def _replay(problem: str) -> tuple[str, Entry]:
    """Return the registry's entry of a replay problem."""
    name, description = f"replay/{problem}", replays.entry(problem).info["description"]
    info = {
        "replay": description,
        "metrics": description.metrics,
        "dataset": None,
        "space": description.space,
        "weights": None,
    }

    def build(num_classes: int | None = None, seed: int | None = None) -> Supernet:
        raise ConfigError(f"supernet {name!r} has no network: its values come from published tables")

    return name, Entry(build, f"{description.summary} (no network: values from tables)", info)


def replay_of(name: str | None) -> Description | None:
    """Return the replay problem that a name in `supernets` stands for; None for a network and for unknown names."""
    if name is None or name not in supernets:
        return None
    description: Description | None = supernets.entry(name).info.get("replay")
    return description


supernets: Registry[Callable[..., Supernet]] = Registry(
    "supernet",
    {**MOBILENETS, **RESNETS, **BERTS, **CONV_CHAINS, **VITS, **HATS, **ASRS, **dict(map(_replay, replays))},
)


def load_supernet(
    name: str,
    checkpoint: str | Path | None = None,
    *,
    trained: bool = True,
    num_classes: int | None = None,
    seed: int | None = None,
) -> Supernet:
    """Return a registered super-network with its weights, in evaluation mode.

    Args:
        name: A name in `supernets`.
        checkpoint: A file with its weights; without one, its published weights are taken.
        trained: Whether weights are needed at all; if not, and no file is given, they are random.
        num_classes: Number of logits; that of the published net by default.
        seed: Seed of random weights.

    Raises:
        UnknownNameError: No super-network has this name.
        CheckpointError: The weights are missing, damaged, or of another net.
    """
    from nas_compress.supernets.checkpoint import fetch, load_checkpoint

    build = supernets.get(name)
    net = build(seed=seed) if num_classes is None else build(num_classes=num_classes, seed=seed)
    if checkpoint is None and trained:
        url = supernets.entry(name).info["weights"]
        if url is None:
            raise CheckpointError(f"supernet {name!r} comes without weights; train it, or name a file with its weights")
        checkpoint = fetch(url)
    if checkpoint is not None:
        load_checkpoint(net, checkpoint)
    return net.eval()


__all__ = ["load_supernet", "replay_of", "supernets"]
