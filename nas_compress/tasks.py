"""What recipes must know of each task without importing torch: how its networks are judged, what they cannot do.

How data, measuring and files work in each is `compression/domains.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Quality:
    """The figure that says how well a network does its task.

    Attributes:
        name: What it is called in records and conditions: `"accuracy"`, `"wer"`.
        objective: The registered objective that searches optimise.
        title: What it is called in texts.
        unit: `"%"`, or empty.
        direction: `"maximize"` or `"minimize"`.
    """

    name: str
    objective: str
    title: str
    unit: Literal["%", ""] = "%"
    direction: Literal["maximize", "minimize"] = "maximize"

    @property
    def loss(self) -> str:
        """What becoming worse is called in conditions: `"accuracy drop"`, `"wer rise"`."""
        return f"{self.name} {'drop' if self.direction == 'maximize' else 'rise'}"

    @property
    def header(self) -> str:
        """Title and unit, for a table."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def lost(self, before: float, after: float) -> float:
        """Return by how many points a network is worse than before; below 0 where it is better."""
        return before - after if self.direction == "maximize" else after - before


QUALITIES: Mapping[str, Quality] = {
    quality.name: quality
    for quality in (
        Quality("accuracy", "acc", "accuracy"),
        Quality("f1", "f1", "F1"),
        Quality("bleu", "bleu", "BLEU", unit=""),
        Quality("wer", "wer", "WER", direction="minimize"),
    )
}
"""All of them, by their names in records."""


def quality_of(entry: Mapping[str, Any]) -> Quality:
    """Return what the figures of a measured file tell of quality: accuracy, unless they say something else."""
    return QUALITIES[entry.get("metric", "accuracy")]


@dataclass(frozen=True)
class Task:
    """What networks are for.

    Attributes:
        name: As the registries of super-networks and of data have it.
        quality: How networks are judged.
        counted: What quality is measured on, in the plural.
        no_onnx: Why networks are not written as one ONNX file; None where they are.
        refused: The steps that a recipe cannot have, with the reason.
        quantized: The approaches to quantization that there are, by ONNX Runtime where there are no images.
    """

    name: str
    quality: Quality
    counted: str
    no_onnx: str | None = None
    refused: Mapping[str, str] = field(default_factory=dict)
    quantized: tuple[str, ...] = ("static", "dynamic")


_PRUNE = {"prune": "removes channels of networks that take images"}
_QUANTIZE = {"quantize": "quantizes ONNX files, which there are none of"}

_APPROACHES = ("static", "dynamic", "smoothquant", "mixed_precision")

TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task("images", QUALITIES["accuracy"], "images", quantized=_APPROACHES),
        Task("text", QUALITIES["accuracy"], "sentences", refused=_PRUNE),
        Task("questions", QUALITIES["f1"], "questions", refused=_PRUNE),
        Task(
            "translation",
            QUALITIES["bleu"],
            "sentences",
            no_onnx="a translation comes token by token out of what was computed before, which is no single pass",
            refused=_PRUNE | _QUANTIZE,
        ),
        # Masks of attention are infinite numbers there, for which static quantization finds no range.
        Task("speech", QUALITIES["wer"], "utterances", refused=_PRUNE, quantized=("dynamic",)),
    )
}
"""All of them, by name."""


def task_of(supernet: str) -> Task:
    """Return the task of a registered super-network; images for an unknown name or task, which checks report."""
    from nas_compress.supernets import supernets

    info = supernets.entry(supernet).info if supernet in supernets else {}
    return TASKS.get(info.get("task", "images"), TASKS["images"])
