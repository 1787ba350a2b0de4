"""The approaches of a search and their options: of their sections in search configs, and of the recipe's `nas` step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args

from pydantic import Field, model_validator

from nas_compress.constraints import limit_texts
from nas_compress.denas_keys import DENAS_KEYS, ENGINE, STRATEGIES, SUPERNETS, ModelType, SearchEngine, translated
from nas_compress.objectives import objectives
from nas_compress.objectives.config import LatencyConfig, ScoreOptions
from nas_compress.option_values import AlgorithmOptions, Constraints, Plain, Point, Predictors, Probability
from nas_compress.settings import Count, FilePath, Fraction, Location, Natural, Positive, Settings
from nas_compress.supernets.precision_config import PrecisionConfig

Approach = Literal["dynas", "concurrent", "full", "evolutionary", "random", "denas"]
APPROACHES: tuple[str, ...] = get_args(Approach)
"""The approaches that search a super-network."""

T = TypeVar("T")


Metrics = Annotated[list[str], Field(min_length=1)]


class CommonOptions(Settings):
    """What a search optimises, within which limits, and when it stops: shared by all approaches."""

    metrics: list[str]
    constraints: Constraints = Field(
        default_factory=dict,
        description="Limits per metric (`<= 300M`, `<= 2 ms`, `<= 0.5 x largest`, or a list of them); "
        "a metric that is not among `metrics` is measured for its limit alone.",
    )
    patience: Count | None = Field(
        None,
        description="Stop after so many evaluations without a gain of hypervolume (`min_gain`); null = never.",
    )
    min_gain: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = Field(
        0.001, description="Growth of the hypervolume, as a part of it, that counts for `patience`."
    )
    time_budget: Positive | None = Field(
        None,
        description="Seconds after which this run stops measuring; start it again to go on, a recipe with another "
        "value. null = no limit.",
    )
    reference_point: Point | None = Field(
        None,
        description="Reference point of the hypervolume, a value per metric (`{acc: 70, macs: 500M}`); "
        "null = a tenth worse than the worst of the first trials.",
    )

    @property
    def limits(self) -> list[tuple[str, str]]:
        """Every single limit as a metric, in the spelling of the config, and a text."""
        return limit_texts(self.constraints)


class BasicConfig(CommonOptions):
    """Section `nas.basic`: INC's basic search, whose models are built, trained and evaluated by functions."""

    where: ClassVar[Location] = ("nas", "basic")

    metrics: list[str] = Field(
        default_factory=list, description="Names of the values that `eval_func` returns; also `nas.search.metrics`."
    )
    constraints: Constraints = Field(
        default_factory=dict, description="Limits on `metrics` (`>= 0.9`, `<= 0.5 x largest`, or a list of them)."
    )
    results_csv_path: FilePath = Field(
        Path("search_results.csv"), description="Results table; the archive that a search resumes from lies beside it."
    )


class SearchOptions(CommonOptions):
    """What a search of a super-network measures, and how much: shared with the recipe's `nas` step."""

    metrics: Metrics = Field(
        default_factory=lambda: ["acc", "macs"],
        description="Objectives, in order: names of `nas-compress list objectives`, also INC's spellings.",
    )
    population: Annotated[Count, Field(le=100_000)] = Field(
        50,
        description="Architectures per generation, at most `num_evals`; with `dynas` of its search on predictions, "
        "which has at least 100.",
    )
    num_evals: Count = Field(250, description="Architectures to evaluate in all, repeats not counted.")
    batch_size: Count = Field(1, description="Batch size at which latency is measured.")
    eval_batch_size: Count = Field(64, description="Batch size for validation; no effect on the result.")
    test_fraction: Fraction = Field(1.0, description="Part of the search-validation images to use, 0 to 1.")
    calibration_images: Count = Field(2000, description="Training images for BN recalibration, at most.")
    latency: LatencyConfig = Field(default_factory=LatencyConfig, description="How latency is measured.")
    precision: PrecisionConfig | None = Field(
        None,
        description="Search precisions (int8, fp32) along with the architecture, and measure sub-networks as they are "
        "quantized; null = all in fp32.",
    )
    warm_start: FilePath | None = Field(
        None,
        description="Results of an earlier search (ours, INC's or DyNAS-T's CSV), on any hardware: its front is "
        "evaluated first, and predictors learn from all of it.",
    )

    @property
    def limited(self) -> list[str]:
        """Registered names of the metrics that are measured for the sake of a limit alone."""
        optimised = {canonical(name) for name in self.metrics}
        return list(dict.fromkeys(n for n in map(canonical, self.constraints) if n not in optimised))

    @property
    def measured(self) -> list[str]:
        """All metrics that are measured, by their registered names: the objectives, then what limits alone are on."""
        return [*map(canonical, self.metrics), *self.limited]

    starts_with_largest: ClassVar[bool] = True
    """Whether the largest architecture is evaluated first, so that limits can refer to it."""

    def strategy_options(self) -> dict[str, Any]:
        """Return what the approach's strategy takes beyond the options of all strategies, as plain data."""
        return {}


class RandomOptions(SearchOptions):
    """Random search: the baseline."""


class AlgorithmicOptions(SearchOptions):
    """What approaches share that an evolutionary algorithm may serve."""

    algorithm_options: AlgorithmOptions | None = Field(
        None, description="Options of `search_algorithm` (`{mutation: 0.1}`); null = its defaults."
    )

    def strategy_options(self) -> dict[str, Any]:
        """Return the algorithm's options, as far as they are set; see the base class."""
        options = {} if self.algorithm_options is None else self.algorithm_options.given()
        if "references" in options:
            options["references"] = [by_registered_name(point) for point in options["references"]]
        return options


class EvolutionaryOptions(AlgorithmicOptions):
    """Every candidate is measured: an evolutionary algorithm, `bo` or `grid`, whichever `search_algorithm` names."""


class PredictingOptions(AlgorithmicOptions):
    """What approaches that search on predictions share."""

    predictor: Predictors = Field(
        None,
        description="Predictor of measured metrics, one for all or one per metric (`{acc: gp, latency: ridge}`): names "
        "of `nas-compress list predictors`, `auto` among them; null = the approach's own choice.",
    )

    def strategy_options(self) -> dict[str, Any]:
        """Return the inner algorithm's options and the predictors, if there are any; see the base class."""
        own, named = super().strategy_options(), self.predictor
        options: dict[str, Any] = {"algorithm_options": own} if own else {}
        if named is not None:
            options["predictor"] = named if isinstance(named, str) else by_registered_name(named)
        return options


class ZeroCostOptions(SearchOptions):
    """What approaches share that train-free scores may start."""

    zero_cost: bool = Field(
        False,
        description="Measure first, after the largest architecture, the five of 50 random ones that are best by a "
        "train-free score (synflow) and MACs.",
    )


class DynasOptions(ZeroCostOptions, PredictingOptions):
    """DyNAS: measure a few architectures, fit predictors, search on the predictions, measure the best unseen, again."""

    predictor: Predictors = Field(
        "gp",
        description="Predictor of measured metrics, one for all or one per metric (`{acc: gp, latency: ridge}`): names "
        "of `nas-compress list predictors`.",
    )
    batch: Count = Field(
        10,
        description="Architectures measured between two fits; `population` if that is smaller. It is fewer at first, "
        "and a twenty-fifth of what is measured where that is more.",
    )

    def strategy_options(self) -> dict[str, Any]:
        """Return predictors and batch; see the base class."""
        return {**super().strategy_options(), "batch": self.batch}


class GenerationsOptions(PredictingOptions):
    """What approaches with a long inner search share."""

    generations: Count = Field(200, description="Generations of the search on predictions.")

    def strategy_options(self) -> dict[str, Any]:
        """Return predictors and generations; see the base class."""
        return {**super().strategy_options(), "generations": self.generations}


class ConcurrentOptions(ZeroCostOptions, GenerationsOptions):
    """ConcurrentNAS: measure a population, fit weak predictors, search on them, measure the final population, again."""

    validation_only: list[str] | None = Field(
        None,
        description="Measured metrics that play no part in the search on predictions; null = none. What can be "
        "computed is computed, unless `predictor` names it (`{macs: ridge}`).",
    )

    @model_validator(mode="after")
    def _predict_or_not(self) -> Self:
        never = {canonical(name) for name in self.validation_only or ()}
        for name in self.predictor if isinstance(self.predictor, dict) else ():
            if canonical(name) in never:
                reason = "which validation_only keeps from being predicted"
                raise ValueError(f"predictor names {name!r}, {reason}; leave out one of them")
        return self

    def strategy_options(self) -> dict[str, Any]:
        """Return predictors, generations and what is not predicted; see the base class."""
        options = super().strategy_options()
        if self.validation_only is not None:
            options["validation_only"] = [canonical(name) for name in self.validation_only]
        return options


class FullOptions(GenerationsOptions):
    """Full search: train predictors on a sample of measurements, search on them once, measure what comes out."""

    training_samples: Count | None = Field(
        None, description="Architectures that the predictors are trained on; null = 80 % of `num_evals`."
    )

    def strategy_options(self) -> dict[str, Any]:
        """Return predictors, generations and the size of the sample; see the base class."""
        samples = self.training_samples or max(1, int(0.8 * self.num_evals))
        return {**super().strategy_options(), "training_samples": samples}


class DenasOptions(ScoreOptions, AlgorithmicOptions):
    """DE-NAS: search for the best train-free score under limits; DE-NAS's own keys are understood (docs/denas.md)."""

    starts_with_largest: ClassVar[bool] = False
    other_keys = DENAS_KEYS

    metrics: Metrics = Field(
        default_factory=lambda: ["de_score"],
        description="Objectives, in order: `de_score`, and with it `latency` and others for a front.",
    )
    num_evals: Count = Field(500, description="Architectures to score in all; DE-NAS's `max_epochs` sets it, too.")
    search_engine: SearchEngine = Field(
        ENGINE, description="The strategy, where `nas.search.search_algorithm` names no other."
    )
    select_num: Count = Field(10, description="Architectures that become parents: the best so far.")
    crossover_num: Natural | None = Field(None, description="Children of two parents a generation; null = half of it.")
    mutation_num: Natural | None = Field(None, description="Children of one parent a generation; null = half of it.")
    m_prob: Probability = Field(0.2, description="Probability that a gene mutates.")
    s_prob: Probability = Field(0.4, description="Probability that a gene of the whole network (depth, width) mutates.")

    @model_validator(mode="before")
    @classmethod
    def _translate(cls, data: Any) -> Any:
        return translated(data, 50) if isinstance(data, dict) else data

    def evolution_options(self) -> dict[str, Any]:
        """Return what the strategy `denas` takes."""
        return {
            "parents": self.select_num,
            "crossovers": self.crossover_num,
            "mutants": self.mutation_num,
            "m_prob": self.m_prob,
            "s_prob": self.s_prob,
        }


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
    dataset_options: dict[str, Plain] = Field(
        {}, description="Options of the dataset, such as `tokenizer` of `sentences`; `nas-compress list data` has them."
    )
    results_csv_path: FilePath = Field(
        Path("search_results.csv"), description="Results table; the archive that a search resumes from lies beside it."
    )
    num_workers: Natural = Field(0, description="Accepted for INC's files; no effect.")
    distributed: bool = Field(False, description="Accepted for INC's files; only false.")


class DynasConfig(DynasOptions, SupernetSearch):
    """Section `nas.dynas`."""

    where: ClassVar[Location] = ("nas", "dynas")


class ConcurrentConfig(ConcurrentOptions, SupernetSearch):
    """Section `nas.concurrent`."""

    where: ClassVar[Location] = ("nas", "concurrent")


class FullConfig(FullOptions, SupernetSearch):
    """Section `nas.full`."""

    where: ClassVar[Location] = ("nas", "full")


class EvolutionaryConfig(EvolutionaryOptions, SupernetSearch):
    """Section `nas.evolutionary`."""

    where: ClassVar[Location] = ("nas", "evolutionary")


class RandomConfig(RandomOptions, SupernetSearch):
    """Section `nas.random`."""

    where: ClassVar[Location] = ("nas", "random")


class DenasConfig(DenasOptions, SupernetSearch):
    """Section `nas.denas`."""

    where: ClassVar[Location] = ("nas", "denas")

    model_type: ModelType | None = Field(
        None, description="A domain of DE-NAS's, whose super-network is taken where `supernet` names no other."
    )

    @model_validator(mode="after")
    def _choose_supernet(self) -> Self:
        """Let the domain stand for its super-network, as long as none was named."""
        if self.model_type is not None and "supernet" not in self.model_fields_set:
            self.__dict__["supernet"] = SUPERNETS[self.model_type]
        return self


OPTIONS: Mapping[str, type[SearchOptions]] = {
    "dynas": DynasOptions,
    "concurrent": ConcurrentOptions,
    "full": FullOptions,
    "evolutionary": EvolutionaryOptions,
    "random": RandomOptions,
    "denas": DenasOptions,
}
"""The options of each approach."""

PREDICTING: tuple[str, ...] = tuple(name for name, options in OPTIONS.items() if issubclass(options, PredictingOptions))
"""The approaches that search on predictions, with an inner algorithm."""


STRATEGY_OPTIONS = (
    *("predictor", "batch", "generations", "validation_only", "training_samples"),
    *("search_engine", "select_num", "crossover_num", "mutation_num", "m_prob", "s_prob"),
)
"""What stands for a strategy or is handed to it: without effect where that is a user's own."""


def default_algorithm(options: SearchOptions, approach: str) -> str:
    """Return the algorithm that measures, or searches on predictions, where `search_algorithm` names none."""
    if approach == "denas" and isinstance(options, DenasOptions):
        return STRATEGIES[options.search_engine]
    return "nsga2"


def registered(algorithm: str | None) -> str | None:
    """Return the registered spelling of a search algorithm; an unknown name, and None, as they are."""
    from nas_compress.search import strategies

    return strategies.canonical(algorithm) if algorithm is not None and algorithm in strategies else algorithm


def approaches_with(option: str) -> list[str]:
    """Return the approaches that have an option."""
    return [name for name, options in OPTIONS.items() if option in options.model_fields]


def canonical(metric: str) -> str:
    """Return the registered spelling of a metric; an unknown name as it is."""
    return objectives.canonical(metric) if metric in objectives else metric


def by_registered_name(values: Mapping[str, T]) -> dict[str, T]:
    """Return a mapping whose keys are metrics with their registered spellings."""
    return {canonical(name): value for name, value in values.items()}
