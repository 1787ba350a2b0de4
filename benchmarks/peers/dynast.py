"""DyNAS-T 1.6.0's search tactics, answered by a problem in place of its networks."""

from __future__ import annotations

import contextlib
import importlib
import math
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from nas_compress.errors import ConfigError
from nas_compress.space import Architecture, SearchSpace
from peers.dynast_import import search_tactics
from peers.run import Evaluations, PeerRun, Problem, quiet


@dataclass(frozen=True)
class _Supernet:
    """A super-network that DyNAS-T knows: its name, that of its runner's class and that of its quality metric."""

    name: str
    runner: str
    quality: str = "accuracy_top1"


PUBLISHED = (
    _Supernet("ofa_mbv3_d234_e346_k357_w1.0", "OFARunner"),
    _Supernet("bert_base_sst2", "BertSST2Runner", "accuracy_sst2"),
)
USERS_OWN = _Supernet("bootstrapnas_image_classification", "BootstrapNASRunner")
"""DyNAS-T's way for spaces that it does not know: generic one-hot features, one parameter per gene."""


def dynast_tactic(
    problem: Problem, metrics: Sequence[str], population: int, budget: int, seed: int, *, tactic: str
) -> PeerRun:
    """Search with one of DyNAS-T's tactics, with its own encodings, predictors, pymoo operators and settings.

    Two objectives are searched by its NSGA-II, three by its U-NSGA-III; LINAS predicts all of them. Its own
    encodings serve the spaces that it knows (OFA MobileNetV3, BERT SST-2), its way for users' own networks the others.

    Replaced are what its runners measure (answers of the problem), its logging, the order of its objectives (that
    of a set of texts, so it differs from process to process), and the worker processes of its grid search: that runs
    in this process, so that its CPU time is counted and none is spent on starting workers. It evaluates whole
    populations; what is beyond the budget is left out of the run.

    Args:
        problem: What to search.
        metrics: One to three of acc, macs, params, latency.
        population: The population, outer and inner.
        budget: Number of evaluations.
        seed: DyNAS-T's seed.
        tactic: `"LINAS"`, `"Evolutionary"` or `"RandomSearch"`.

    Raises:
        ConfigError: A metric, or a number of them, that DyNAS-T does not have.
    """
    tactics = search_tactics()
    supernet = _supernet_of(problem.space, tactics.SUPERNET_PARAMETERS)
    names = _metric_names(metrics, supernet)
    with tempfile.TemporaryDirectory() as folder, quiet(seed), _answered(supernet, problem, metrics) as evaluations:
        search = getattr(tactics, tactic)(
            supernet=supernet.name,
            optimization_metrics=names,
            measurements=names,
            num_evals=population * math.ceil(budget / population),
            population=budget if tactic == "RandomSearch" else population,
            results_path=str(Path(folder) / "results.csv"),
            seed=seed,
            bootstrapnas_supernetwork=_Genes(problem.space) if supernet is USERS_OWN else None,
        )
        search.optimization_metrics = names
        search.search()
        return evaluations.finish(budget)


def _metric_names(metrics: Sequence[str], supernet: _Supernet) -> list[str]:
    """Return DyNAS-T's names of metrics."""
    names = {"acc": supernet.quality, "macs": "macs", "params": "params", "latency": "latency"}
    if not 1 <= len(metrics) <= 3 or not set(metrics) <= set(names):
        raise ConfigError(f"metrics: {', '.join(metrics)}; DyNAS-T takes one to three of {', '.join(names)}")
    return [names[metric] for metric in metrics]


class _Genes:
    """A space as DyNAS-T takes a user's own: numbered widths, here one per gene, with choice indices for values."""

    def __init__(self, space: SearchSpace) -> None:
        self._choices = dict(enumerate([*range(n)] for n in space.cardinalities.tolist()))

    def get_search_space(self) -> dict[str, dict[int, list[int]]]:
        """Return the values of each width."""
        return {"width": self._choices}


class _Answered:
    """The part of a DyNAS-T runner that measures, answered by `evaluations`; it predicts as the runner does."""

    evaluations: Evaluations

    def __init__(self, **settings: Any) -> None:
        for metric in ("acc", "macs", "params", "latency"):
            setattr(self, f"{metric}_predictor", settings.get(f"{metric}_predictor"))

    def validate_macs_params(self, subnet: Any) -> tuple[float, float]:
        """Return MACs and parameters; 0 stands for what is not searched for, as in DyNAS-T's tables."""
        return self.evaluations.latest.get("macs", 0.0), self.evaluations.latest.get("params", 0.0)

    def measure_latency(self, subnet: Any) -> tuple[float, float]:
        """Return the latency in ms, and no spread."""
        return self.evaluations.latest["latency"], 0.0

    def validate_top1(self, subnet: Any) -> float:
        """Return the quality in %."""
        return self.evaluations.latest["acc"]

    def estimate_parameters(self, features: Any) -> Any:
        """Return predicted numbers of parameters: its runner of BERT lacks this, and fails for want of it."""
        return self.__dict__["params_predictor"].predict(features)

    validate_macs, validate_accuracy_sst2 = validate_macs_params, validate_top1


@contextlib.contextmanager
def _answered(supernet: _Supernet, problem: Problem, metrics: Sequence[str]) -> Iterator[Evaluations]:
    """Let the problem answer DyNAS-T's evaluations of a super-network, and yield what notes them."""
    tactics, evaluations = search_tactics(), Evaluations(problem, metrics)
    published, runner = tactics.EVALUATION_INTERFACE[supernet.name], getattr(tactics, supernet.runner)

    def eval_subnet(self: Any, x: Any) -> Any:
        if not self.predictor_mode:
            evaluations([_architecture(problem.space, supernet, self.manager, x)])
        return published.eval_subnet(self, x)

    interface = type("AnsweredInterface", (published,), {"eval_subnet": eval_subnet})
    answering = type("AnsweredRunner", (_Answered, runner), {"evaluations": evaluations})
    encoding = sys.modules[tactics.BootstrapNASEncoding.__module__]
    with (
        mock.patch.dict(tactics.EVALUATION_INTERFACE, {supernet.name: interface}),
        mock.patch.object(tactics, supernet.runner, answering),
        mock.patch.object(encoding, "nncf", mock.MagicMock()),  # names of the result's keys, which nobody reads here
        importlib.import_module("joblib").parallel_config(backend="sequential"),
    ):
        yield evaluations


def _architecture(space: SearchSpace, supernet: _Supernet, manager: Any, x: Any) -> Architecture:
    """Return the architecture of a row of DyNAS-T's choice indices."""
    if supernet is USERS_OWN:
        return space.decode(np.array([manager.reconstruct_pymoo_vector(x)], dtype=np.int64))[0]
    values = manager.translate2param(x)
    return Architecture({d.name: values.get(d.name, [c[0] for c in d.choices]) for d in space.dimensions})


def _supernet_of(space: SearchSpace, parameters: Mapping[str, Mapping[str, Any]]) -> _Supernet:
    """Return the super-network of DyNAS-T that has this space, its way for users' own where none has it."""
    elastic = {d.name: d.choices for d in space.dimensions if any(len(values) > 1 for values in d.choices)}
    for supernet in PUBLISHED:
        known = parameters[supernet.name].items()
        if elastic == {name: (tuple(sorted(p["vars"])),) * p["count"] for name, p in known}:
            return supernet
    return USERS_OWN
