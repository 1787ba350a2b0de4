"""The names that configs and recipes can use, for the command line."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from nas_compress.documents import template_text
from nas_compress.recipe import Step
from nas_compress.registry import Entry
from nas_compress.supernets.trained import is_remote


class Topic(StrEnum):
    """What `list` shows."""

    supernets = "supernets"
    data = "data"
    objectives = "objectives"
    strategies = "strategies"
    predictors = "predictors"
    proxies = "proxies"
    backends = "backends"
    steps = "steps"
    templates = "templates"


def names(topic: Topic) -> dict[str, str]:
    """Return the names of a topic with a line on each."""
    from nas_compress.backends import backends
    from nas_compress.data import data_sources
    from nas_compress.objectives import objectives
    from nas_compress.predictors import predictors
    from nas_compress.proxies import proxies
    from nas_compress.search import strategies
    from nas_compress.supernets import supernets

    if topic is Topic.steps:
        return {name: field.description or "" for name, field in Step.model_fields.items()}
    if topic is Topic.templates:
        return _templates()
    registries: dict[Topic, Any] = {
        Topic.supernets: supernets,
        Topic.data: data_sources,
        Topic.objectives: objectives,
        Topic.strategies: strategies,
        Topic.predictors: predictors,
        Topic.proxies: proxies,
        Topic.backends: backends,
    }
    registry = registries[topic]
    lines = {name: _summary(registry.entry(name)) for name in registry}
    if topic is Topic.supernets:
        return {name: line + _weights(supernets.entry(name)) for name, line in lines.items()}
    return lines


def _summary(entry: Entry) -> str:
    options = entry.info.get("options", {})
    return entry.summary + (f"; options: {', '.join(options)}" if options else "")


def _weights(entry: Entry) -> str:
    """Return where a super-network has trained weights from, if it has any."""
    address = entry.info.get("weights")
    if address is None:
        return ""
    return "; trained weights: " + ("published" if is_remote(address) else "in the package")


def _templates() -> dict[str, str]:
    """Return the first line of each template, a comment that says what it is."""
    from nas_compress.documents import template_names

    return {name: template_text(name).partition("\n")[0].lstrip("# ") for name in template_names()}
