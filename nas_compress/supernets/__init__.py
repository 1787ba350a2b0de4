"""Super-networks by name.

The registry maps a name to a factory `(num_classes=..., seed=...) -> ImageSupernet`; `Entry.info` holds what must be
known without importing torch: the metrics of quality of the task that the net does, the dataset it is meant for, the
channels of its input images, a function that returns its space, and where its published weights are.

The names `replay/...` stand for replay problems: there is no network, `info["replay"]` is the problem's `Description`,
and `info["metrics"]` are all the metrics that it offers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nas_compress.errors import CheckpointError, ConfigError
from nas_compress.registry import Entry, Registry
from nas_compress.replay import Description, replays
from nas_compress.supernets.mobilenet_config import DIGITS_MBV3, OFA_MBV3_W1_0, OFA_MBV3_W1_2, MobileNetConfig

if TYPE_CHECKING:
    from nas_compress.supernets.base import ImageSupernet

_OFA = "https://raw.githubusercontent.com/han-cai/files/master/ofa/ofa_nets/"


def _mobilenet(
    name: str, config: MobileNetConfig, summary: str, dataset: str, weights: str | None
) -> tuple[str, Entry]:
    """Return the registry's entry of a MobileNet configuration."""
    info = {
        "metrics": ("acc",),
        "dataset": dataset,
        "channels": config.in_channels,
        "space": partial(config.space, name),
        "weights": weights,
    }

    def build(num_classes: int | None = None, seed: int | None = None) -> ImageSupernet:
        from nas_compress.supernets.mobilenet import build_mobilenet

        return build_mobilenet(name, config, num_classes, seed)

    return name, Entry(build, summary, info)


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

    def build(num_classes: int | None = None, seed: int | None = None) -> ImageSupernet:
        raise ConfigError(f"supernet {name!r} has no network: its values come from published tables")

    return name, Entry(build, f"{description.summary} (no network: values from tables)", info)


def replay_of(name: str | None) -> Description | None:
    """Return the replay problem that a name in `supernets` stands for; None for a network and for unknown names."""
    if name is None or name not in supernets:
        return None
    description: Description | None = supernets.entry(name).info.get("replay")
    return description


supernets: Registry[Callable[..., ImageSupernet]] = Registry(
    "supernet",
    dict(
        [
            _mobilenet(
                "ofa_mbv3_d234_e346_k357_w1.0",
                OFA_MBV3_W1_0,
                "OFA MobileNetV3, width 1.0, ImageNet, 128 to 224 pixels (Cai et al., 2020)",
                "imagenet",
                _OFA + "ofa_mbv3_d234_e346_k357_w1.0",
            ),
            _mobilenet(
                "ofa_mbv3_d234_e346_k357_w1.2",
                OFA_MBV3_W1_2,
                "OFA MobileNetV3, width 1.2, ImageNet, 160 to 224 pixels (Cai et al., 2020)",
                "imagenet",
                _OFA + "ofa_mbv3_d234_e346_k357_w1.2",
            ),
            _mobilenet(
                "digits_mbv3",
                DIGITS_MBV3,
                "small MobileNetV3-style net for scikit-learn's digits",
                "digits",
                None,
            ),
            *map(_replay, replays),
        ]
    ),
)


def load_supernet(
    name: str,
    checkpoint: str | Path | None = None,
    *,
    trained: bool = True,
    num_classes: int | None = None,
    seed: int | None = None,
) -> ImageSupernet:
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
