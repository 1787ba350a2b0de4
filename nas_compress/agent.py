"""`NAS`: from a configuration to a search result."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import lru_cache
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

log = logging.getLogger(__name__)


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
        self._load = lru_cache(maxsize=1)(_supernet)
        self._load_data = lru_cache(maxsize=1)(load_data)
        self._check()

    def _check(self) -> None:
        self.config.check(own_supernet=self._own_supernet is not None, own_data=self._own_data is not None)

    @property
    def _section(self) -> SupernetSearch:
        return self.config.section

    @property
    def supernet(self) -> ImageSupernet:
        """The super-network, with its weights; where images are measured, it is checked to fit the data.

        It is loaded once for each super-network, checkpoint and need of weights that the config names.

        Raises:
            CheckpointError: The weights are missing, damaged, or of another net.
            DataError: Channels or classes of the data are not those of the net.
        """
        section, images = self._section, self._measures_images
        net = self._own_supernet
        if net is None:
            classes = len(self.data.classes) if images else None
            net = self._load(str(section.supernet), section.supernet_ckpt_path, images, classes, self.config.seed)
        if images:
            from nas_compress.data.base import check_fit

            check_fit(self.data, net.in_channels, net.num_classes)
        return net

    @property
    def data(self) -> ImageData:
        """The data, in its fixed train, search-validation and test parts; loaded once for each name and path."""
        if self._own_data is not None:
            return self._own_data
        section = self._section
        name = section.dataset or supernets.entry(str(section.supernet)).info["dataset"]
        return self._load_data(name, section.dataset_path)

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
        options |= section.strategy_options()
        strategy: SearchStrategy = strategies.get(self.config.strategy)(space, objectives, **options)
        with Archive.open(archive_path(section.results_csv_path), self._identity(space, first)) as archive:
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
        rows = read_results(path, self.supernet.space)
        shared = [o for o in objectives if any(o.name in values for _, values in rows)]
        if not shared:
            names = ", ".join(o.name for o in objectives)
            raise ConfigError(f"warm_start: {path} has none of this search's objectives ({names})")
        inside = [(a, values) for a, values in rows if space.contains(a)]
        if len(inside) < len(rows):
            log.info("%d of %d architectures of %s are outside search_space", len(rows) - len(inside), len(rows), path)
        trials = [Trial(a, values) for a, values in inside if all(o.name in values for o in shared)]
        if not trials:
            raise ConfigError(f"warm_start: {path} has no architecture inside search_space with all of the objectives")
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
        identity |= section.strategy_options()
        if section.warm_start is not None:
            identity["first"] = [a.to_dict() for a in first]
        return identity

    def _context(self) -> dict[str, Any]:
        """Return what every value that depends on weights depends on besides the objective's own conditions."""
        context: dict[str, Any] = {"supernet": self.supernet.name, "checkpoint": self.supernet.fingerprint()}
        if self._measures_images:
            context["calibration_images"] = self._section.calibration_images
        return context


def _supernet(name: str, checkpoint: Path | None, trained: bool, classes: int | None, seed: int) -> ImageSupernet:
    return load_supernet(name, checkpoint, trained=trained, num_classes=classes, seed=seed)


def archive_path(results_csv_path: Path) -> Path:
    """Return the archive that lies beside a results table: `.jsonl` in place of `.csv`, or after another name."""
    path = results_csv_path
    return path.with_suffix(".jsonl") if path.suffix == ".csv" else path.with_name(path.name + ".jsonl")
