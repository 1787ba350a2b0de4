"""Our searches and other people's on published tables: hypervolume per number of evaluations, and own CPU seconds.

    python benchmarks/search_replay.py ../shared/data --seeds 10
    python benchmarks/search_replay.py ../shared/data --problems ofa_mbv3_measured --searches dynas dynast-linas
    python benchmarks/search_replay.py ../shared/data --metrics acc macs params --problems ofa_mbv3

The hypervolume, with each problem's reference point, is divided by that of the best front known: the true one of a
space that is small enough, else what long evolutionary searches and all searches of this run found together. Every
line is a mean over seeds and its standard deviation; a search's seeds are the same on every line. `--json` keeps each
run, and what it holds already is not run again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peers import PeerRun, available
from peers.run import Evaluations

from nas_compress.objectives.base import AnalyticObjective
from nas_compress.replay import Replay, load_replay
from nas_compress.search import SearchProblem, Trial, pareto, strategies
from nas_compress.search.algorithms import evolution
from nas_compress.space import Architecture
from nas_compress.space.search_space import FloatMatrix

PROBLEMS = ("nas_bench_201", "nas_bench_macro", "ofa_mbv3", "ofa_mbv3_measured", "bert_sst2")
BUDGETS = (20, 40, 50, 100, 250, 500)
OURS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "dynas": ("dynas", {}),
    "dynas population=20": ("dynas", {"population": 20}),
    "bo": ("bo", {}),
    "concurrent": ("concurrent", {}),
    "concurrent predictor=gp": ("concurrent", {"predictor": "gp"}),
    "full": ("full", {}),
    "nsga2": ("nsga2", {}),
    "nsga2 population=20": ("nsga2", {"population": 20}),
    "age": ("age", {}),
    "random": ("random", {}),
}
DEFAULT = ("dynas", "concurrent", "nsga2", "random")
POPULATION = 50
SMALL, LONG_POPULATION, LONG_GENERATIONS = 50_000, 300, 400


class Arena:
    """A replay problem with the metrics to optimise, and what its best front is worth.

    Args:
        problem: The problem.
        metrics: Registered names.
    """

    def __init__(self, problem: Replay, metrics: Sequence[str]) -> None:
        self.problem, self.metrics = problem, tuple(metrics)
        self.objectives = problem.objectives(metrics)
        self.directions = [o.direction for o in self.objectives]
        self.reference = pareto.costs([problem.reference[metric] for metric in metrics], self.directions)[0]

    def costs(self, encoded: NDArray[np.int64]) -> FloatMatrix:
        """Return what is minimised, shape (n, metrics)."""
        values = [self.problem.encoded_values(metric, encoded) for metric in self.metrics]
        return pareto.costs(np.column_stack(values), self.directions)

    def volume(self, costs: FloatMatrix) -> float:
        """Return the hypervolume of costs, in the units of the metrics."""
        return pareto.hypervolume(costs, self.reference)

    def best(self) -> FloatMatrix:
        """Return the best front known before any run: exact if the space is small, else of long searches."""
        space = self.problem.space
        if space.size() <= SMALL:
            costs = self.costs(np.array(list(space.enumerate())))
            return costs[pareto.non_dominated(costs)]
        found = np.vstack([self._long(seed) for seed in range(2)])
        return found[pareto.non_dominated(found)]

    def _long(self, seed: int) -> FloatMatrix:
        """Return the last front of a long NSGA-II inside the reference point."""
        search = evolution("nsga2", self.problem.space, len(self.metrics), LONG_POPULATION, seed)
        for _ in range(LONG_GENERATIONS):
            costs = self.costs(search.ask())
            beyond = np.maximum(costs - self.reference, 0) / np.abs(self.reference)
            search.tell(costs, beyond.sum(axis=1))
        return search.population()[1]

    def run(
        self,
        strategy: str,
        budget: int,
        seed: int,
        first: Sequence[Architecture] = (),
        prior: Sequence[Trial] = (),
        **options: Any,
    ) -> PeerRun:
        """Run one of our strategies, with what its problem asks for first and knows before; see `PeerRun`."""
        self._warm_up()
        computed = [m for m in ("macs", "params") if m in self.problem.metrics]
        descriptors = [o for o in self.problem.objectives(computed) if isinstance(o, AnalyticObjective)]
        problem = SearchProblem(self.problem.space, self.objectives, descriptors=descriptors, first=first, prior=prior)
        make, evaluations = strategies.get(strategy), Evaluations(self.problem, self.metrics)
        search, done = make(problem, seed=seed, **{"population": POPULATION, **options}), 0
        while done < budget and (asked := search.ask(budget - done)):
            rows = evaluations(asked).tolist()
            search.tell(
                [Trial(a, dict(zip(self.metrics, row, strict=True))) for a, row in zip(asked, rows, strict=True)]
            )
            done += len(asked)
        return evaluations.finish(budget)

    def _warm_up(self) -> None:
        """Compute a value of each metric: what a problem fits at its first use is no search's work."""
        for metric in self.metrics:
            self.problem.values(metric, [self.problem.space.smallest()])


def runs(arena: Arena, names: Sequence[str], budget: int, seeds: int, kept: Path | None) -> Iterator[dict[str, Any]]:
    """Yield a record of each search and seed: its costs in order, and its own CPU seconds at every evaluation."""
    peers, _ = available()
    records = json.loads(kept.read_text()) if kept is not None and kept.exists() else []
    for seed in range(seeds):
        for name in names:
            key = {"problem": arena.problem.name, "metrics": list(arena.metrics), "search": name, "seed": seed}
            record = next((r for r in records if key.items() <= r.items() and r["budget"] >= budget), None)
            if record is None:
                if name in OURS:
                    strategy, options = OURS[name]
                    run = arena.run(strategy, budget, seed, **options)
                else:
                    arena._warm_up()
                    run = peers[name](arena.problem, arena.metrics, POPULATION, budget, seed)
                costs = arena.costs(arena.problem.encode(run.architectures))
                record = {**key, "budget": budget, "costs": costs.tolist(), "clock": run.clock.tolist()}
                record["own_cpu_s"] = run.own_cpu_s
                records.append(record)
                if kept is not None:
                    kept.write_text(json.dumps(records))
            yield record


def show(arena: Arena, records: Sequence[Mapping[str, Any]], budgets: Sequence[int]) -> None:
    """Print a line per search."""
    costs = {id(r): np.array(r["costs"]) for r in records}
    best = arena.volume(np.vstack([arena.best(), *costs.values()]))
    point = ", ".join(f"{metric} {arena.problem.reference[metric]:g}" for metric in arena.metrics)
    print(f"\n{arena.problem.name}: {', '.join(arena.metrics)}; reference point {point}")
    print(f"{'search':<22}{'seeds':>5}" + "".join(f"{n:>8} evals " for n in budgets) + "  own CPU s at 250, all")
    for name in dict.fromkeys(r["search"] for r in records):
        mine = [r for r in records if r["search"] == name]
        parts = np.array([[arena.volume(costs[id(r)][:n]) / best for n in budgets] for r in mine])
        spent = [np.interp(250, range(1, len(r["clock"]) + 1), r["clock"]) for r in mine]
        cells = "".join(f"  {m:.3f} ± {s:.3f}" for m, s in zip(parts.mean(axis=0), parts.std(axis=0), strict=True))
        total = np.mean([r["own_cpu_s"] for r in mine])
        print(f"{name:<22}{len(mine):>5}{cells}  {np.mean(spent):>9.2f} {total:>8.2f}", flush=True)


def main() -> None:
    """Print a table per problem."""
    peers, missing = available()
    every = [*OURS, *peers]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of published tables")
    parser.add_argument("--problems", nargs="+", default=PROBLEMS, help=f"of {', '.join(PROBLEMS)}, ofa_mbv3_w1.2")
    parser.add_argument(
        "--searches", nargs="+", choices=every, default=[*DEFAULT, *peers], help="default: the main ones"
    )
    parser.add_argument("--metrics", nargs="+", default=["acc", "macs"], help="two or three metrics")
    parser.add_argument("--budgets", nargs="+", type=int, default=BUDGETS, help="numbers of evaluations")
    parser.add_argument("--seeds", type=int, default=10, help="searches per line (default 10)")
    parser.add_argument("--json", type=Path, help="file to keep the runs in")
    arguments = parser.parse_args()
    for line in missing:
        print(line)
    started = time.monotonic()
    for name in arguments.problems:
        arena = Arena(load_replay(name, arguments.data), arguments.metrics)
        found = list(runs(arena, arguments.searches, max(arguments.budgets), arguments.seeds, arguments.json))
        show(arena, found, arguments.budgets)
    print(f"\n{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
