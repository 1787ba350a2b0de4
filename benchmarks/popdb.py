"""Does a space that PopDB restricted on one platform help searches on another? Hypervolume per number of evaluations.

    python benchmarks/popdb.py ../shared/data --seeds 5 --history 10000

For each seed, NSGA-II searches OFA MobileNetV3 w1.2 for accuracy and MACs, PopDB restricts the space to where it was
dense, and searches of the whole and of the restricted space for accuracy and another cost (latency on a phone, or
parameters) are compared, pair by pair. Accuracy is OFA's own predictor's, latency a published look-up table's. The
hypervolume, with the problem's reference point, is divided by that of the best front known: of long NSGA-II searches
of both spaces. `reach` is what such a search of the restricted space finds: 1 if it lost nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas_compress.replay import Replay, load_replay
from nas_compress.search import SearchProblem, Trial, pareto, strategies
from nas_compress.search.popdb import PopDB, popdb
from nas_compress.space import Architecture, SearchSpace

PROBLEM = "ofa_mbv3_w1.2"
SEARCHED = ("acc", "macs")
RELATED = (("acc", "latency"), ("acc", "params"))
BUDGETS = (50, 100, 250)
SEARCHES = ("random", "nsga2", "concurrent", "dynas")
LONG, LONG_POPULATION = 20_000, 200

FloatMatrix = NDArray[np.float64]


@dataclass(frozen=True)
class Platform:
    """The replay problem with two of its metrics."""

    problem: Replay
    metrics: Sequence[str]

    def search(self, space: SearchSpace, strategy: str, n: int, seed: int, population: int) -> list[Architecture]:
        """Return what a strategy evaluates in a part of the space, in order."""
        objectives = self.problem.objectives(self.metrics)
        search = strategies.get(strategy)(SearchProblem(space, objectives), seed=seed, population=population)
        found: list[Architecture] = []
        while len(found) < n and (asked := search.ask(n - len(found))):
            columns = [self.problem.values(metric, asked).tolist() for metric in self.metrics]
            rows = zip(asked, zip(*columns, strict=True), strict=True)
            search.tell([Trial(a, dict(zip(self.metrics, row, strict=True))) for a, row in rows])
            found += asked
        return found

    def volume(self, architectures: Sequence[Architecture]) -> float:
        """Return the hypervolume of architectures, in the units of the metrics."""
        directions = [o.direction for o in self.problem.objectives(self.metrics)]
        values = np.column_stack([self.problem.values(metric, architectures) for metric in self.metrics])
        reference = pareto.costs([self.problem.reference[metric] for metric in self.metrics], directions)[0]
        return pareto.hypervolume(pareto.costs(values, directions), reference)


def restrict(problem: Replay, history: int, seed: int, population: int) -> PopDB:
    """Return PopDB's restriction after a search of the first platform."""
    searched = Platform(problem, SEARCHED).search(problem.space, "nsga2", history, seed, population)
    return popdb(problem.space, searched)


def compare(platform: Platform, found: Sequence[PopDB], names: Sequence[str], population: int) -> None:
    """Print, for one platform, what the restricted spaces can reach and how fast searches get there."""
    long = [platform.search(platform.problem.space, "nsga2", LONG, seed, LONG_POPULATION) for seed in range(2)]
    reached = [platform.search(each.restricted, "nsga2", LONG, 0, LONG_POPULATION) for each in found]
    best = platform.volume([a for run in (*long, *reached) for a in run])
    print(
        f"\n{' and '.join(platform.metrics)}: reach of the whole space {platform.volume(long[0]) / best:.4f}, ", end=""
    )
    print(f"of the restricted ones {_spread([platform.volume(run) / best for run in reached], 4)}")
    print(f"{'search':<12}{'space':<12}" + "".join(f"{n:>7} evals  " for n in BUDGETS))
    for name in names:
        rows = {}
        for label in ("whole", "restricted"):
            spaces = [each.restricted if label == "restricted" else each.space for each in found]
            runs = [platform.search(s, name, max(BUDGETS), seed, population) for seed, s in enumerate(spaces)]
            rows[label] = np.array([[platform.volume(run[:n]) / best for n in BUDGETS] for run in runs])
            print(f"{name:<12}{label:<12}" + "".join(f"{_spread(c):>15}" for c in rows[label].T), flush=True)
        gain = rows["restricted"] - rows["whole"]
        print(f"{'':<12}{'difference':<12}" + "".join(f"{_spread(c, sign='+'):>15}" for c in gain.T), flush=True)


def _spread(values: Sequence[float] | FloatMatrix, digits: int = 3, sign: str = "") -> str:
    return f"{np.mean(values):{sign}.{digits}f} ± {np.std(values):.{digits}f}"


def main() -> None:
    """Print what PopDB took from the space for each seed, then a table per related platform."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of published results that holds ofa/")
    parser.add_argument("--seeds", type=int, default=5, help="histories, and searches per line (default 5)")
    parser.add_argument("--history", type=int, default=10_000, help="evaluations of the first search (default 10000)")
    parser.add_argument("--population", type=int, default=50, help="population of all searches (default 50)")
    parser.add_argument("--searches", nargs="*", default=[n for n in SEARCHES if n in strategies], help="strategies")
    arguments = parser.parse_args()
    problem = load_replay(PROBLEM, arguments.data)
    found = []
    for seed in range(arguments.seeds):
        each = restrict(problem, arguments.history, seed, arguments.population)
        lost = ", ".join(f"{len(genes)} {name}" for name, genes in each.dropped_by_dimension.items())
        print(f"seed {seed}: {each.clusters} clusters, noise {each.noise / each.architectures:.0%}, ", end="")
        print(f"genes that lost values: {lost}; size {each.size_before:.1e} -> {each.size_after:.1e}", flush=True)
        found.append(each)
    for metrics in RELATED:
        compare(Platform(problem, metrics), found, arguments.searches, arguments.population)


if __name__ == "__main__":
    main()
