"""What the steps of a recipe share: the folder, the super-network, the data, and the networks made so far."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nas_compress.agent import NAS
from nas_compress.data import load_data
from nas_compress.recipe import NasStep, Recipe
from nas_compress.space import Architecture
from nas_compress.space.precision import without_precision
from nas_compress.supernets import load_supernet, supernets

if TYPE_CHECKING:
    from torch import nn

    from nas_compress.compression.domains import Domain
    from nas_compress.data.fit import Data
    from nas_compress.result import SearchResult
    from nas_compress.study import StudyProgress
    from nas_compress.supernets.base import Supernet
    from nas_compress.supernets.precision import PrecisionSupernet

LARGEST, CHOSEN = "largest", "chosen"
"""The two networks of a recipe: the largest of the searched space, and the one that the recipe makes."""


class State:
    """The state of one run of a recipe.

    Everything is derived from the outcomes of the steps done so far and the files that they name, so that a run
    goes on in another process as if it had never stopped.

    Attributes:
        recipe: What is run.
        folder: Where all files go.
        outcomes: What each finished step came to, as plain data, by the step's label; `files` in it are the files
            that the step made, relative to the folder.
        step: Label of the step that runs now.
        work_keys: Names what each step has begun, by the step's label: the same key, the same work.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe = recipe
        self.folder = folder
        self.outcomes: dict[str, dict[str, Any]] = {}
        self.step = ""
        self.work_keys: dict[str, str] = {}
        self._result: SearchResult | None = None

    @property
    def work(self) -> Path:
        """The folder in which the current step keeps unfinished work, one for each way to do it."""
        return self._work_of(self.step)

    def _work_of(self, label: str) -> Path:
        return self.folder / "steps" / f"{label}-{self.work_keys[label]}"

    @cached_property
    def data(self) -> Data:
        """The recipe's data."""
        name = self.recipe.dataset or supernets.entry(self.recipe.supernet).info["dataset"]
        return load_data(name, self.recipe.dataset_path, self.recipe.dataset_options)

    @cached_property
    def domain(self) -> Domain[Any]:
        """What the steps do with such data."""
        from nas_compress.compression.domains import domain_of

        return domain_of(self.data)

    @cached_property
    def supernet(self) -> Supernet:
        """The super-network with its weights: those of the recipe's own step, of a file, the registry's, or random."""
        trained = self.outcomes.get("train_supernet")
        checkpoint = self.folder / trained["weights"] if trained else self.recipe.supernet_ckpt_path
        return self._supernet(checkpoint, trained=not self.recipe.untrained)

    def random_supernet(self) -> Supernet:
        """Return the super-network with random weights."""
        return self._supernet(None, trained=False)

    def _supernet(self, checkpoint: Path | None, *, trained: bool) -> Supernet:
        from nas_compress.data.fit import outputs

        name, seed = self.recipe.supernet, self.recipe.seed
        return load_supernet(name, checkpoint, trained=trained, num_classes=outputs(self.data), seed=seed)

    @property
    def roles(self) -> tuple[str, ...]:
        """The networks that are made: the largest is not where nothing trains it."""
        return (CHOSEN,) if self.recipe.untrained else (LARGEST, CHOSEN)

    @cached_property
    def agent(self) -> NAS:
        """The search of the recipe's `nas` step."""
        config = self.recipe.nas_config(self._work_of("nas") / "search_results.csv")
        return NAS(config, supernet=self.supernet, data=self.data)

    def search(self, on_trial: Callable[[StudyProgress], None] | None = None) -> SearchResult:
        """Return the search's result: made now or, where the `nas` step is done, as its archive has it."""
        if self._result is None:
            done = self.outcomes.get("nas")
            self._result = self.agent.search(on_trial) if done is None else self._searched(done["evaluations"])
        return self._result

    def _searched(self, evaluations: int) -> SearchResult:
        """Return the result of the finished step; its archive may hold more, of a search that went on for longer."""
        from nas_compress.objectives import AnalyticObjective
        from nas_compress.result import SearchResult

        found, largest = SearchResult.load(self.folder / "search_results.jsonl"), self.agent.space.largest()
        computed = [metric for metric in self.agent.metrics() if isinstance(metric, AnalyticObjective)]
        return SearchResult(
            found.trials[:evaluations],
            found.objectives,
            limited=found.limited,
            constraints=found.constraints,
            provenance=found.provenance,
            largest=largest,
            largest_values={metric.name: float(metric.compute([largest])[0]) for metric in computed},
        )

    @property
    def calibration_images(self) -> int:
        """Training images for BN recalibration, at most: as many as in the search."""
        options = self.recipe.step("nas")
        return (options if isinstance(options, NasStep) else NasStep()).calibration_images

    def architecture(self, role: str) -> Architecture:
        """Return the architecture of the largest or of the chosen sub-network, without precisions."""
        if role == CHOSEN:
            found = Architecture(self.outcomes["select"]["architecture"])
        else:
            found = (self.agent.space if self.recipe.step("nas") is not None else self.supernet.space).largest()
        return without_precision(found)

    def searched_methods(self, modules: int) -> list[str | None]:
        """Return how each module of the chosen network is quantized, where precisions were a part of the search.

        Args:
            modules: How many modules the network is a row of.

        Returns:
            For each module how ranges of activations are found, or None where it stays in fp32.
        """
        chosen = Architecture(self.outcomes["select"]["architecture"])
        net = cast("PrecisionSupernet", self.agent.supernet)
        return [net.options.methods[precision] for precision in net.precisions(chosen, modules)]

    def resolution(self, role: str) -> int | None:
        """Return the height and width in pixels that a network takes; None where there are no images."""
        return self.domain.size(self.supernet, self.architecture(role))

    def network(self, role: str, path: Path | None = None) -> nn.Module:
        """Return the largest or the chosen sub-network in evaluation mode.

        Args:
            role: Which of them.
            path: The file of its weights; by default that of the last step that changed it.
        """
        from nas_compress.compression.resize import fit_shapes
        from nas_compress.weights import load_into, read_state

        path = path or self.folder / self._last("networks", role)
        module, weights = self.supernet.extract(self.architecture(role)), read_state(path)
        fit_shapes(module, weights, str(path))
        load_into(module, weights, path)
        return module.eval()

    def keep_network(self, role: str, module: nn.Module) -> str:
        """Store a network that the current step made and return its file, relative to the folder."""
        from nas_compress.weights import write_state

        name = f"steps/{self.step}_{role}.safetensors"
        write_state(self.folder / name, module.state_dict())
        return name

    def model(self, name: str) -> Path:
        """Return the newest deployable file of a name, such as `"chosen fp32"`."""
        file: str = self._last("models", name)
        return self.folder / file

    @property
    def models(self) -> dict[str, Path]:
        """The newest deployable file of each name, in the order in which the names came up."""
        names = {name: None for outcome in self.outcomes.values() for name in _named(outcome, "models")}
        return {name: self.model(name) for name in names}

    def costs(self, name: str) -> dict[str, int]:
        """Return MACs and parameters of the network of a name, such as `"chosen fp32"`."""
        costs: dict[str, int] = self._last("costs", name)
        return costs

    def _last(self, kind: str, name: str) -> Any:
        """Return what the newest outcome that has it says of a name."""
        newest_first = (_named(outcome, kind) for outcome in reversed(self.outcomes.values()))
        return next(found[name] for found in newest_first if name in found)


def _named(outcome: dict[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = outcome.get(kind, {})
    return found
