"""What figures were measured on, in words: a number is worth little without it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from nas_compress.report.comparison import batch_and_threads, everywhere
from nas_compress.tasks import quality_of

Entry = Mapping[str, Any]

CLOCKS = {
    "cpu": "CPU time of the computing thread, which stands in where the machine was too busy for undisturbed runs",
    "disturbed wall": "wall time of runs that other programs disturbed, too high: the machine was too busy",
}
"""What a latency is where it is not the wall time of undisturbed runs, by `LatencyStats.clock`."""

_PARTS = {"train": "training", "val": "search-validation", "test": "test"}
_COUNTED = ("images", "sentences", "questions", "utterances")
_HASHES = {"checkpoint", "data", "supernet", "table"}
_IN_BACKEND = {"backend", "batch_size", "hardware", "threads", "versions"}


def artefact_conditions(artefacts: Sequence[Entry]) -> list[str]:
    """Return what the figures of exported files were measured on, a line per group of files that share it.

    Args:
        artefacts: Entries of `report.json`.
    """
    lines = [
        f"{title}{_of(names, artefacts)}: {count} test {counted} that neither training nor search saw, "
        "± one standard error."
        for (title, count, counted), names in _groups(artefacts, measured_on)
    ]
    timed = [entry for artefact in artefacts for entry in everywhere(artefact)]
    for how, names in _groups(timed, _how_timed):
        (clock, where), runs = how, min(entry["latency"]["runs"] for entry in timed if _how_timed(entry) == how)
        count = f"{runs} runs" if len(names) == 1 else f"{runs} runs or more"
        explained = "" if clock == "wall" else f" ({clock}): {CLOCKS[clock]}."
        lines.append(f"Latency{_of(names, artefacts)}: median of {count} ± one standard error; {where}.{explained}")
    return lines


def _how_timed(entry: Entry) -> tuple[str, str]:
    return entry["latency"]["clock"], backend_text(entry["context"])


def measured_on(entry: Entry) -> tuple[str, int, str]:
    """Return what the figure of quality of a measured file is called, and how many of what it was measured on."""
    quality = quality_of(entry)
    counted = next(kind for kind in _COUNTED if kind in entry[quality.name])
    return quality.title[0].upper() + quality.title[1:], entry[quality.name][counted], counted


def _groups(artefacts: Sequence[Entry], key: Callable[[Entry], Any]) -> list[tuple[Any, list[str]]]:
    """Return the distinct keys in order, each with the names of the entries that have it."""
    found: dict[Any, list[str]] = {}
    for entry in artefacts:
        found.setdefault(key(entry), []).append(entry["name"])
    return list(found.items())


def _of(names: Sequence[str], artefacts: Sequence[Entry]) -> str:
    return "" if len(names) == len(artefacts) else f" of {', '.join(names)}"


def backend_text(context: Entry) -> str:
    """Return backend, versions, batch, threads and hardware of a context, in words."""
    hardware = context["hardware"]
    software = ", ".join(f"{name} {version}" for name, version in context["versions"].items())
    parts = [f"{context['backend']} ({software})", batch_and_threads(context)]
    parts += [context["precision"]] if "precision" in context else []
    if "inputs" in context:
        parts.append(f"inputs {', '.join('x'.join(map(str, shape)) for shape in context['inputs'])}")
    return ", ".join([*parts, f"{hardware['cpu']} ({hardware['cores']} cores)", hardware["os"]])


def objective_conditions(contexts: Mapping[str, Entry]) -> list[str]:
    """Return what the values of a search were measured on, a line per objective; none for what is computed exactly.

    Args:
        contexts: By objective, as in `SearchResult.provenance["contexts"]`.
    """
    texts = {name: context_text(context) for name, context in contexts.items()}
    return [f"{name}: {text}." for name, text in texts.items() if text]


def context_text(context: Entry) -> str:
    """Return, in words, what an objective's values were measured on; empty where the architecture alone decides."""
    return "; ".join(_phrases(context))


def _phrases(context: Entry) -> Iterator[str]:
    told = set(_HASHES)
    kind = next((kind for kind in _COUNTED if kind in context), None)
    if kind is not None and context.keys() >= {"dataset", "split"}:
        told |= {kind, "dataset", "split"}
        part = _PARTS.get(context["split"], context["split"])
        yield f"{context[kind]} {part} {kind} of {context['dataset']}, ± one standard error"
    if "calibration_images" in context:
        told.add("calibration_images")
        yield f"BN recalibrated on up to {context['calibration_images']} training images"
    if context.keys() >= _IN_BACKEND:
        told |= _IN_BACKEND | {"precision"}
        yield f"median, ± one standard error; {backend_text(context)}"
    for name in (name for name in context if name not in told):
        value = context[name]
        yield f"{name} {value if isinstance(value, str) else json.dumps(value)}"
