"""The schema of a recipe: an ordered list of compression steps around a search."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PrivateAttr, ValidationError

from nas_compress import checks
from nas_compress.config import NASConfig
from nas_compress.documents import read_document, resolve_template, write_document
from nas_compress.errors import ConfigError
from nas_compress.option_values import Plain
from nas_compress.recipe.checks import space_problems, step_problems, task_problems
from nas_compress.recipe.order import order_problems, training_problems
from nas_compress.recipe.steps import (
    STEP_NAMES,
    ExportStep,
    NasStep,
    QuantizeStep,
    SelectStep,
    Step,
    StepLatency,
    StepOptions,
    labels,
)
from nas_compress.search_checks import registered_space
from nas_compress.settings import FilePath, Location, Problem, Seed, Settings, Source, config_error, problems_of
from nas_compress.tasks import task_of


class Recipe(Settings):
    """An ordered list of compression steps around a super-network.

    Raises:
        ConfigError: A key or a value is wrong; the message names it and what is allowed.
    """

    name: str = Field("recipe", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Name of the recipe.")
    supernet: str = Field(description="The super-network: a name of `nas-compress list supernets`.")
    supernet_ckpt_path: FilePath | None = Field(None, description="Trained weights, where no step trains them.")
    dataset: str | None = Field(
        None, description="A name of `nas-compress list data`; null for the one the super-network is meant for."
    )
    dataset_path: FilePath | None = Field(None, description="Folder of the dataset, where it has files.")
    dataset_options: dict[str, Plain] = Field(
        {}, description="Options of the dataset, such as `tokenizer` of `sentences`; `nas-compress list data` has them."
    )
    seed: Seed = Field(42, description="Seed of every random choice.")
    output: FilePath | None = Field(None, description="Folder for everything; null for `outputs/NAME`.")
    latency: StepLatency = Field(
        default_factory=StepLatency,
        description="How the latency of each step's network is measured, before and after it.",
    )
    steps: Annotated[list[Step], Field(min_length=1)] = Field(description="The steps, in order.")

    _source: Source | None = PrivateAttr(None)

    def __eq__(self, other: object) -> bool:
        """Equal settings make equal recipes, wherever they were read from."""
        return isinstance(other, Recipe) and self.model_dump() == other.model_dump()

    @classmethod
    def from_yaml(cls, name_or_path: str | Path) -> Recipe:
        """Read a recipe: a template's name or a file's path.

        Raises:
            ConfigError: The file or something in it is wrong; every problem is listed with its line.
        """
        path = resolve_template(name_or_path)
        data, source = read_document(path)
        if "nas" in data and "steps" not in data:
            raise ConfigError(
                f"{path} is a search config (it has 'nas' at the top), not a recipe; nas-compress search runs it"
            )
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).lstrip("._-") or "recipe"
        recipe = cls.parse({"name": name, **data}, (), source)
        recipe._source = source
        return recipe

    def to_yaml(self, path: str | Path) -> None:
        """Write the recipe with every option, defaults included.

        Raises:
            ConfigError: The file cannot be written.
        """
        write_document(self.to_dict(), path)

    def to_dict(self) -> dict[str, Any]:
        """Return the YAML file's content as plain data."""
        data = self.model_dump(mode="json", warnings=False, exclude={"steps"})
        data["steps"] = [{step.name: step.options.model_dump(mode="json", warnings=False)} for step in self.steps]
        return data

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """Return the JSON schema of the YAML file, for editors."""
        schema = cls.model_json_schema()
        schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
        mapping = schema["$defs"]["Step"]
        mapping.update(minProperties=1, maxProperties=1)
        schema["$defs"]["Step"] = {"anyOf": [{"enum": list(STEP_NAMES)}, mapping]}
        schema["title"] = "nas-compress recipe"
        return schema

    @property
    def folder(self) -> Path:
        """The folder that everything is written to."""
        return self.output or Path("outputs") / self.name

    def files(self) -> Iterator[tuple[Location, Path]]:
        """Yield the files and folders that the recipe names to be read, and where it does."""
        for name in ("supernet_ckpt_path", "dataset_path"):
            if (path := getattr(self, name)) is not None:
                yield (name,), path
        for index, step in enumerate(self.steps):
            yield from _paths(step.options.model_dump(), ("steps", index, step.name))

    def is_read_from(self, path: Path) -> bool:
        """Return whether a file is the one that the recipe itself was read from."""
        return self._source is not None and self._source.path.resolve() == path.resolve()

    def labelled(self) -> list[tuple[str, Step]]:
        """Return the steps with what they are called in records: `prune`, and `prune_2` where there is a second one."""
        return list(zip(labels([step.name for step in self.steps]), self.steps, strict=True))

    def step(self, name: str) -> StepOptions | None:
        """Return the options of a step (the first of that name), or None where the recipe does not have it."""
        return next((step.options for step in self.steps if step.name == name), None)

    @property
    def search(self) -> NasStep | None:
        """The search that the architecture is chosen from; None where there is none, or `select` names one."""
        nas, select = self.step("nas"), self.step("select")
        named = isinstance(select, SelectStep) and select.architecture is not None
        return nas if isinstance(nas, NasStep) and not named else None

    @property
    def untrained(self) -> bool:
        """Whether sub-networks have random weights until a step trains one.

        So it is after a search by `denas`, which looks at no weights, where none are named, registered, or trained by a
        step.
        """
        nas = self.step("nas")
        if not isinstance(nas, NasStep) or nas.approach != "denas" or checks.needs_data(nas.measured):
            return False
        if self.step("train_supernet") is not None or self.supernet_ckpt_path is not None:
            return False
        from nas_compress.supernets import supernets

        return self.supernet in supernets and supernets.entry(self.supernet).info.get("weights") is None

    @property
    def loads_weights(self) -> bool:
        """Whether trained weights come from elsewhere: a file that is named, or what the registry has."""
        return self.step("train_supernet") is None and not self.untrained

    def nas_config(self, results_csv_path: Path) -> NASConfig:
        """Return the `nas` step as a search config.

        Raises:
            ConfigError: The recipe has no `nas` step.
        """
        options = self.step("nas")
        if not isinstance(options, NasStep):
            raise ConfigError("the recipe has no 'nas' step")
        section = options.section()
        for name in ("supernet", "supernet_ckpt_path", "dataset", "dataset_path", "dataset_options"):
            section[name] = getattr(self, name)
        section["results_csv_path"] = results_csv_path
        search = {
            "search_algorithm": options.search_algorithm,
            "search_space": options.search_space,
            "seed": self.seed,
        }
        return NASConfig.parse({"approach": options.approach, "search": search, options.approach: section})

    def check(self) -> None:
        """Check what no single field shows: the order of the steps, names, files, metrics.

        Takes well under a second and imports no deep-learning library, so it comes before any work.

        Raises:
            ConfigError: Everything that is wrong, one problem a line.
        """
        problems = list(self._problems())
        if problems:
            raise config_error(problems, self._source)

    def _problems(self) -> Iterator[Problem]:
        try:  # lists may have been changed in place, which assignment does not see
            type(self).model_validate(self.to_dict())
        except ValidationError as error:
            yield from problems_of(error, type(self))
            return
        yield from order_problems(self.steps)
        yield from checks.timing_problems(self.latency, ("latency",))
        for index, step in enumerate(self.steps):
            yield from step_problems(step.options, ("steps", index, step.name), self.supernet, self.search)
        if (space := registered_space(self.supernet)) is not None:
            yield from space_problems(self.steps, space)
        yield from self._format_problems()
        yield from self._written_problems()
        yield from self._shared_problems()

    def _written_problems(self) -> Iterator[Problem]:
        """Yield a problem for each file that is to be read and that a step writes over."""
        for location, path in self.files():
            folder, file = self.folder.resolve(), path.resolve()
            step = _WRITERS.get(file.relative_to(folder).parts[0]) if folder in file.parents else None
            if step is not None and self.step(step) is not None:
                reason = f"{str(path)!r} is what the {step} step of this recipe writes; give a copy, or another output"
                yield Problem(location, reason)

    def _shared_problems(self) -> Iterator[Problem]:
        if problems := list(checks.network_problems(self.supernet, (), untrained=self.untrained)):
            yield from problems
            return
        yield from checks.supernet_problems(self.supernet, [], ())
        yield from checks.dataset_problems(self, ())
        yield from task_problems(task_of(self.supernet), self.steps)
        yield from checks.results_path_problems(self.folder / "report.json", ("output",))
        if self.step("train_supernet") is not None:
            if self.supernet_ckpt_path is not None:
                yield Problem(("supernet_ckpt_path",), "is given, and a step trains the weights; remove one of the two")
        elif self.untrained:
            yield from training_problems(self.steps)
        else:
            yield from checks.weights_problems(self, ())

    @property
    def _quantizes_to_onnx(self) -> bool:
        quantize = self.step("quantize")
        if not isinstance(quantize, QuantizeStep):
            return False
        searched = None if self.search is None else self.search.precision
        return (quantize if searched is None else searched).engine == "onnxruntime"

    def _format_problems(self) -> Iterator[Problem]:
        """Yield a problem where a step needs an ONNX file that the `export` step does not write."""
        if task_of(self.supernet).no_onnx is not None:
            return
        for index, step in enumerate(self.steps):
            if not isinstance(step.options, ExportStep) or "onnx" in step.options.formats:
                continue
            if self._quantizes_to_onnx or self.step("benchmark") is not None:
                yield Problem(
                    ("steps", index, "export", "formats"),
                    f"{step.options.formats} lacks 'onnx', which other steps of the recipe need",
                )


_WRITERS = {"search_results.csv": "nas", "search_results.jsonl": "nas", "models": "export"}
"""What steps write into the output folder under the same name whatever they make, by its first part."""


def _paths(value: Any, location: Location) -> Iterator[tuple[Location, Path]]:
    if isinstance(value, Path):
        yield location, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, each in items:
        yield from _paths(each, (*location, key))
