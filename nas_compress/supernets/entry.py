"""What the registry knows of a super-network without importing torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from nas_compress.registry import Entry
from nas_compress.supernets.trained import shipped

if TYPE_CHECKING:
    from nas_compress.space import SearchSpace
    from nas_compress.supernets.base import Supernet


class NetworkConfig(Protocol):
    """The configuration of a family's networks, without torch."""

    def space(self, name: str) -> SearchSpace:
        """Return the search space of a net of this configuration."""


def network(
    name: str,
    config: NetworkConfig,
    family: str,
    summary: str,
    *,
    task: str = "images",
    metrics: tuple[str, ...] = ("acc",),
    dataset: str | None = None,
    weights: str | None = None,
    **info: Any,
) -> tuple[str, Entry]:
    """Return a name and its entry.

    Args:
        name: The registered name.
        config: The configuration.
        family: The module of `nas_compress.supernets` whose `build(name, config, num_classes, seed)` makes the net.
        summary: One line.
        task: What its inputs are: images, text, questions, translation or speech.
        metrics: The metrics of quality of the task that the net does.
        dataset: The data source it is meant for.
        weights: The address of its published weights; by default the path of those that the package has, if any.
        info: What else must be known, such as the `channels` of its input images.
    """

    def build(num_classes: int | None = None, seed: int | None = None) -> Supernet:
        make: Callable[..., Supernet] = import_module(f"nas_compress.supernets.{family}").build
        return make(name, config, num_classes, seed)

    known = {
        "task": task,
        "metrics": metrics,
        "dataset": dataset,
        "space": partial(config.space, name),
        "weights": weights or shipped(name),
        "channels": None,
    }
    return name, Entry(build, summary, known | info)
