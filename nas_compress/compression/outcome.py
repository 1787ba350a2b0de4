"""What a step comes to, as plain data, and how it tells how far it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from nas_compress.compression.state import State

Outcome = dict[str, Any]
"""What a step came to. Keys that the pipeline knows: `files` (all files that the step made), `weights` (of a
super-network), `networks` (weights by role), `models` (deployable files by name), `measured` (before and after),
`dropped` (why the change was rejected) and `stops` (whether the recipe ends with it)."""


class Tick(Protocol):
    """Reports how far a step is, in its own units of work."""

    def __call__(self, done: float, total: float, note: str = "") -> None:
        """Take the work done, the work in all, and a few words on where it stands."""


def files_of(outcome: Mapping[str, Any]) -> list[str]:
    """Return the files that a step made, relative to the folder."""
    return list(outcome.get("files", []))


def weights_of(outcome: Mapping[str, Any]) -> list[str]:
    """Return those of the files that hold the weights of a super-network, or of networks by their role."""
    supernet = [outcome["weights"]] if "weights" in outcome else []
    return [*supernet, *outcome.get("networks", {}).values()]


def training_tick(tick: Tick) -> Callable[[Any], None]:
    """Return a training progress callback that reports shares of work."""

    def report(progress: Any) -> None:
        tick(progress.share, 1.0, f"epoch {progress.epoch} of {progress.epochs}")

    return report


def metadata_of(state: State, role: str) -> dict[str, str]:
    """Return what a user of an exported file must know: how to prepare inputs, and what the outputs mean."""
    described: dict[str, Any] = {
        "supernet": state.recipe.supernet,
        "architecture": state.architecture(role).to_dict(),
        "task": state.domain.task.name,
    }
    if (resolution := state.resolution(role)) is not None:
        described["resolution"] = resolution
    described |= state.domain.metadata()
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in described.items()}
