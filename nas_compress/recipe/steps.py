"""The steps of a recipe and their options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from nas_compress.approaches import (
    Approach,
    ConcurrentOptions,
    DenasOptions,
    DynasOptions,
    EvolutionaryOptions,
    FullOptions,
    SearchOptions,
    approaches_with,
)
from nas_compress.compression.options import DistillStepOptions, PruneOptions, QuantizeOptions
from nas_compress.config import Choices
from nas_compress.denas_keys import translated
from nas_compress.errors import suggest
from nas_compress.objectives.config import TimingConfig
from nas_compress.option_values import Constraints
from nas_compress.recipe.conditions import ConditionText, parse_condition
from nas_compress.settings import Count, Location, Settings, show
from nas_compress.space import Value
from nas_compress.tasks import QUALITIES
from nas_compress.training.config import FinetuneOptions, SupernetTrainOptions


class TrainSupernetStep(SupernetTrainOptions):
    """Train the super-network: several sub-networks a step, distilled from the largest one."""

    where: ClassVar[Location] = ("train_supernet",)


class NasStep(ConcurrentOptions, FullOptions, DynasOptions, EvolutionaryOptions, DenasOptions):
    """Search the super-network; options of other approaches are refused, defaults are those of `nas.APPROACH`."""

    where: ClassVar[Location] = ("nas",)

    approach: Approach = Field("dynas", description="How to search.")
    search_algorithm: str | None = Field(None, description="Algorithm; null for the approach's default.")
    search_space: Choices | None = Field(
        None, description="Restriction of the super-network's space: legal values per elastic dimension or gene."
    )

    @model_validator(mode="before")
    @classmethod
    def _translate(cls, data: Any) -> Any:
        """Let DE-NAS's keys and defaults count with its approach alone."""
        if not isinstance(data, dict) or data.get("approach") != "denas":
            return data
        seed = {"seed": data["seed"]} if "seed" in data else {}  # reported as a key of the recipe's top level
        defaults = DenasOptions()
        given = translated({name: value for name, value in data.items() if name not in seed}, defaults.population)
        return {"metrics": defaults.metrics, "num_evals": defaults.num_evals} | given | seed

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


CORNERS = ("largest", "smallest")


def _known_corner(value: object) -> object:
    if isinstance(value, str) and value not in CORNERS:
        raise ValueError(f"{value!r} is not allowed; wants {', '.join(CORNERS)}, or values per elastic dimension")
    return value


Named = Annotated[str | dict[str, list[Value]], BeforeValidator(_known_corner)]
"""An architecture: `largest`, `smallest`, or its values per elastic dimension."""


class SelectStep(Settings):
    """Choose one architecture: the best of the search under limits, or one that is known."""

    where: ClassVar[Location] = ("select",)

    architecture: Named | None = Field(
        None,
        description="An architecture, without a search: `largest`, `smallest`, or its values per elastic dimension; "
        "null to choose from the search.",
    )
    constraints: Constraints = Field(
        default_factory=dict, description="Limits per metric: `<= 2 ms`, `>= 97 %`, `<= 0.4 x largest`, or a list."
    )
    maximize: str | None = Field(
        None,
        description="The metric to maximize; where neither is given, the choice is by the quality of the task (`acc`, "
        "`f1`, `bleu`, `wer`), or by `de_score` after a train-free search.",
    )
    minimize: str | None = Field(None, description="The metric to minimize, instead of `maximize`.")

    def goal(self, measured: Sequence[str]) -> tuple[Literal["maximize", "minimize"], str]:
        """Return the direction and the metric to choose by.

        Args:
            measured: Registered names of the metrics of the search.
        """
        if self.minimize:
            return "minimize", self.minimize
        if self.maximize:
            return "maximize", self.maximize
        found = next((quality for quality in QUALITIES.values() if quality.objective in measured), None)
        if found is None:
            return "maximize", "de_score" if "de_score" in measured else "acc"
        return found.direction, found.objective


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _meaning(text: str) -> tuple[str, str, float]:
    condition = parse_condition(text)
    return condition.figure, condition.op, condition.bound


ConditionList = Annotated[list[ConditionText], BeforeValidator(_listed, json_schema_input_type=str | list[str])]


class Conditional(Settings):
    """What steps that change the chosen network have in common: conditions on what they come to.

    The network is measured before and after such a step, on the search-validation part. A condition is `not faster`,
    `not smaller`, or a figure and a number, such as `accuracy drop > 1 %`.
    """

    skip_if: ConditionList = Field(
        default_factory=list,
        description="Drop what the step made where one of these holds, and go on with the network before it.",
    )
    stop_if: ConditionList = Field(
        default_factory=list, description="End the recipe at this step where one of these holds, and drop what it made."
    )

    conditions: ClassVar[frozenset[str]] = frozenset({"skip_if", "stop_if"})

    @model_validator(mode="after")
    def _skips_or_stops(self) -> Self:
        stops = [_meaning(text) for text in self.stop_if]
        if (both := next((text for text in self.skip_if if _meaning(text) in stops), None)) is not None:
            raise ValueError(f"{both!r} stands in skip_if and in stop_if, which would stop; leave it out of one")
        return self


class FinetuneStep(Conditional, FinetuneOptions):
    """Train the chosen network alone, on the labels."""

    where: ClassVar[Location] = ("finetune",)


class DistillStep(Conditional, DistillStepOptions):
    """Train the chosen network on the outputs, and the features, of a teacher."""

    where: ClassVar[Location] = ("distill",)


class PruneStep(Conditional, PruneOptions):
    """Prune the chosen network, in turns with training."""

    where: ClassVar[Location] = ("prune",)


class QuantizeStep(Conditional, QuantizeOptions):
    """Quantize the chosen network, with real calibration images."""

    where: ClassVar[Location] = ("quantize",)


class StepLatency(TimingConfig):
    """How the latency of a step's network is measured, and on how many examples."""

    batch_size: Count = Field(1, description="Examples per run.")


Format = Literal["onnx", "safetensors"]


def _all_formats() -> list[Format]:
    return ["onnx", "safetensors"]


class ExportStep(Settings):
    """Write the files."""

    where: ClassVar[Location] = ("export",)

    formats: Annotated[list[Format], Field(min_length=1)] = Field(
        default_factory=_all_formats, description="Files to write for each network."
    )


def _one_or_more(value: object) -> object:
    numbers = value if isinstance(value, list) else [value]
    if any(number in numbers[:index] for index, number in enumerate(numbers)):
        raise ValueError(f"{show(value)} has a number twice")
    return numbers


Counts = Annotated[
    list[Count], Field(min_length=1), BeforeValidator(_one_or_more, json_schema_input_type=Count | list[Count])
]
"""A number, or a list of numbers; always a list when read."""


class BenchmarkLatency(TimingConfig):
    """How the latency of the exported files is measured."""

    where: ClassVar[Location] = ("benchmark", "latency")

    threads: Counts = Field([1], description="CPU threads: a number, or a list of them.")  # type: ignore[assignment]


class BenchmarkStep(Settings):
    """Measure the exported files again, on the test part, which neither training nor search saw.

    Where there are several batch sizes or numbers of threads, latency is measured at every pair of the two.
    """

    where: ClassVar[Location] = ("benchmark",)

    batch_size: Counts = Field([1], description="Examples per run for latency: a number, or a list of them.")
    eval_batch_size: Count = Field(256, description="Batch size for accuracy, or the task's other figure.")
    latency: BenchmarkLatency = Field(default_factory=BenchmarkLatency, description="How latency is measured.")

    @property
    def runs(self) -> list[tuple[int, int]]:
        """The pairs of a batch size and a number of threads at which latency is measured."""
        return [(batch_size, threads) for batch_size in self.batch_size for threads in self.latency.threads]


ChangingStep = FinetuneStep | DistillStep | PruneStep | QuantizeStep
StepOptions = TrainSupernetStep | NasStep | SelectStep | ChangingStep | ExportStep | BenchmarkStep


class Step(Settings):
    """One step: a mapping of its name to its options, or the name alone for the defaults."""

    train_supernet: TrainSupernetStep | None = Field(None, description="Train the super-network.")
    nas: NasStep | None = Field(None, description="Search it.")
    select: SelectStep | None = Field(None, description="Choose an architecture.")
    finetune: FinetuneStep | None = Field(None, description="Train the chosen sub-network alone.")
    distill: DistillStep | None = Field(None, description="Train it on the outputs of a teacher.")
    prune: PruneStep | None = Field(None, description="Prune it.")
    quantize: QuantizeStep | None = Field(None, description="Quantize it.")
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
"""All steps."""


def _known_steps() -> str:
    return f"known: {', '.join(Step.model_fields)}"


def labels(names: list[str]) -> list[str]:
    """Return what the steps of a recipe are called in its records: a name, with a number from its second time on."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return found
