"""The architecture that a search ends with, in a file, and the network that it stands for."""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_compress.errors import ArchitectureError, ConfigError, NASError
from nas_compress.files import replacing
from nas_compress.result import SearchResult
from nas_compress.space import Architecture
from nas_compress.space.precision import without_precision

if TYPE_CHECKING:
    from torch import nn

    from nas_compress.supernets.base import Supernet

FORMAT, VERSION = "nas_compress structure", 1

_KEYS = {"supernet": str, "architecture": dict, "values": dict}


@dataclass(frozen=True)
class Structure:
    """An architecture of a super-network, and what the search knows of it.

    Attributes:
        supernet: The super-network's name.
        architecture: The architecture, in canonical form.
        values: Its values by metric.
    """

    supernet: str
    architecture: Architecture
    values: Mapping[str, float] = field(default_factory=dict)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file that people can read.

        Raises:
            OutputError: It cannot be written.
        """
        content = {
            "format": FORMAT,
            "version": VERSION,
            "supernet": self.supernet,
            "architecture": self.architecture.to_dict(),
            "values": dict(self.values),
        }
        rows = (f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items())
        with replacing(Path(path)) as scratch:
            scratch.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Structure:
        """Read a file that `save` wrote, of this version or an older one.

        Raises:
            ConfigError: It is missing, damaged, something else, or of a later version.
        """
        with _naming(path):
            try:
                content = json.loads(Path(path).read_text(encoding="utf-8"))
            except OSError as error:
                raise ConfigError(f"cannot read it: {error.strerror or error}") from error
            except (ValueError, RecursionError) as error:
                raise ConfigError(f"is not JSON: {error}") from None
            return cls._of(content)

    @classmethod
    def _of(cls, content: Any) -> Structure:
        """Return the structure of a file's content."""
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ConfigError(f"holds no structure; wants a file that a search wrote (format {FORMAT!r})")
        version = content.get("version")
        if type(version) is not int or not 1 <= version <= VERSION:
            raise ConfigError(f"is of version {version!r:.60}; this nas_compress reads versions up to {VERSION}")
        for key, kind in _KEYS.items():
            if not isinstance(content.get(key), kind):
                raise ConfigError(f"{key} is {content.get(key)!r:.60}; wants a {kind.__name__}")
        try:
            architecture = Architecture(content["architecture"])
        except (ArchitectureError, TypeError) as error:
            raise ConfigError(f"architecture: {error}") from None
        return cls(content["supernet"], architecture, _numbers(content["values"]))


def best_structure(result: SearchResult, metric: str | None = None) -> Structure:
    """Return the best architecture of a search within its limits, by its first objective or by another of its metrics.

    Raises:
        ConfigError: The metric is not one of the search's, or the result does not say which super-network it is of.
        InfeasibleError: No trial keeps the limits.
    """
    supernet = getattr(result, "provenance", {}).get("search", {}).get("supernet")
    if not isinstance(supernet, str):
        raise ConfigError("best_structure wants the result of a search in a super-network; this one names none")
    goal = next((m for m in result.metrics if m.name == metric), None)
    if metric is not None and goal is None:
        raise ConfigError(f"metric: {metric!r} was not measured; known: {', '.join(m.name for m in result.metrics)}")
    trial = result.best(**({} if goal is None else {goal.direction: goal.name}))  # type: ignore[arg-type]
    return Structure(supernet, trial.architecture, dict(trial.values))


def load_best_structure(
    structure: Structure | str | os.PathLike[str],
    *,
    checkpoint: str | Path | None = None,
    supernet: Supernet | None = None,
    num_classes: int | None = None,
    seed: int = 0,
) -> nn.Module:
    """Return the network of a structure, in evaluation mode, and in fp32 whatever precisions were searched.

    Args:
        structure: A structure, or the file that holds it.
        checkpoint: Weights to inherit: of the super-network, or of a pretrained BERT with or without a head for the
            task. Without one they are the super-network's initial ones.
        supernet: The super-network, where it is not a registered one; its name, if it has one, is the structure's.
        num_classes: Number of logits (of tokens, for speech) of a registered net; its own by default.
        seed: Seed of initial weights.

    Raises:
        ConfigError: The file is no structure, or of another super-network than the one that is given.
        UnknownNameError: No super-network has the name that it gives.
        ArchitectureError: The architecture is not in the super-network's space.
        CheckpointError: The weights are missing, damaged, or of another net.
    """
    from nas_compress.supernets import check_supernet, load_supernet

    if not isinstance(structure, Structure | str | os.PathLike):
        raise ConfigError(
            f"structure is a {type(structure).__name__}; wants what best_structure returns, or a file of it"
        )
    path = None if isinstance(structure, Structure) else structure
    found = structure if isinstance(structure, Structure) else Structure.load(structure)
    if supernet is not None:
        check_supernet(supernet)
        if num_classes is not None:
            raise ConfigError("num_classes and supernet are both given; the super-network has its own logits, give one")
    architecture = without_precision(found.architecture)
    with _naming(path):
        name = getattr(supernet, "name", None)
        if name and name != found.supernet:
            raise ConfigError(f"is of super-network {found.supernet!r}; {name!r} is given")
        net = supernet or load_supernet(found.supernet, trained=False, num_classes=num_classes, seed=seed)
        net.space.validate(architecture)
    if checkpoint is not None:
        net = net if supernet is None else copy.deepcopy(net)  # a user's own keeps its weights
        _inherit(net, checkpoint)
    return net.extract(architecture)


@contextmanager
def _naming(path: str | os.PathLike[str] | None) -> Iterator[None]:
    """Put the file in front of what is wrong with it; None where there is no file."""
    try:
        yield
    except NASError as error:
        if path is not None:
            error.args = (f"{os.fspath(path)}: {error}",)
        raise


def _inherit(net: Supernet, checkpoint: str | Path) -> None:
    """Load a super-network's weights; those of a BERT without a head for the task go into all but the head."""
    from nas_compress.supernets.bert import BertSupernet
    from nas_compress.supernets.checkpoint import load_checkpoint
    from nas_compress.weights import read_state

    if isinstance(net, BertSupernet):
        state = net.from_published(read_state(checkpoint))
        if not any(key.startswith("head.out.") for key in state):
            net.load_encoder(checkpoint)
            return
    load_checkpoint(net, checkpoint)


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ConfigError(f"values: {name} is {value!r:.60}; wants a number")
    return {name: float(value) for name, value in values.items()}


def structure_path(results_csv_path: Path) -> Path:
    """Return where a search writes its best structure: beside its results table."""
    return results_csv_path.with_name(f"{results_csv_path.stem}.best_structure.json")
