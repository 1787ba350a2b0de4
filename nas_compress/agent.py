"""`NAS`: from a configuration to a search result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_compress import checks
from nas_compress.archive import Archive
from nas_compress.config import NASConfig, SupernetSearch
from nas_compress.data import load_data
from nas_compress.errors import ConfigError
from nas_compress.objectives import objectives as objective_registry
from nas_compress.result import SearchResult
from nas_compress.search import SearchStrategy, Trial, pareto, strategies
from nas_compress.space import Architecture, SearchSpace
from nas_compress.study import Study, StudyProgress
from nas_compress.supernets import load_supernet, supernets
from nas_compress.tables import read_results

if TYPE_CHECKING:
    from torch import nn

    from nas_compress.data.base import ImageData
    from nas_compress.objectives.base import Objective
    from nas_compress.supernets.base import ImageSupernet


class NAS:
    """Searches a super-network for the sub-networks with the best trade-offs, as INC's agent of this name did.

    Args:
        config: A `NASConfig`, or the path (or template name) of a YAML file with one.
        supernet: A super-network of one's own, trained, in place of the one that the config names.
        data: Data of one's own, in place of the dataset that the config names.

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
        supernet: ImageSupernet | None = None,
        data: ImageData | None = None,
    ) -> None:
        self.config = config if isinstance(config, NASConfig) else NASConfig.from_yaml(config)
        self._own_supernet = supernet
        self._own_data = data
        self._check()

    def _check(self) -> None:
        self.config.check(own_supernet=self._own_supernet is not None, own_data=self._own_data is not None)

    @property
    def _section(self) -> SupernetSearch:
        return self.config.section

    @cached_property
    def supernet(self) -> ImageSupernet:
        """The super-network, with its weights; where images are measured, it is checked to fit the data.

        Raises:
            CheckpointError: The weights are missing, damaged, or of another net.
            DataError: Channels or classes of the data are not those of the net.
        """
        images = self._measures_images
        net = self._own_supernet if self._own_supernet is not None else self._load_supernet(images)
        if images:
            from nas_compress.data.base import check_fit

            check_fit(self.data, net.in_channels, net.num_classes)
        return net

    def _load_supernet(self, images: bool) -> ImageSupernet:
        section = self._section
        return load_supernet(
            str(section.supernet),
            section.supernet_ckpt_path,
            trained=images,
            num_classes=len(self.data.classes) if images else None,
            seed=self.config.seed,
        )

    @cached_property
    def data(self) -> ImageData:
        """The data, in its fixed train, search-validation and test parts."""
        if self._own_data is not None:
            return self._own_data
        section = self._section
        name = section.dataset or supernets.entry(str(section.supernet)).info["dataset"]
        return load_data(name, section.dataset_path)

    @property
    def space(self) -> SearchSpace:
        """The super-network's space, restricted as the config says.

        Raises:
            ConfigError: The restriction names a gene or a value that the space does not have.
        """
        allowed = self.config.search_space
        try:
            return self.supernet.space.restrict(allowed) if allowed else self.supernet.space
        except ConfigError as error:
            raise ConfigError(f"nas.search.search_space: {error}") from None

    @property
    def _metrics(self) -> list[str]:
        return [objective_registry.canonical(name) for name in self.config.metrics]

    @property
    def _measures_images(self) -> bool:
        return checks.needs_images(self.config.metrics)

    def search(self, on_trial: Callable[[StudyProgress], None] | None = None) -> SearchResult:
        """Run the search, or go on with it where it was interrupted.

        The largest architecture is evaluated first, so that limits can refer to it, then the front of the warm
        start, if any.

        Args:
            on_trial: Called after every trial.

        Raises:
            ConfigError: The config was changed into one that cannot be used.
            ArchiveError: The results path holds another search.
            EvaluationError: None of the first architectures could be measured.
        """
        self._check()
        section = self._section
        space = self.space
        objectives = self.objectives()
        first = [space.largest(), *self._warm_start(space, objectives)]
        options: dict[str, Any] = {"seed": self.config.seed, "population": section.population, "first": first}
        if self.config.approach == "dynas":
            options["predictor"] = getattr(section, "predictor")  # noqa: B009 - only this section has it
        strategy: SearchStrategy = strategies.get(self.config.strategy)(space, objectives, **options)
        archive_path = section.results_csv_path.with_suffix(".jsonl")
        with Archive.open(archive_path, self._identity(space, first)) as archive:
            study = Study(
                space,
                objectives,
                strategy,
                archive,
                self.build,
                num_evals=section.num_evals,
                csv_path=section.results_csv_path,
                context=self._context(),
                on_trial=on_trial,
            )
            return study.run()

    def build(self, architecture: Architecture) -> nn.Module:
        """Return an extracted sub-network, recalibrated where there are images, in evaluation mode."""
        from nas_compress.objectives.calibration import calibrated_subnet

        if not self._measures_images:
            return self.supernet.extract(architecture)
        return calibrated_subnet(self.supernet, architecture, self.data, self._section.calibration_images)

    def objectives(self) -> list[Objective]:
        """Return the configured objectives, in the order of `metrics`."""
        return [objective_registry.get(name).from_agent(self) for name in self._metrics]

    def _warm_start(self, space: SearchSpace, objectives: Sequence[Objective]) -> list[Architecture]:
        """Return the front of an earlier search, as far as its table has this search's objectives."""
        path = self._section.warm_start
        if path is None:
            return []
        rows = read_results(path, space)
        shared = [o for o in objectives if any(o.name in values for _, values in rows)]
        if not shared:
            names = ", ".join(o.name for o in objectives)
            raise ConfigError(f"warm_start: {path} has none of this search's objectives ({names})")
        trials = [Trial(a, values) for a, values in rows if all(o.name in values for o in shared)]
        costs = pareto.costs([[t.values[o.name] for o in shared] for t in trials], [o.direction for o in shared])
        return [t.architecture for t, best in zip(trials, pareto.non_dominated(costs), strict=True) if best]

    def _identity(self, space: SearchSpace, first: Sequence[Architecture]) -> dict[str, Any]:
        """Return what makes this search this one: an archive of another is refused."""
        section = self._section
        identity: dict[str, Any] = {
            "approach": self.config.approach,
            "algorithm": self.config.strategy,
            "supernet": self.supernet.name,
            "metrics": self._metrics,
            "population": section.population,
            "seed": self.config.seed,
            "space": space.describe(),
        }
        if self.config.approach == "dynas":
            identity["predictor"] = getattr(section, "predictor")  # noqa: B009 - only this section has it
        if section.warm_start is not None:
            identity["first"] = [a.to_dict() for a in first]
        return identity

    def _context(self) -> dict[str, Any]:
        """Return what every value that depends on weights depends on besides the objective's own conditions."""
        context: dict[str, Any] = {"supernet": self.supernet.name, "checkpoint": self.supernet.fingerprint()}
        if self._measures_images:
            context["calibration_images"] = self._section.calibration_images
        return context
