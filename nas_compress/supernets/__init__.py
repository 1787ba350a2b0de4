"""Super-networks by name.

The registry maps a name to a factory `(num_classes=..., seed=...) -> Supernet`; `Entry.info` holds what must be
known without importing torch: the `task` that the net does and its metrics of quality, the dataset it is meant for, the
channels of its input images, a function that returns its space, and where trained `weights` are: an address to download
them from, the path of a file with its card (`trained.py`), or None.

The names `replay/...` stand for replay problems: there is no network, `info["replay"]` is the problem's `Description`,
and `info["metrics"]` are all the metrics that it offers.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from numbers import Integral
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
    defaults={"task": "images", "metrics": ("acc",), "dataset": None, "weights": None},
)


def check_supernet(supernet: object) -> None:
    """Check that what a user gives as a super-network is one, or None.

    Raises:
        ConfigError: It is not.
    """
    if supernet is None:
        return
    from nas_compress.supernets.base import Supernet

    if not isinstance(supernet, Supernet):
        raise ConfigError(f"supernet is a {type(supernet).__name__}; wants a super-network, as load_supernet returns")


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
        checkpoint: A file with its weights; without one, those that the registry has are taken: published, or shipped.
        trained: Whether weights are needed at all; if not, and no file is given, they are random.
        num_classes: Number of logits; that of the registered net by default.
        seed: Seed of random weights.

    Raises:
        UnknownNameError: No super-network has this name.
        ConfigError: `num_classes` or `seed` is no such number, or what is registered makes no super-network of them.
        CheckpointError: The weights are missing, damaged, or of another net or number of logits.
    """
    from nas_compress.supernets.checkpoint import load_checkpoint

    for key, value, least in (("num_classes", num_classes, 1), ("seed", seed, 0)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, Integral) or value < least):
            raise ConfigError(f"{key} = {value!r} is not allowed; allowed: whole numbers from {least} on")
    build = supernets.get(name)
    options = {"seed": seed} if num_classes is None else {"num_classes": num_classes, "seed": seed}
    try:
        signature(build).bind(**options)
    except TypeError as error:
        raise ConfigError(f"supernet {name!r}: its factory wants to be called with {options} alone: {error}") from None
    net = build(**options)
    check_supernet(net)
    if checkpoint is not None:
        load_checkpoint(net, checkpoint)
    elif trained:
        _load_registered(net, name, num_classes)
    return net.eval()


def _load_registered(net: Supernet, name: str, num_classes: int | None) -> None:
    """Load the weights that the registry has for a name, and say so if they are for another number of logits."""
    from nas_compress.supernets.checkpoint import load_checkpoint, obtain

    address = supernets.entry(name).info["weights"]
    if address is None:
        raise CheckpointError(f"supernet {name!r} comes without weights; train it, or name a file with its weights")
    path = obtain(address)
    try:
        load_checkpoint(net, path)
    except CheckpointError as error:
        if num_classes is None or not _takes(supernets.get(name)(seed=0), path):
            raise
        raise CheckpointError(
            f"supernet {name!r} comes with weights for another number of outputs than {num_classes}; train it on data "
            f"with so many, or name a file with its weights ({error})"
        ) from error


def _takes(net: Supernet, path: Path) -> bool:
    from nas_compress.supernets.checkpoint import load_checkpoint

    try:
        load_checkpoint(net, path)
    except CheckpointError:
        return False
    return True


__all__ = ["check_supernet", "load_supernet", "replay_of", "supernets"]
