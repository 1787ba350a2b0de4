"""Does an earlier search, of other hardware or of the same, help a new one? Hypervolume per number of evaluations.

    python benchmarks/warm_start.py ../shared/data --seeds 5
    python benchmarks/warm_start.py ../shared/data --cases phone --searches dynas

For each seed, a search of one platform is made, and searches of another are compared that begin cold, with the earlier
front measured first (`front`), and with all earlier trials for the predictors to learn from besides (`and trials`). The
earlier search is `dynas` with 250 evaluations and another seed; `long front` is that of NSGA-II with 5000, as in the
ConcurrentNAS paper (section 5.1, figure 8). What is taken from the earlier search is what the key `warm_start` takes
from its table. The hypervolume, with each problem's reference point, is divided by that of the best front known: the
true one of a small space, else what long NSGA-II searches and all searches of the case found together. Every cell is a
mean over seeds and its standard deviation; stars mark where a warm search was ahead of the cold one of the same seed
every time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from search_replay import POPULATION, Arena

from nas_compress.objectives.base import AnalyticObjective
from nas_compress.replay import Replay
from nas_compress.replay.nas_bench import NasBench201
from nas_compress.replay.ofa_mbv3 import OfaMobileNetV3Phone
from nas_compress.search import SearchProblem, Trial, pareto, strategies
from nas_compress.space.search_space import FloatMatrix
from nas_compress.warm_start import best_of

EARLIER, LONG = 250, 5000
LATER_SEED = 100
"""What separates the seeds of the later searches from those of the earlier ones."""

LINES = {
    "dynas": ("cold", "front", "and trials"),
    "concurrent": ("cold", "front", "and trials"),
    "nsga2": ("cold", "front", "long front"),
}
BUDGETS = {"dynas": (10, 20, 50, 100), "concurrent": (10, 20, 50, 100), "nsga2": (10, 20, 50, 100, 250)}


@dataclass(frozen=True)
class Case:
    """An earlier search and a later one of the same space.

    Attributes:
        summary: One line.
        earlier: Makes the problem of the earlier search, from the folder of published tables.
        later: Makes that of the later one.
        earlier_metrics: What the earlier search optimised.
        later_metrics: What the later one optimises.
    """

    summary: str
    earlier: Callable[[Path], Replay]
    later: Callable[[Path], Replay]
    earlier_metrics: tuple[str, ...] = ("acc", "latency")
    later_metrics: tuple[str, ...] = ("acc", "latency")


def _device(name: str) -> Callable[[Path], Replay]:
    return lambda folder: NasBench201(folder, device=name)


CASES: Mapping[str, Case] = {
    "xeon": Case("NAS-Bench-201, from a Raspberry Pi 4 to a Xeon", _device("raspi4"), _device("gold_6226")),
    "xeon_from_phone": Case("NAS-Bench-201, from a Pixel 3 to a Xeon", _device("pixel3"), _device("gold_6226")),
    "phone": Case(
        "OFA MobileNetV3 w1.2, from MACs to a phone's latency",
        OfaMobileNetV3Phone,
        OfaMobileNetV3Phone,
        ("acc", "macs"),
    ),
    "again": Case("OFA MobileNetV3 w1.2, the same phone again", OfaMobileNetV3Phone, OfaMobileNetV3Phone),
}


def search(
    arena: Arena, strategy: str, n: int, seed: int, first: Sequence[Trial] = (), prior: Sequence[Trial] = ()
) -> list[Trial]:
    """Return what a search measures, in order; the largest architecture first, as the `NAS` agent has it.

    Args:
        arena: The problem and its metrics.
        strategy: Name of the strategy.
        n: Evaluations.
        seed: The search's seed.
        first: Earlier trials whose front is measured first.
        prior: Earlier trials for the predictors.
    """
    space = arena.problem.space
    computed = [m for m in ("macs", "params") if m in arena.problem.metrics]
    descriptors = [o for o in arena.problem.objectives(computed) if isinstance(o, AnalyticObjective)]
    cold = SearchProblem(space, arena.objectives, descriptors=descriptors)
    front = best_of(first, cold, POPULATION)
    problem = SearchProblem(
        space, arena.objectives, first=[space.largest(), *front], prior=prior, descriptors=descriptors
    )
    made, found = strategies.get(strategy)(problem, seed=seed, population=POPULATION), list[Trial]()
    while len(found) < n and (asked := made.ask(n - len(found))):
        columns = [arena.problem.values(metric, asked).tolist() for metric in arena.metrics]
        rows = zip(asked, zip(*columns, strict=True), strict=True)
        made.tell(told := [Trial(a, dict(zip(arena.metrics, row, strict=True))) for a, row in rows])
        found += told
    return found


def known(trials: Sequence[Trial], metrics: Sequence[str]) -> list[Trial]:
    """Return trials with the values of some metrics alone: what a later search of those reads from a table."""
    return [Trial(t.architecture, {m: v for m, v in t.values.items() if m in metrics}) for t in trials]


def warm_searches(case: Case, folder: Path, strategy: str, seeds: int) -> tuple[Arena, dict[str, list[FloatMatrix]]]:
    """Return the later platform and, by line, the costs of what each seed's search measured."""
    earlier = Arena(case.earlier(folder), case.earlier_metrics)
    later = Arena(case.later(folder), case.later_metrics)
    budget = max(BUDGETS[strategy])
    found: dict[str, list[FloatMatrix]] = {line: [] for line in LINES[strategy]}
    for seed in range(seeds):
        short = known(search(earlier, "dynas", EARLIER, seed), later.metrics)
        for line, runs in found.items():
            long = line == "long front"
            old = known(search(earlier, "nsga2", LONG, seed), later.metrics) if long else short
            first, prior = ([] if line == "cold" else old), (old if line == "and trials" else [])
            trials = search(later, strategy, budget, seed + LATER_SEED, first, prior)
            values = [[t.values[metric] for metric in later.metrics] for t in trials]
            runs.append(pareto.costs(values, later.directions))
    return later, found


def show(later: Arena, best: float, strategy: str, found: Mapping[str, Sequence[FloatMatrix]]) -> None:
    """Print a line per way to begin."""
    budgets = BUDGETS[strategy]
    parts = {
        line: np.array([[later.volume(costs[:n]) / best for n in budgets] for costs in runs])
        for line, runs in found.items()
    }
    print(f"{strategy:<12}{'start':<12}" + "".join(f"{n:>9} evals   " for n in budgets))
    for line, rows in parts.items():
        ahead = np.all(rows > parts["cold"], axis=0).tolist()
        numbers = zip(rows.mean(axis=0), rows.std(axis=0), ahead, strict=True)
        cells = (f"{mean:.3f} ± {std:.3f} {'*' if always else ' '}" for mean, std, always in numbers)
        print(f"{'':<12}{line:<12}" + "".join(f"{cell:>18}" for cell in cells), flush=True)


def main() -> None:
    """Print a table per case and strategy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of published results")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES), help="default: all")
    parser.add_argument("--searches", nargs="+", choices=list(LINES), default=list(LINES), help="default: all")
    parser.add_argument("--seeds", type=int, default=5, help="searches per line (default 5)")
    arguments = parser.parse_args()
    started = time.monotonic()
    for name in arguments.cases:
        case, tables = CASES[name], {}
        for strategy in arguments.searches:
            later, tables[strategy] = warm_searches(case, arguments.data, strategy, arguments.seeds)
        every = [costs for found in tables.values() for runs in found.values() for costs in runs]
        best = later.volume(np.vstack([later.best(), *every]))
        print(f"\n{case.summary}: {', '.join(case.later_metrics)}")
        for strategy, found in tables.items():
            show(later, best, strategy, found)
    print(f"\n{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
