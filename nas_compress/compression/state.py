"""What the steps of a recipe share: the folder, the super-network, the data, and the networks made so far."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nas_compress.agent import NAS
from nas_compress.data import load_data
from nas_compress.recipe import Recipe
from nas_compress.space import Architecture
from nas_compress.supernets import load_supernet, supernets

if TYPE_CHECKING:
    from torch import nn

    from nas_compress.data.base import ImageData
    from nas_compress.result import SearchResult
    from nas_compress.study import StudyProgress
    from nas_compress.supernets.base import ImageSupernet

LARGEST, CHOSEN = "largest", "chosen"
"""The two networks of a recipe: the largest of the searched space, and the one that the recipe makes."""


class State:
    """The state of one run of a recipe.

    Everything is derived from the outcomes of the steps done so far and the files that they name, so that a run
    goes on in another process as if it had never stopped.

    Attributes:
        recipe: What is run.
        folder: Where all files go.
        outcomes: What each finished step came to, as plain data, by the step's name; `files` in it are the files
            that the step made, relative to the folder.
        work_keys: Names what each step has begun, by the step's name: the same key, the same work.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe = recipe
        self.folder = folder
        self.outcomes: dict[str, dict[str, Any]] = {}
        self.work_keys: dict[str, str] = {}
        self._result: SearchResult | None = None

    def work(self, step: str) -> Path:
        """Return the folder in which a step keeps unfinished work, one for each way to do it."""
        return self.folder / "steps" / f"{step}-{self.work_keys[step]}"

    @cached_property
    def data(self) -> ImageData:
        """The recipe's data."""
        name = self.recipe.dataset or supernets.entry(self.recipe.supernet).info["dataset"]
        return cast("ImageData", load_data(name, self.recipe.dataset_path))

    @cached_property
    def supernet(self) -> ImageSupernet:
        """The super-network with its trained weights: those of the recipe's own step, of a file, or published."""
        trained = self.outcomes.get("train_supernet")
        checkpoint = self.folder / trained["weights"] if trained else self.recipe.supernet_ckpt_path
        net = load_supernet(self.recipe.supernet, checkpoint, num_classes=len(self.data.classes))
        return cast("ImageSupernet", net)

    @cached_property
    def agent(self) -> NAS:
        """The search of the recipe's `nas` step."""
        config = self.recipe.nas_config(self.work("nas") / "search_results.csv")
        return NAS(config, supernet=self.supernet, data=self.data)

    def search(self, on_trial: Callable[[StudyProgress], None] | None = None) -> SearchResult:
        """Return the search's result: made now, or read back from the archive."""
        if self._result is None:
            self._result = self.agent.search(on_trial)
        return self._result

    def architecture(self, role: str) -> Architecture:
        """Return the architecture of the largest or of the chosen sub-network."""
        if role == LARGEST:
            return self.agent.space.largest()
        return Architecture(self.outcomes["select"]["architecture"])

    def network(self, role: str) -> nn.Module:
        """Return the largest or the chosen sub-network, as the last step left it, in evaluation mode."""
        from nas_compress.weights import load_into, read_state

        path = self.folder / next(
            outcome["networks"][role]
            for outcome in reversed(self.outcomes.values())
            if role in outcome.get("networks", {})
        )
        module = self.supernet.extract(self.architecture(role))
        load_into(module, read_state(path), path)
        return module.eval()

    def keep_network(self, step: str, role: str, module: nn.Module) -> str:
        """Store a network that a step made and return its file, relative to the folder."""
        from nas_compress.weights import write_state

        name = f"steps/{step}_{role}.safetensors"
        write_state(self.folder / name, module.state_dict())
        return name
