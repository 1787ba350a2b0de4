"""`NASConfig`: what a search is to do, in Python or in YAML files of Intel Neural Compressor's layout."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError, model_validator

from nas_compress import checks, search_checks, strategy_checks
from nas_compress.approaches import (
    APPROACHES,
    PREDICTING,
    Approach,
    BasicConfig,
    CommonOptions,
    ConcurrentConfig,
    DenasConfig,
    DynasConfig,
    EvolutionaryConfig,
    FullConfig,
    Metrics,
    RandomConfig,
    SearchOptions,
    SupernetSearch,
    default_algorithm,
    registered,
)
from nas_compress.basic import ALGORITHMS, basic_problems
from nas_compress.documents import read_document, resolve_template, write_document
from nas_compress.errors import ConfigError, suggest
from nas_compress.settings import (
    Count,
    Location,
    Problem,
    Seed,
    Settings,
    Source,
    config_error,
    problems_of,
    show,
)

__all__ = ["APPROACHES", "Approach", "NASConfig", "SearchConfig", "SearchOptions", "SupernetSearch"]

log = logging.getLogger(__name__)

_INC_SECTIONS = (
    *("version", "model", "device", "use_bf16", "optimization_level", "quantization", "graph_optimization"),
    *("mixed_precision", "tuning", "train", "pruning", "distillation", "auto_distillation", "evaluation"),
)
"""Top-level keys of INC 2.x's files that are not about the search."""

Choices = dict[str, list[bool | int | float | str]]
"""Values by name."""


class SearchConfig(Settings):
    """The settings of all approaches; each is an attribute of `NASConfig` as well."""

    where: ClassVar[Location] = ("nas", "search")

    search_algorithm: str | None = Field(
        None,
        description="Algorithm, a name of `nas-compress list strategies`: with `evolutionary` it measures every "
        "candidate, with `dynas`, `concurrent` and `full` on the predictions; null = the approach's default.",
    )
    seed: Seed = Field(42, description="Seed of every random choice of the search.")
    metrics: Metrics | None = Field(None, description="`metrics` of the approach's section, where that has none.")
    search_space: Choices | None = Field(
        None,
        description="Restriction of the super-network's space: legal values per elastic dimension or gene. With "
        "`basic`, the whole space: values by name.",
    )
    higher_is_better: list[bool] | None = Field(
        None,
        description="Directions of the metrics of `basic`; else accepted for INC's files, and must agree with the "
        "metrics' own.",
    )
    max_trials: Count | None = Field(
        None, description="Architectures to evaluate with `basic`, null = 3; else without effect (see `num_evals`)."
    )


def _inc_default(value: object) -> object:
    return "basic" if value is None else value


class NASConfig(Settings):
    """What a search is to do.

    Sections are attributes (`config.dynas.population = 50`); wrong names and values raise at once.

    Args:
        approach: `"dynas"`, `"concurrent"`, `"full"`, `"evolutionary"`, `"random"`, `"denas"`, or `"basic"`, for which
            INC's None stands as well.
        search_space: Restriction of the super-network's space, legal values per elastic dimension (`{"ks": [3, 5]}`);
            with `"basic"`, the whole space.
        search_algorithm: Algorithm of the approach; None for its default.
        metrics: Objectives of the approach.
        higher_is_better: Directions of the metrics of `"basic"`; must agree with those of registered metrics else.
        max_trials: Architectures to evaluate with `"basic"`; else without effect.
        seed: Seed of every random choice; 42 by default.
        **sections: A mapping or a section object by the approach's name; `search` in place of the arguments above.

    Raises:
        ConfigError: A key or a value is wrong; the message names it and what is allowed.
    """

    where: ClassVar[Location] = ("nas",)

    approach: Annotated[Literal[Approach, "basic"], BeforeValidator(_inc_default)] = Field(
        "dynas", description="How to search; null, as in INC's files, is `basic`."
    )
    search: SearchConfig = Field(default_factory=SearchConfig, description="Settings of all approaches.")
    dynas: DynasConfig = Field(default_factory=DynasConfig, description="Settings of `approach: dynas`.")
    concurrent: ConcurrentConfig = Field(
        default_factory=ConcurrentConfig, description="Settings of `approach: concurrent`."
    )
    full: FullConfig = Field(default_factory=FullConfig, description="Settings of `approach: full`.")
    evolutionary: EvolutionaryConfig = Field(
        default_factory=EvolutionaryConfig, description="Settings of `approach: evolutionary`."
    )
    random: RandomConfig = Field(default_factory=RandomConfig, description="Settings of `approach: random`.")
    denas: DenasConfig = Field(default_factory=DenasConfig, description="Settings of `approach: denas`.")
    basic: BasicConfig = Field(default_factory=BasicConfig, description="Settings of `approach: basic`.")

    _source: Source | None = PrivateAttr(None)

    def __init__(
        self,
        approach: str | None = "dynas",
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
        if given and "search" in sections:
            raise ConfigError(f"{', '.join(given)} and search are both given; put all of it into search")
        super().__init__(approach=approach, **{"search": given, **sections})

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # see Settings

    @model_validator(mode="before")
    @classmethod
    def _one_list_of_metrics(cls, data: Any) -> Any:
        """Refuse a file that gives the metrics twice, and differently."""
        name = _inc_default(data.get("approach", "dynas")) if isinstance(data, dict) else None
        given = [data.get(key) for key in ("search", name)] if isinstance(name, str) else []
        lists = [s["metrics"] for s in given if isinstance(s, dict) and s.get("metrics") is not None]
        if len(lists) == 2 and lists[0] != lists[1]:
            raise ValueError(f"metrics are given in search and in {name}, and differ; give them once, in {name}")
        return data

    @model_validator(mode="after")
    def _place_metrics(self) -> Self:
        _ = self._common
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
        if config.search.max_trials is not None and config.approach != "basic":
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
        if data["search"].get("metrics") != self.metrics:  # the section's, set later, count
            data["search"].pop("metrics", None)
        for name in (*APPROACHES, "basic"):
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
        """The section of the chosen approach.

        Raises:
            ConfigError: That is `basic`, whose section has none of a super-network's settings.
        """
        section = self._common
        if not isinstance(section, SupernetSearch):
            raise ConfigError("nas.approach: 'basic' has no super-network; its settings are nas.search and nas.basic")
        return section

    @property
    def _common(self) -> CommonOptions:
        """The approach's section, in which `search.metrics` stand where it has none of its own."""
        section: CommonOptions = getattr(self, self.approach)
        if self.search.metrics is not None and "metrics" not in section.model_fields_set:
            section.__dict__["metrics"] = self.search.metrics  # not set, so that later ones take their place
        return section

    @property
    def strategy(self) -> str:
        """The name of the search strategy that the approach and the algorithm stand for."""
        if self.approach == "basic":
            return self.search.search_algorithm or ALGORITHMS[0]
        if self.approach in ("evolutionary", "denas"):
            return registered(self.search.search_algorithm) or default_algorithm(self.section, self.approach)
        return self.approach

    def strategy_options(self) -> dict[str, Any]:
        """Return what the strategy takes besides the seed and the population, as plain data."""
        section = self._common
        options = section.strategy_options() if isinstance(section, SupernetSearch) else {}
        if self.strategy == "denas":
            options = self.denas.evolution_options()
        algorithm = registered(self.search.search_algorithm)
        if self.approach in PREDICTING and algorithm not in (None, default_algorithm(self.section, self.approach)):
            options["algorithm"] = algorithm
        return options

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
    def search_space(self) -> Choices | None:
        """`search.search_space`."""
        return self.search.search_space

    @search_space.setter
    def search_space(self, value: Choices | None) -> None:
        self.search.search_space = value

    @property
    def metrics(self) -> list[str]:
        """The metrics of the chosen approach's section."""
        return self._common.metrics

    @metrics.setter
    def metrics(self, value: list[str]) -> None:
        self._common.metrics = value
        self.search.metrics = self.search.metrics and value  # where they were given

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

    def check(
        self,
        *,
        own_supernet: bool = False,
        own_data: bool = False,
        own_strategy: bool = False,
        own_algorithm: bool = False,
    ) -> None:
        """Check what no single field shows, before any work: names, files, metrics, numbers that must fit together.

        Args:
            own_supernet: A super-network is given as an object; its name and weights here are not looked at.
            own_data: Data are given as an object; their name and path here are not looked at.
            own_strategy: A strategy is given as an object; what has no effect beside it is refused.
            own_algorithm: That object searches on the predictions alone, with the options of the approach.

        Raises:
            ConfigError: Everything that is wrong, one problem a line.
        """
        if problems := list(self._wrong(own_supernet, own_data, own_strategy, own_algorithm)):
            raise config_error(problems, self._source)

    def _wrong(self, own_supernet: bool, own_data: bool, own_strategy: bool, own_algorithm: bool) -> Iterator[Problem]:
        here, search = ("nas", self.approach), ("nas", "search")
        try:  # lists may have been changed in place, which assignment does not see
            type(self).model_validate(self.to_dict())
        except ValidationError as error:
            yield from problems_of(error, type(self), ("nas",))
            return
        algorithm = None if own_strategy else self.search_algorithm
        if own_strategy:
            yield from strategy_checks.named_problems(self._common, self.search_algorithm, here, search)
        if self.approach == "basic":
            yield from basic_problems(self, own_strategy=own_strategy)
            return
        section = self.section
        if own_strategy and not own_algorithm:
            yield from strategy_checks.own_strategy_problems(section, here)
        else:
            yield from search_checks.strategy_problems(section, self.approach, algorithm, here, search)
        if not own_strategy:
            yield from strategy_checks.algorithm_option_problems(section, self.approach, algorithm, here)
        supernet = None if own_supernet else section.supernet
        yield from search_checks.search_problems(section, self.approach, supernet, here)
        yield from search_checks.precision_problems(section, supernet, here)
        yield from checks.direction_problems(self.metrics, self.higher_is_better, search)
        yield from checks.results_problems(section, here)
        needed = checks.needs_data(section.measured)
        if not own_supernet:
            yield from checks.supernet_problems(section.supernet, section.measured, here, section.limited)
            space, allowed = search_checks.registered_space(section.supernet), self.search_space
            yield from checks.space_problems(space, allowed, (*search, "search_space"), section.precision)
            yield from search_checks.warm_start_problems(section, space, allowed, here)
            yield from checks.weights_problems(section, here, needed=needed)
        if not own_data:
            yield from checks.dataset_problems(section, here, needed=needed, own_supernet=own_supernet)


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
