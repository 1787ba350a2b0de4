"""`NASConfig`: what a search is to do, in Python or in YAML files of Intel Neural Compressor's layout."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError, model_validator

from nas_compress import checks
from nas_compress.documents import read_document, resolve_template, write_document
from nas_compress.errors import ConfigError, suggest
from nas_compress.objectives.config import LatencyConfig
from nas_compress.settings import (
    Count,
    FilePath,
    Fraction,
    Location,
    Natural,
    Problem,
    Seed,
    Settings,
    Source,
    config_error,
    problems_of,
    show,
)

log = logging.getLogger(__name__)

Approach = Literal["dynas", "evolutionary", "random"]
Metrics = Annotated[list[str], Field(min_length=1)]
APPROACHES: tuple[str, ...] = get_args(Approach)
_INC_SECTIONS = ("version", "model", "device", "quantization", "tuning", "train", "evaluation")
"""Top-level sections of INC's files that are not about the search."""


class SearchOptions(Settings):
    """What a search measures, and how much: shared by the approaches' sections and by the recipe's `nas` step."""

    metrics: Metrics = Field(
        default_factory=lambda: ["acc", "macs"],
        description="Objectives, in order: names of `nas-compress list objectives`, also INC's spellings.",
    )
    population: Annotated[Count, Field(le=100_000)] = Field(
        50, description="Architectures per generation; at most `num_evals`."
    )
    num_evals: Count = Field(250, description="Architectures to evaluate in all, repeats not counted.")
    batch_size: Count = Field(1, description="Batch size at which latency is measured.")
    eval_batch_size: Count = Field(64, description="Batch size for validation; no effect on the result.")
    test_fraction: Fraction = Field(1.0, description="Part of the search-validation images to use, 0 to 1.")
    calibration_images: Count = Field(2000, description="Training images for BN recalibration, at most.")
    latency: LatencyConfig = Field(default_factory=LatencyConfig, description="How latency is measured.")
    warm_start: FilePath | None = Field(
        None, description="Results of an earlier search (ours, INC's or DyNAS-T's CSV): its front is evaluated first."
    )

    def strategy_options(self) -> dict[str, Any]:
        """Return the options of the strategy that this approach has beyond those of all strategies."""
        return {}


class SupernetSearch(SearchOptions):
    """A search in a super-network: shared by all approaches."""

    supernet: str | None = Field(None, description="The super-network: a name of `nas-compress list supernets`.")
    supernet_ckpt_path: FilePath | None = Field(
        None, description="Trained weights: `.safetensors`, or a published `.pth` / `.pt` of the same net."
    )
    dataset: str | None = Field(
        None, description="A name of `nas-compress list data`; null for the one the super-network is meant for."
    )
    dataset_path: FilePath | None = Field(None, description="Folder of the dataset, where it has files.")
    results_csv_path: FilePath = Field(
        Path("search_results.csv"), description="Results table; the archive that a search resumes from lies beside it."
    )
    num_workers: Natural = Field(0, description="Accepted for INC's files; no effect.")
    distributed: bool = Field(False, description="Accepted for INC's files; only false.")


class DynasConfig(SupernetSearch):
    """DyNAS: measure a population, fit predictors, search on the predictions, measure the best unseen, and again."""

    where: ClassVar[Location] = ("nas", "dynas")

    predictor: str = Field(
        "gp", description="Predictor of measured objectives: a name of `nas-compress list predictors`."
    )

    def strategy_options(self) -> dict[str, Any]:
        """Return the predictor; see the base class."""
        return {"predictor": self.predictor}


class EvolutionaryConfig(SupernetSearch):
    """An evolutionary algorithm that measures every candidate."""

    where: ClassVar[Location] = ("nas", "evolutionary")


class RandomConfig(SupernetSearch):
    """Random search: the baseline."""

    where: ClassVar[Location] = ("nas", "random")


class SearchConfig(Settings):
    """The settings of all approaches; each is an attribute of `NASConfig` as well."""

    where: ClassVar[Location] = ("nas", "search")

    search_algorithm: str | None = Field(
        None, description="Algorithm: `nsga2` with `dynas` (on the predictions) and `evolutionary`; null = the default."
    )
    seed: Seed = Field(42, description="Seed of every random choice of the search.")
    metrics: Metrics | None = Field(None, description="`metrics` of the approach's section, where that has none.")
    search_space: dict[str, list[int | float]] | None = Field(
        None, description="Restriction of the super-network's space: legal values per elastic dimension or gene."
    )
    higher_is_better: list[bool] | None = Field(
        None, description="Accepted for INC's files; must agree with the directions of the metrics."
    )
    max_trials: Count | None = Field(None, description="Accepted for INC's files; no effect (see `num_evals`).")


def _known_approach(value: object) -> object:
    if value in (None, "basic"):
        raise ValueError(
            f"{show(value)} stands for INC's basic search over a model builder, which is not available; "
            f"allowed: {', '.join(APPROACHES)}"
        )
    return value


class NASConfig(Settings):
    """What a search is to do.

    Sections are attributes (`config.dynas.population = 50`); wrong names and values raise at once.

    Args:
        approach: `"dynas"`, `"evolutionary"` or `"random"`.
        search_space: Restriction of the super-network's space, legal values per elastic dimension (`{"ks": [3, 5]}`).
        search_algorithm: Algorithm of the approach; None for its default.
        metrics: Objectives of the approach.
        higher_is_better: For INC's sake; must agree with the directions of the metrics.
        max_trials: For INC's sake; no effect.
        seed: Seed of every random choice; 42 by default.
        **sections: `dynas`, `evolutionary`, `random`: mappings or section objects; `search` in place of the arguments
            above.

    Raises:
        ConfigError: A key or a value is wrong; the message names it and what is allowed.
    """

    where: ClassVar[Location] = ("nas",)

    approach: Annotated[Approach, BeforeValidator(_known_approach)] = Field("dynas", description="How to search.")
    search: SearchConfig = Field(default_factory=SearchConfig, description="Settings of all approaches.")
    dynas: DynasConfig = Field(default_factory=DynasConfig, description="Settings of `approach: dynas`.")
    evolutionary: EvolutionaryConfig = Field(
        default_factory=EvolutionaryConfig, description="Settings of `approach: evolutionary`."
    )
    random: RandomConfig = Field(default_factory=RandomConfig, description="Settings of `approach: random`.")

    _source: Source | None = PrivateAttr(None)

    def __init__(
        self,
        approach: str = "dynas",
        search_space: Mapping[str, Any] | None = None,
        search_algorithm: str | None = None,
        metrics: list[str] | None = None,
        higher_is_better: list[bool] | None = None,
        max_trials: int | None = None,
        seed: int | None = None,
        **sections: Any,
    ) -> None:
        flat = {
            "search_algorithm": search_algorithm,
            "seed": seed,
            "metrics": metrics,
            "search_space": search_space,
            "higher_is_better": higher_is_better,
            "max_trials": max_trials,
        }
        given = {name: value for name, value in flat.items() if value is not None}
        sections.setdefault("search", given)
        super().__init__(approach=approach, **sections)

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # see Settings

    @model_validator(mode="before")
    @classmethod
    def _one_list_of_metrics(cls, data: Any) -> Any:
        """Refuse a file that gives the metrics twice, and differently."""
        name = data.get("approach", "dynas") if isinstance(data, dict) else None
        given = [data.get(key) for key in ("search", name)] if isinstance(name, str) else []
        lists = [s["metrics"] for s in given if isinstance(s, dict) and s.get("metrics") is not None]
        if len(lists) == 2 and lists[0] != lists[1]:
            raise ValueError(f"metrics are given in search and in {name}, and differ; give them once, in {name}")
        return data

    @model_validator(mode="after")
    def _place_metrics(self) -> Self:
        """Let `search.metrics` stand in for those of the approach's section, where that has none of its own."""
        if self.search.metrics is not None and "metrics" not in self.section.model_fields_set:
            self.section.metrics = list(self.search.metrics)
        return self

    def __eq__(self, other: object) -> bool:
        """Equal settings make equal configs, wherever they were read from."""
        return isinstance(other, NASConfig) and self.model_dump() == other.model_dump()

    @classmethod
    def from_yaml(cls, name_or_path: str | Path) -> NASConfig:
        """Read a search config, in INC's layout too: a template's name or a file's path.

        Raises:
            ConfigError: The file or something in it is wrong; every problem is listed with its line.
        """
        data, source = read_document(resolve_template(name_or_path))
        _check_top_level(data, source)
        nas = {k: v for k, v in data["nas"].items() if v is not None or k == "approach"}
        config = cls.parse(nas, ("nas",), source)
        config._source = source
        if config.search.max_trials is not None:
            log.warning("%s: max_trials has no effect; num_evals sets the budget", source.path)
        return config

    def to_yaml(self, path: str | Path) -> None:
        """Write the config: the section of the approach in full, the others where they are not at their defaults.

        Raises:
            ConfigError: The file cannot be written.
        """
        write_document({"nas": self.to_dict()}, path)

    def to_dict(self) -> dict[str, Any]:
        """Return the `nas` mapping of the YAML file as plain data."""
        data: dict[str, Any] = {
            "approach": self.approach,
            "search": self.search.model_dump(mode="json", warnings=False, exclude_none=True),
        }
        for name in APPROACHES:
            if name == self.approach:
                data[name] = getattr(self, name).model_dump(mode="json", warnings=False)
            elif rest := getattr(self, name).model_dump(mode="json", warnings=False, exclude_defaults=True):
                data[name] = rest
        return data

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """Return the JSON schema of the YAML file, for editors."""
        schema = cls.model_json_schema()
        definitions = schema.pop("$defs", {})
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "nas-compress search config",
            "type": "object",
            "required": ["nas"],
            "properties": {"nas": schema, **{name: {} for name in _INC_SECTIONS}},
            "additionalProperties": False,
            "$defs": definitions,
        }

    @property
    def section(self) -> SupernetSearch:
        """The section of the chosen approach."""
        section: SupernetSearch = getattr(self, self.approach)
        return section

    @property
    def strategy(self) -> str:
        """The name of the search strategy that the approach and the algorithm stand for."""
        if self.approach == "evolutionary":
            return self.search.search_algorithm or "nsga2"
        return self.approach

    @property
    def search_algorithm(self) -> str | None:
        """`search.search_algorithm`."""
        return self.search.search_algorithm

    @search_algorithm.setter
    def search_algorithm(self, value: str | None) -> None:
        self.search.search_algorithm = value

    @property
    def seed(self) -> int:
        """`search.seed`."""
        return self.search.seed

    @seed.setter
    def seed(self, value: int) -> None:
        self.search.seed = value

    @property
    def search_space(self) -> dict[str, list[int | float]] | None:
        """`search.search_space`."""
        return self.search.search_space

    @search_space.setter
    def search_space(self, value: dict[str, list[int | float]] | None) -> None:
        self.search.search_space = value

    @property
    def metrics(self) -> list[str]:
        """The metrics of the chosen approach's section."""
        return self.section.metrics

    @metrics.setter
    def metrics(self, value: list[str]) -> None:
        self.section.metrics = value

    @property
    def higher_is_better(self) -> list[bool] | None:
        """`search.higher_is_better`."""
        return self.search.higher_is_better

    @higher_is_better.setter
    def higher_is_better(self, value: list[bool] | None) -> None:
        self.search.higher_is_better = value

    @property
    def max_trials(self) -> int | None:
        """`search.max_trials`."""
        return self.search.max_trials

    @max_trials.setter
    def max_trials(self, value: int | None) -> None:
        self.search.max_trials = value

    def check(self, *, own_supernet: bool = False, own_data: bool = False) -> None:
        """Check what no single field shows: names, files, metrics and numbers that must fit together.

        Takes well under a second and imports no deep-learning library, so it comes before any work.

        Args:
            own_supernet: A super-network is given as an object; its name and weights here are not looked at.
            own_data: Data are given as an object; their name and path here are not looked at.

        Raises:
            ConfigError: Everything that is wrong, one problem a line.
        """
        problems = list(self._problems(own_supernet, own_data))
        if problems:
            raise config_error(problems, self._source)

    def _problems(self, own_supernet: bool, own_data: bool) -> Iterator[Problem]:
        here: Location = ("nas", self.approach)
        try:  # lists may have been changed in place, which assignment does not see
            type(self).model_validate(self.to_dict())
        except ValidationError as error:
            yield from problems_of(error, type(self), ("nas",))
            return
        yield from checks.strategy_problems(self.approach, self.search.search_algorithm, ("nas", "search"))
        yield from checks.search_problems(self.section, self.approach, here)
        yield from checks.direction_problems(self.metrics, self.higher_is_better, ("nas", "search"))
        yield from checks.results_problems(self.section, here)
        if not own_supernet:
            yield from checks.supernet_problems(self.section.supernet, self.metrics, here)
            location = ("nas", "search", "search_space")
            yield from checks.space_problems(self.section.supernet, self.search_space, location)
            yield from checks.weights_problems(self.section, here, needed=checks.needs_images(self.metrics))
        if not own_data:
            needed = checks.needs_images(self.metrics)
            yield from checks.dataset_problems(self.section, here, needed=needed, own_supernet=own_supernet)


def _check_top_level(data: Mapping[str, Any], source: Source) -> None:
    if "steps" in data:
        raise ConfigError(
            f"{source.path} is a recipe (it has 'steps'), not a search config; nas-compress compress runs it"
        )
    problems = [
        Problem((str(key),), f"unknown key{suggest(str(key), ['nas'])}; the search's settings stand under 'nas'")
        for key in data
        if key not in ("nas", *_INC_SECTIONS)
    ]
    if not problems and not isinstance(data.get("nas"), dict):
        found = f"is {show(data['nas'])}" if "nas" in data else "is missing"
        problems.append(Problem(("nas",), f"{found}; wants a mapping with {', '.join(NASConfig.model_fields)}"))
    if problems:
        raise config_error(problems, source)
    for name in (n for n in _INC_SECTIONS if n in data):
        log.warning("%s: the section %r is not about the search and is ignored", source.path, name)
