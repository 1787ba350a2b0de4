"""Write docs/configuration.md from the schema: `python docs/make_configuration.py`."""

from __future__ import annotations

import typing
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from nas_compress.approaches import OPTIONS, BasicConfig, SupernetSearch
from nas_compress.compression.options import AccuracyCriterion, PruneTraining, TuningCriterion
from nas_compress.config import NASConfig, SearchConfig
from nas_compress.objectives.config import LatencyConfig, TimingConfig
from nas_compress.option_values import AlgorithmOptions
from nas_compress.recipe import STEP_NAMES, Recipe, Step
from nas_compress.recipe.steps import BenchmarkLatency, StepLatency
from nas_compress.settings import models_in
from nas_compress.supernets.precision_config import PrecisionConfig
from nas_compress.training.config import AugmentConfig, StageOptions

PAGE = Path(__file__).with_name("configuration.md")

HEAD = """# Configuration reference

Generated from the schema by `python docs/make_configuration.py`; do not edit.

A **search config** says what a search is to do (`nas-compress search CONFIG`, `NASConfig` in Python). A **recipe** is a
list of compression steps, a search among them (`nas-compress compress RECIPE`). `nas-compress init` copies
templates of both, and `nas-compress schema search|recipe` prints their JSON schemas for editors. An unknown key or a
wrong value is an error that names the line, the field and what is allowed.
"""

SEARCH = """## Search config

The layout is that of Intel Neural Compressor 2.x, whose files load unchanged; its other top-level sections (`model`,
`train`, ...) are ignored with a warning.

```yaml
nas:
  approach: dynas
  search:
    search_algorithm: nsga2
    seed: 42
  dynas:
    supernet: ofa_mbv3_d234_e346_k357_w1.2
    metrics: [acc, macs]
    population: 50
    num_evals: 250
    dataset_path: /datasets/imagenet-ilsvrc2012
```

In Python the sections are attributes (`config.dynas.population = 50`), and those of `search` are attributes of the
config as well (`config.seed = 7`).
"""

RECIPE = """## Recipe

```yaml
supernet: digits_mbv3
steps:
  - train_supernet: {epochs: 60}
  - nas: {metrics: [acc, macs, latency], num_evals: 80, population: 20}
  - select: {maximize: acc, constraints: {latency: <= 0.5 x largest}}
  - quantize
  - export
  - benchmark
```

A step without options is its name alone. Which orders make sense: [compression.md](compression.md). The steps: """


def render() -> str:
    """Return the page."""
    parts = [HEAD, SEARCH]
    parts += [_section("`nas`", NASConfig), _section("`nas.search`", SearchConfig)]
    shared = ", ".join(f"`nas.{name}`" for name in OPTIONS)
    parts.append(_section(f"{shared}: what they share", SupernetSearch))
    for name, options in OPTIONS.items():
        section = next(models_in(NASConfig.model_fields[name].annotation))
        parts.append(_section(f"`nas.{name}`", section, leave_out=_shared(section), about=options))
    parts.append(_section("`nas.basic`", BasicConfig))
    shared = "`latency` of a section, of a recipe, of the `nas` and of the `benchmark` step"
    parts.append(_section(shared, TimingConfig))
    besides = "`latency` of a section and of the `nas` step, besides"
    parts.append(_section(besides, LatencyConfig, leave_out=TimingConfig.model_fields))
    parts.append(_section("`precision` of a section and of the `nas` step", PrecisionConfig))
    parts.append(_section("`algorithm_options` of a section and of the `nas` step", AlgorithmOptions))
    parts.append(RECIPE + ", ".join(f"`{name}`" for name in STEP_NAMES) + ".\n")
    parts.append(_section("Top level", Recipe))
    parts.append(_section("`latency` of the top level, besides", StepLatency, leave_out=TimingConfig.model_fields))
    for name in STEP_NAMES:
        parts.append(_section(f"`{name}`", next(models_in(Step.model_fields[name].annotation))))
    alike = TimingConfig.model_fields.keys() - {"threads"}
    parts.append(_section("`latency` of the `benchmark` step: where it differs", BenchmarkLatency, leave_out=alike))
    parts.append(_section("`training` of the `prune` step", PruneTraining))
    parts.append(_section("`accuracy_criterion` of the `quantize` step", AccuracyCriterion))
    parts.append(_section("`tuning_criterion` of the `quantize` step", TuningCriterion))
    parts.append(_section("`augment` of the steps that train", AugmentConfig))
    parts.append(_section("Each of the `stages` of `train_supernet`", StageOptions))
    return "\n".join(parts)


def _shared(section: type[BaseModel]) -> set[str]:
    """Return the keys of a section that are to it what they are to all."""
    fields = SupernetSearch.model_fields.items()
    return {name for name, field in fields if _row(name, field) == _row(name, section.model_fields[name])}


def _section(
    title: str, model: type[BaseModel], leave_out: Collection[str] = (), about: type[BaseModel] | None = None
) -> str:
    summary = ((about or model).__doc__ or "").strip().partition("\n\n")[0]
    fields = {name: field for name, field in model.model_fields.items() if name not in leave_out}
    lines = [f"### {title}", "", summary, ""]
    if fields:
        lines += ["| Key | Type | Default | Meaning |", "|---|---|---|---|"]
        lines += [_row(name, field) for name, field in fields.items()]
        lines.append("")
    return "\n".join(lines)


def _row(name: str, field: FieldInfo) -> str:
    meaning = (field.description or "").rstrip(".")
    cells = [f"`{name}`", _type(field), _default(field), f"{meaning}."]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(field: FieldInfo) -> str:
    bounds = ", ".join(_bounds(field.metadata))
    return _name(field.annotation) + (f" ({bounds})" if bounds else "")


def _bounds(metadata: list[Any]) -> Iterator[str]:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    found = {key: getattr(item, key) for item in metadata for key in signs if getattr(item, key, None) is not None}
    for key, value in found.items():
        yield f"{signs[key]} {value:g}"


def _name(annotation: Any) -> str:
    """Return a type as a YAML user would call it."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is typing.Annotated:
        return _name(arguments[0])
    if origin is list:
        return f"list of {_name(arguments[0])}"
    if origin is tuple:
        return f"list of {len(arguments)} {_name(arguments[0])}s"
    if origin is dict:
        return f"mapping of {_name(arguments[0])} to {_name(arguments[1])}"
    if arguments:
        return " or ".join(_name(argument) for argument in arguments)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    words = {
        Any: "value",
        int: "integer",
        float: "number",
        str: "text",
        bool: "boolean",
        Path: "path",
        type(None): "null",
    }
    return words[annotation]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined or isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, dict) and not value:
        return "`{}`"
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    words = {"None": "null", "True": "true", "False": "false"}
    return f"`{words.get(str(value), value)}`"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
