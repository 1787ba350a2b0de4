"""Whether train-free scores help a search that measures: the best-scored of some random architectures measured first.

    python benchmarks/zero_cost_first.py ../shared/data --seeds 10

`dynas` on published tables (accuracy and MACs), with and without a scored sample of synflow: its best five measured
first (`first`), all of it as what predictors learn from (`prior`), or both. Printed are hypervolumes in parts of that
of the true front, as by `search_replay.py`, mean and standard deviation over seeds.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from search_replay import Arena
from torch import nn
from zero_cost.networks_cnn import nas_bench_201, nas_bench_macro

from nas_compress.proxies import score
from nas_compress.proxies.initial import initialised
from nas_compress.replay import load_replay
from nas_compress.search import SearchProblem, Trial
from nas_compress.warm_start import best_of

NETWORKS: dict[str, Callable[[str], nn.Module]] = {"nas_bench_201": nas_bench_201, "nas_bench_macro": nas_bench_macro}
BUDGETS = (10, 20, 40, 100)
BEST = 5


def scored(problem: SearchProblem, build: Callable[[str], nn.Module], sample: int, seed: int) -> list[Trial]:
    """Return random architectures with the logarithm of synflow in the place of their accuracy, and their MACs."""
    architectures = dict.fromkeys(problem.space.sample(np.random.default_rng(seed), sample))
    macs = next(o for o in problem.objectives if o.name == "macs")
    trials = []
    for architecture in architectures:
        network = initialised(build("".join(map(str, architecture["op"]))), 0)
        value = score(network, torch.ones(1, 3, 32, 32), ["synflow"])["synflow"]
        cost = macs.measure(None, architecture).value
        trials.append(Trial(architecture, {"acc": math.log(value) if value > 0 else -20.0, "macs": cost}))
    return trials


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--problems", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--sample", type=int, default=50)
    parser.add_argument("--budgets", nargs="+", type=int, default=BUDGETS, help="numbers of measurements")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.problems:
        arena = Arena(load_replay(name, args.data), ["acc", "macs"])
        plain, best = SearchProblem(arena.problem.space, arena.objectives), arena.volume(arena.best())
        found: dict[str, list[list[float]]] = {way: [] for way in ("none", "first", "prior", "both")}
        for seed in range(args.seeds):
            prior = scored(plain, NETWORKS[name], args.sample, seed)
            first = best_of(prior, plain, BEST)
            for way, parts in found.items():
                run = arena.run(
                    "dynas",
                    max(args.budgets),
                    seed,
                    first=first if way in ("first", "both") else (),
                    prior=prior if way in ("prior", "both") else (),
                )
                costs = arena.costs(arena.problem.encode(run.architectures))
                parts.append([arena.volume(costs[:n]) / best for n in args.budgets])
        for way, parts in found.items():
            table = np.array(parts)
            cells = "  ".join(f"{m:.3f} ± {s:.3f}" for m, s in zip(table.mean(0), table.std(0), strict=True))
            print(f"{name:16} {way:6} after {', '.join(map(str, args.budgets))}: {cells}", flush=True)


if __name__ == "__main__":
    main()
