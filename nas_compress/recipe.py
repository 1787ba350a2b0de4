"""The schema of a recipe: an ordered list of compression steps around a search."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from nas_compress import checks, search_checks
from nas_compress.approaches import (
    Approach,
    ConcurrentOptions,
    Constraints,
    DynasOptions,
    EvolutionaryOptions,
    FullOptions,
    SearchOptions,
    approaches_with,
)
from nas_compress.config import NASConfig
from nas_compress.documents import read_document, resolve_template, write_document
from nas_compress.errors import ConfigError, suggest
from nas_compress.objectives.config import TimingConfig
from nas_compress.settings import (
    Count,
    FilePath,
    Location,
    Problem,
    Seed,
    Settings,
    Source,
    config_error,
    problems_of,
)
from nas_compress.training.config import FinetuneOptions, SupernetTrainOptions


class TrainSupernetStep(SupernetTrainOptions):
    """Train the super-network: several sub-networks a step, distilled from the largest one."""

    where: ClassVar[Location] = ("train_supernet",)


class NasStep(ConcurrentOptions, FullOptions, DynasOptions, EvolutionaryOptions):
    """Search the super-network; the options of the approaches stand side by side, those of others are refused."""

    where: ClassVar[Location] = ("nas",)

    approach: Approach = Field("dynas", description="How to search.")
    search_algorithm: str | None = Field(None, description="Algorithm; null for the approach's default.")
    search_space: dict[str, list[int | float]] | None = Field(
        None, description="Restriction of the super-network's space: legal values per elastic dimension or gene."
    )

    @model_serializer(mode="wrap")
    def _without_idle_options(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what other approaches have and what stands at the approach's default, so that it reads back."""
        idle = {n for n in self._of_approaches() if n not in self.model_fields_set}
        return {name: value for name, value in serialize(self).items() if name not in idle}

    def _of_approaches(self) -> list[str]:
        """Return the options that not all approaches have."""
        return [n for n in type(self).model_fields if approaches_with(n) and n not in SearchOptions.model_fields]

    def section(self) -> dict[str, Any]:
        """Return the options of the approach's section, as far as they are set."""
        fields = [n for n in type(self).model_fields if self.approach in approaches_with(n)]
        return {n: getattr(self, n) for n in fields if n in SearchOptions.model_fields or n in self.model_fields_set}


class SelectStep(Settings):
    """Choose one architecture of the search's result: the best in one objective under constraints on others."""

    where: ClassVar[Location] = ("select",)

    constraints: Constraints = Field(
        default_factory=dict, description="Limits per metric: `<= 2 ms`, `>= 97 %`, `<= 0.4 x largest`, or a list."
    )
    maximize: str | None = Field(None, description="The metric to maximize; `acc` where neither is given.")
    minimize: str | None = Field(None, description="The metric to minimize, instead of `maximize`.")

    @property
    def goal(self) -> tuple[Literal["maximize", "minimize"], str]:
        """The direction and the metric to choose by."""
        return ("minimize", self.minimize) if self.minimize else ("maximize", self.maximize or "acc")


class FinetuneStep(FinetuneOptions):
    """Train the chosen sub-network alone, the largest one as its teacher."""

    where: ClassVar[Location] = ("finetune",)

    teacher: Literal["largest"] | None = Field(
        "largest", description="The network whose soft outputs are learnt as well; null for labels alone."
    )


class QuantizeStep(Settings):
    """Static int8 quantization with real calibration images."""

    where: ClassVar[Location] = ("quantize",)

    engine: Literal["onnxruntime", "inc"] = Field(
        "onnxruntime", description="`onnxruntime` makes an ONNX file, `inc` a PyTorch module (Intel Neural Compressor)."
    )
    calibration_images: Count = Field(256, description="Training images to calibrate on.")
    method: Literal["minmax", "entropy", "percentile"] = Field(
        "minmax", description="How activation ranges are found (engine `onnxruntime`)."
    )
    per_channel: bool = Field(True, description="One scale per output channel of a weight (engine `onnxruntime`).")
    exclude: list[str] = Field(
        default_factory=list, description="ONNX nodes that stay in fp32, by name (engine `onnxruntime`)."
    )

    onnxruntime_only: ClassVar[frozenset[str]] = frozenset({"method", "per_channel", "exclude"})

    @model_serializer(mode="wrap")
    def _without_idle_options(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the defaults of what the engine does not know, so that a recipe that is written reads back."""
        idle = self.onnxruntime_only - self.model_fields_set if self.engine == "inc" else frozenset()
        return {name: value for name, value in serialize(self).items() if name not in idle}


Format = Literal["onnx", "safetensors"]


def _all_formats() -> list[Format]:
    return ["onnx", "safetensors"]


class ExportStep(Settings):
    """Write the files."""

    where: ClassVar[Location] = ("export",)

    formats: Annotated[list[Format], Field(min_length=1)] = Field(
        default_factory=_all_formats, description="Files to write for each network."
    )


class BenchmarkStep(Settings):
    """Measure the exported files again, on test images that neither training nor search saw."""

    where: ClassVar[Location] = ("benchmark",)

    batch_size: Count = Field(1, description="Batch size at which latency is measured.")
    eval_batch_size: Count = Field(256, description="Batch size for accuracy.")
    latency: TimingConfig = Field(default_factory=TimingConfig, description="How latency is measured.")


StepOptions = TrainSupernetStep | NasStep | SelectStep | FinetuneStep | QuantizeStep | ExportStep | BenchmarkStep


class Step(Settings):
    """One step: a mapping of its name to its options, or the name alone for the defaults."""

    train_supernet: TrainSupernetStep | None = Field(None, description="Train the super-network.")
    nas: NasStep | None = Field(None, description="Search it.")
    select: SelectStep | None = Field(None, description="Choose an architecture.")
    finetune: FinetuneStep | None = Field(None, description="Train the chosen sub-network alone.")
    quantize: QuantizeStep | None = Field(None, description="Quantize it to int8.")
    export: ExportStep | None = Field(None, description="Write the files.")
    benchmark: BenchmarkStep | None = Field(None, description="Measure the files again.")

    @model_validator(mode="before")
    @classmethod
    def _one_step(cls, data: Any) -> Any:
        """Turn `export` and `export:` into `export: {}`, and see that there is one key."""
        if isinstance(data, str):
            if data not in cls.model_fields:
                raise ValueError(f"unknown step {data!r}{suggest(data, cls.model_fields)}; {_known_steps()}")
            return {data: {}}
        if not isinstance(data, dict):
            return data
        if len(data) != 1:
            raise ValueError(f"a step has one name, got {', '.join(map(str, data)) or 'none'}; start each with '- '")
        name, options = next(iter(data.items()))
        if name not in cls.model_fields:
            raise ValueError(f"unknown step {name!r}{suggest(str(name), cls.model_fields)}; {_known_steps()}")
        return {name: {} if options is None else options}

    @property
    def name(self) -> str:
        """The step's name, such as `"nas"`."""
        return next(name for name in type(self).model_fields if getattr(self, name) is not None)

    @property
    def options(self) -> StepOptions:
        """The step's options."""
        options: StepOptions = getattr(self, self.name)
        return options


STEP_NAMES: tuple[str, ...] = tuple(Step.model_fields)
"""All steps, in the order in which they may stand in a recipe."""


def _known_steps() -> str:
    return f"known: {', '.join(Step.model_fields)}"


_NEEDS = {
    "select": ("nas", "it chooses from the search's result"),
    "finetune": ("select", "it trains the chosen sub-network"),
    "quantize": ("select", "it quantizes the chosen sub-network"),
    "export": ("select", "it writes the chosen sub-network"),
    "benchmark": ("export", "it measures the exported files"),
}
_BEFORE = {
    ("train_supernet", "nas"): "the search needs the trained weights",
    ("finetune", "quantize"): "int8 weights cannot be trained",
    ("quantize", "export"): "the quantized network is exported too",
}


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
    seed: Seed = Field(42, description="Seed of every random choice.")
    output: FilePath | None = Field(None, description="Folder for everything; null for `outputs/NAME`.")
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

    def step(self, name: str) -> StepOptions | None:
        """Return the options of a step, or None where the recipe does not have it."""
        return next((step.options for step in self.steps if step.name == name), None)

    def nas_config(self, results_csv_path: Path) -> NASConfig:
        """Return the `nas` step as a search config.

        Raises:
            ConfigError: The recipe has no `nas` step.
        """
        options = self.step("nas")
        if not isinstance(options, NasStep):
            raise ConfigError("the recipe has no 'nas' step")
        section = options.section()
        for name in ("supernet", "supernet_ckpt_path", "dataset", "dataset_path"):
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
        yield from _order_problems([step.name for step in self.steps])
        for index, step in enumerate(self.steps):
            yield from self._step_problems(step.options, ("steps", index, step.name))
        yield from self._shared_problems()

    def _shared_problems(self) -> Iterator[Problem]:
        if problems := list(checks.network_problems(self.supernet, ())):
            yield from problems
            return
        yield from checks.supernet_problems(self.supernet, [], ())
        yield from checks.dataset_problems(self, ())
        yield from checks.results_path_problems(self.folder / "report.json", ("output",))
        if self.step("train_supernet") is not None:
            if self.supernet_ckpt_path is not None:
                yield Problem(("supernet_ckpt_path",), "is given, and a step trains the weights; remove one of the two")
        else:
            yield from checks.weights_problems(self, ())

    def _step_problems(self, options: StepOptions, here: Location) -> Iterator[Problem]:
        if isinstance(options, NasStep):
            metrics = checks.supernet_problems(self.supernet, options.measured, here, options.limited)
            yield from (problem for problem in metrics if problem.location[-1] != "supernet")
            yield from search_checks.option_problems(options, options.approach, here)
            yield from search_checks.strategy_problems(options, options.approach, options.search_algorithm, here, here)
            yield from search_checks.search_problems(options, options.approach, here)
            yield from checks.space_problems(self.supernet, options.search_space, (*here, "search_space"))
            yield from search_checks.warm_start_problems(options, self.supernet, options.search_space, here)
        elif isinstance(options, SelectStep):
            nas = self.step("nas")
            yield from checks.select_problems(options, nas.measured if isinstance(nas, NasStep) else None, here)
        elif isinstance(options, BenchmarkStep):
            yield from checks.timing_problems(options.latency, (*here, "latency"))
        elif isinstance(options, QuantizeStep):
            yield from checks.quantize_problems(options, here)
        elif isinstance(options, TrainSupernetStep):
            if options.sampler == "sandwich" and options.subnets_per_step < 2:
                yield Problem((*here, "subnets_per_step"), "1 is not allowed; the sandwich rule wants at least 2")
        elif isinstance(options, ExportStep):
            quantize = self.step("quantize")
            onnx = isinstance(quantize, QuantizeStep) and quantize.engine == "onnxruntime"
            if "onnx" not in options.formats and (onnx or self.step("benchmark") is not None):
                yield Problem(
                    (*here, "formats"), f"{options.formats} lacks 'onnx', which other steps of the recipe need"
                )


def _order_problems(names: list[str]) -> Iterator[Problem]:
    for index, name in enumerate(names):
        before = names[:index]
        here: Location = ("steps", index)
        if name in before:
            yield Problem(here, f"a second {name!r} step (the first is steps[{before.index(name)}]); give it once")
            continue
        for (first, later), reason in _BEFORE.items():
            if name == first and later in before:
                yield Problem(here, f"{first!r} stands after {later!r}; move it before: {reason}")
        needed, reason = _NEEDS.get(name, (None, ""))
        if needed is not None and needed not in before:
            found = "comes later" if needed in names else "is missing"
            yield Problem(here, f"{name!r} needs a {needed!r} step before it ({reason}), which {found}")
