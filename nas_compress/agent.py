"""`NAS`: from a configuration to a search result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nas_compress import checks
from nas_compress.approaches import BasicConfig, SupernetSearch, by_registered_name, canonical
from nas_compress.archive import Archive, archive_path
from nas_compress.basic import (
    POPULATION,
    ModelFunctions,
    Params,
    basic_identity,
    basic_problem,
    basic_space,
    trials_of,
    user_metrics,
)
from nas_compress.config import NASConfig
from nas_compress.constraints import parse_constraint
from nas_compress.data import check_data, load_data
from nas_compress.errors import ConfigError, EvaluationError
from nas_compress.latency.finalists import measure_front
from nas_compress.objectives import AnalyticObjective
from nas_compress.objectives import objectives as objective_registry
from nas_compress.records import context_hash
from nas_compress.replay import Replay, load_replay
from nas_compress.result import SearchResult
from nas_compress.search import SearchProblem, SearchStrategy, strategies
from nas_compress.search.plug_in import OwnStrategy, check_own, describe_own, is_inner, make_own
from nas_compress.space import Architecture, SearchSpace
from nas_compress.stopping import StopRules
from nas_compress.structure import best_structure, structure_path
from nas_compress.study import Study, StudyProgress
from nas_compress.supernets import check_supernet, load_supernet, replay_of, supernets
from nas_compress.supernets.precision_config import in_precisions
from nas_compress.warm_start import warm_started

if TYPE_CHECKING:
    from nas_compress.data.base import ImageData
    from nas_compress.data.fit import Data
    from nas_compress.objectives.base import Objective
    from nas_compress.supernets.base import ImageSupernet, Supernet
    from nas_compress.supernets.precision import PrecisionSupernet

DESCRIPTORS = ("macs", "params")
"""Metrics that every super-network computes: predictors learn from them, whether they are optimised or not."""


class NAS:
    """Searches a super-network for the sub-networks with the best trade-offs, as INC's agent of this name did.

    Args:
        config: A `NASConfig`, or the path (or template name) of a YAML file with one.
        supernet: A super-network of one's own, trained, in place of the one that the config names.
        data: Data of one's own, in place of the dataset that the config names.
        strategy: A strategy of one's own, in place of that of the approach: a subclass of `SearchStrategy`, a function
            `(problem, seed=, population=)` that makes one, or an algorithm object of pymoo's, which is what searches on
            the predictions of an approach that makes some. What is measured, and how much, is the section's.
        model_builder: With approach `basic`: returns a model for plain values by name. This function and the next two
            may be set as attributes, too.
        train_func: With approach `basic`: trains a model in place; may be left out.
        eval_func: With approach `basic`: returns a model's metrics, as a number, a list, or a mapping by name.

    Raises:
        ConfigError: Something in the config is wrong; the message says what and what is allowed.

    Example:
        >>> config = NASConfig(approach="dynas", search_algorithm="nsga2")
        >>> config.dynas.supernet = "ofa_mbv3_d234_e346_k357_w1.2"
        >>> config.dynas.metrics = ["acc", "macs"]
        >>> result = NAS(config).search()
    """

    def __init__(
        self,
        config: NASConfig | str | Path,
        *,
        supernet: Supernet | None = None,
        data: Data | None = None,
        strategy: OwnStrategy | None = None,
        model_builder: Callable[[Params], Any] | None = None,
        train_func: Callable[[Any], Any] | None = None,
        eval_func: Callable[[Any], Any] | None = None,
    ) -> None:
        if not isinstance(config, NASConfig | str | Path):
            raise ConfigError(f"NAS wants a NASConfig or the path of a YAML file, got {type(config).__name__}")
        self.config = config if isinstance(config, NASConfig) else NASConfig.from_yaml(config)
        self._own_supernet, self._own_data, self._own_strategy = supernet, data, strategy
        self.model_builder = model_builder
        self.train_func = train_func
        self.eval_func = eval_func
        if strategy is not None:
            check_own(strategy)
        self._load = lru_cache(maxsize=1)(load_supernet)
        self._in_precisions = lru_cache(maxsize=1)(in_precisions)
        self._loaded_data: tuple[Any, Data] | None = None
        self._load_replay = lru_cache(maxsize=1)(load_replay)
        self._check()
        check_supernet(supernet)
        check_data(data)

    def _check(self) -> None:
        self.config.check(
            own_supernet=self._own_supernet is not None,
            own_data=self._own_data is not None,
            own_strategy=self._own_strategy is not None,
            own_algorithm=is_inner(self._own_strategy, self.config.approach),
        )
        functions = ("model_builder", "train_func", "eval_func")
        given = ("_own_supernet", "_own_data") if self._basic else functions
        if name := next((name for name in given if getattr(self, name) is not None), None):
            raise ConfigError(f"{name.removeprefix('_own_')} does not go with approach {self.config.approach!r}")

    @property
    def _basic(self) -> bool:
        return self.config.approach == "basic"

    @property
    def _section(self) -> SupernetSearch:
        return self.config.section

    @property
    def supernet(self) -> Supernet:
        """The super-network, with its weights; where quality is measured, it is checked to fit the data.

        It is loaded once for each super-network, checkpoint and need of weights that the config names.

        Raises:
            CheckpointError: The weights are missing, damaged, or of another net.
            DataError: The data is not for the net: another task, other channels, classes or vocabulary.
        """
        section, net = self._section, self._own_supernet
        named = str(section.supernet), section.supernet_ckpt_path
        if not self._measures_quality:
            return net or self._load(*named, trained=False, seed=self.config.seed)
        from nas_compress.data.fit import check_network, outputs

        if net is None:
            count = outputs(self.data)
            net = self._load(*named, num_classes=count, seed=self.config.seed)
        check_network(self.data, net)
        return net if section.precision is None else self._in_precisions(net, section.precision.model_dump_json())

    @property
    def _searched(self) -> Supernet | Replay:
        """The super-network, or the replay problem that stands in for it; that is read once for each folder."""
        section = self._section
        description = replay_of(section.supernet) if self._own_supernet is None else None
        if description is None:
            return self.supernet
        return self._load_replay(description.name, section.dataset_path or Path())

    @property
    def data(self) -> Data:
        """The data, in its fixed train, search-validation and test parts; loaded once for each choice of it."""
        if self._own_data is not None:
            return self._own_data
        section = self._section
        name = section.dataset or supernets.entry(str(section.supernet)).info["dataset"]
        wanted = (name, section.dataset_path, dict(section.dataset_options))
        if self._loaded_data is None or self._loaded_data[0] != wanted:
            self._loaded_data = (wanted, load_data(*wanted))
        return self._loaded_data[1]

    @property
    def space(self) -> SearchSpace:
        """The super-network's space, restricted as the config says; with approach `basic`, the config's.

        Raises:
            ConfigError: The restriction names a gene or a value that the space does not have.
        """
        allowed = self.config.search_space
        if self._basic:
            return basic_space(allowed or {})
        try:
            space = self._searched.space
            return space.restrict(allowed) if allowed else space
        except ConfigError as error:
            raise ConfigError(f"nas.search.search_space: {error}") from None

    @property
    def _measures_quality(self) -> bool:
        replayed = self._own_supernet is None and replay_of(self._section.supernet) is not None
        return not replayed and checks.needs_data(self._section.measured)

    @property
    def _calibrates(self) -> bool:
        """Whether sub-networks are recalibrated: those that are measured on images."""
        if not self._measures_quality:
            return False
        from nas_compress.data.base import ImageData

        return isinstance(self.data, ImageData)

    def search(self, on_trial: Callable[[StudyProgress], None] | None = None) -> SearchResult:
        """Run the search, or go on with it where it was interrupted.

        In a super-network, the largest architecture comes first (not with `denas`), then the front of the warm start.

        Args:
            on_trial: Called after every trial.

        Raises:
            ConfigError: The config was changed into one that cannot be used.
            ArchiveError: The results path holds another search.
            InfeasibleError: Nothing keeps the limits: as far as they can be computed, before anything is measured.
            EvaluationError: None of the first architectures could be measured.
        """
        self._check()
        if self._basic:
            return self._search_basic(on_trial)
        section = self._section
        reference = section.reference_point
        return self._run(
            section,
            section.num_evals,
            self.build,
            reference=None if reference is None else by_registered_name(reference),
            context=self.conditions(),
            on_trial=on_trial,
        )

    def _search_basic(self, on_trial: Callable[[StudyProgress], None] | None) -> SearchResult:
        section, functions = self.config.basic, self._functions()
        names = list(self.config.metrics)
        try:
            return self._run(
                section,
                trials_of(self.config),
                lambda architecture: functions.evaluate(architecture, names),
                reference=section.reference_point,
                context=functions.context(),
                on_trial=on_trial,
            )
        except EvaluationError as error:
            raise error from functions.failure

    def _run(
        self,
        section: SupernetSearch | BasicConfig,
        num_evals: int,
        build: Callable[[Architecture], Any],
        **options: Any,
    ) -> SearchResult:
        """Run a study of the problem, with its archive beside its table."""
        problem, path = self.problem(), section.results_csv_path
        if getattr(section, "zero_cost", False):
            from nas_compress.zero_cost import scored_first

            problem = scored_first(problem, self.supernet)
        strategy = self._strategy(problem)
        rules = StopRules(num_evals, section.patience, section.min_gain, section.time_budget)
        with Archive.open(archive_path(path), self._identity(problem)) as archive:
            result = Study(problem, strategy, archive, build, rules=rules, csv_path=path, **options).run()
            if not self._basic:
                measure_front(result, problem, self, archive)
            if self.config.approach == "denas":
                best_structure(result).save(structure_path(path))
            return result

    def _functions(self) -> ModelFunctions:
        return ModelFunctions(self.model_builder, self.eval_func, self.train_func)

    def problem(self) -> SearchProblem:
        """Return what is searched, with what an earlier search knows of it.

        Raises:
            ConfigError: The earlier search has nothing to offer.
            ArchiveError: Its file cannot be read.
        """
        if self._basic:
            return basic_problem(self.config)
        section, space = self._section, self.space
        objectives, limited = self.objectives(), self.limited()
        units = {o.name: o.unit for o in (*objectives, *limited)}
        problem = SearchProblem(
            space,
            objectives,
            constraints=[
                parse_constraint(text, name=canonical(name), unit=units[canonical(name)])
                for name, text in section.limits
            ],
            limited=limited,
            first=space.landmarks() if section.starts_with_largest else [],
            descriptors=self.descriptors(),
        )
        path = section.warm_start
        if path is None:
            return problem
        try:
            return warm_started(problem, path, self._searched.space, section.limited, section.population)
        except ConfigError as error:
            raise ConfigError(f"nas.{self.config.approach}.warm_start: {error}") from None

    def _strategy(self, problem: SearchProblem) -> SearchStrategy:
        seed, population = self.config.seed, POPULATION if self._basic else self._section.population
        options = self.config.strategy_options()
        if is_inner(self._own_strategy, self.config.approach):
            options["algorithm"] = self._own_strategy
        elif self._own_strategy is not None:
            return make_own(self._own_strategy, problem, seed=seed, population=population)
        return strategies.get(self.config.strategy)(problem, seed=seed, population=population, **options)

    def build(self, architecture: Architecture) -> Any:
        """Return an extracted sub-network, recalibrated where there are images, in evaluation mode.

        With precisions in the search, it is quantized as it says, and runs as it is deployed (`QuantizedSubnets`).
        None where the values come from published tables; with approach `basic`, the model that `model_builder` built
        and `train_func` trained.
        """
        if self._basic:
            return self._functions().build(architecture)
        if isinstance(self._searched, Replay):
            return None
        from nas_compress.objectives.calibration import calibrated_subnet

        net = self.supernet
        if not self._calibrates:
            return net.extract(architecture)
        data, images = cast("ImageData", self.data), self._section.calibration_images
        if self._section.precision is not None:
            return cast("PrecisionSupernet", net).quantized(architecture, data, images)
        return calibrated_subnet(cast("ImageSupernet", net), architecture, data, images)

    def objectives(self) -> list[Objective]:
        """Return what is optimised, in the order of `metrics`."""
        if self._basic:
            return [*user_metrics(self.config.metrics, self.config.higher_is_better)]
        return self._made(self.config.metrics)

    def limited(self) -> list[Objective]:
        """Return what is measured for the sake of a limit alone."""
        return [] if self._basic else self._made(self._section.limited)

    def metrics(self) -> list[Objective]:
        """Return all that is measured: the objectives, then what limits alone are about."""
        return [*self.objectives(), *self.limited()]

    def descriptors(self) -> list[AnalyticObjective]:
        """Return what the super-network computes of an architecture, optimised or not."""
        if self._basic:
            return []
        searched = self._searched
        names = [name for name in DESCRIPTORS if not isinstance(searched, Replay) or name in searched.metrics]
        return [o for o in self._made(names) if isinstance(o, AnalyticObjective)]

    def _made(self, names: Sequence[str]) -> list[Objective]:
        searched = self._searched
        if isinstance(searched, Replay):
            return searched.objectives(names)
        return [objective_registry.get(name).from_agent(self) for name in names]

    def _identity(self, problem: SearchProblem) -> dict[str, Any]:
        """Return what makes this search the one it is: an archive of another is refused."""
        own = {"algorithm": describe_own(self._own_strategy)} if self._own_strategy is not None else {}
        if self._basic:
            return basic_identity(self.config, problem) | own
        section = self._section
        identity: dict[str, Any] = {
            "approach": self.config.approach,
            "algorithm": self.config.strategy,
            "supernet": self._searched.name,
            "metrics": [o.name for o in problem.objectives],
            "population": section.population,
            "seed": self.config.seed,
            "space": problem.space.describe(),
        }
        if own and not is_inner(self._own_strategy, self.config.approach):
            identity |= own
        elif options := self.config.strategy_options() | own:
            identity["options"] = options
        if problem.constraints:
            names = dict.fromkeys(canonical(name) for name, _ in section.limits)
            identity["constraints"] = {n: [t for name, t in section.limits if canonical(name) == n] for n in names}
        if getattr(section, "zero_cost", False):
            identity["zero_cost"] = True
        if problem.prior:
            known = [[t.architecture.to_dict(), dict(t.values)] for t in problem.prior]
            identity["first"] = [a.to_dict() for a in problem.first]
            identity["prior"] = context_hash({"trials": known})
        return identity

    def conditions(self) -> dict[str, Any]:
        """Return what every value that depends on weights depends on besides the objective's own conditions."""
        searched = self._searched
        context: dict[str, Any] = {"supernet": searched.name, "checkpoint": searched.fingerprint()}
        if self._calibrates:
            from nas_compress.objectives.calibration import calibration_conditions

            context |= calibration_conditions(cast("ImageSupernet", self.supernet), self._section.calibration_images)
        if self._section.precision is not None:
            context["quantization"] = cast("PrecisionSupernet", searched).conditions()
        return context
