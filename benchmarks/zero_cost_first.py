"""Whether train-free scores help a search that measures: the best-scored of some random architectures measured first.

    python benchmarks/zero_cost_first.py ../shared/data --seeds 10

`dynas` on published tables (accuracy and MACs), with and without a scored sample of synflow: its best five measured
first (`first`), all of it as what predictors learn from (`prior`), or both. Printed are normalised hypervolumes, mean
and standard deviation over seeds.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from zero_cost.networks_cnn import nas_bench_201, nas_bench_macro

from nas_compress.proxies import score
from nas_compress.proxies.initial import initialised
from nas_compress.replay import Replay, load_replay
from nas_compress.search import SearchProblem, Trial, strategies
from nas_compress.search.volume import VolumeCurve
from nas_compress.warm_start import best_of

NETWORKS: dict[str, Callable[[str], nn.Module]] = {"nas_bench_201": nas_bench_201, "nas_bench_macro": nas_bench_macro}
BUDGETS = (10, 20, 40, 80)
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


def volumes(problem: SearchProblem, replay: Replay, seed: int) -> list[float]:
    """Return the hypervolume after every measurement of a search."""
    strategy = strategies.get("dynas")(problem, seed=seed)
    curve = VolumeCurve(problem.objectives, {name: replay.reference[name] for name in ("acc", "macs")})
    while len(curve.volumes) < max(BUDGETS):
        asked = strategy.ask(max(BUDGETS) - len(curve.volumes))
        trials = [Trial(a, {o.name: o.measure(None, a).value for o in problem.objectives}) for a in asked]
        strategy.tell(trials)
        for trial in trials:
            curve.add(trial.values)
    return curve.volumes


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--problems", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--sample", type=int, default=50)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.problems:
        replay = load_replay(name, args.data)
        plain = SearchProblem(replay.space, replay.objectives(["acc", "macs"]))
        found: dict[str, list[list[float]]] = {way: [] for way in ("none", "first", "prior", "both")}
        for seed in range(args.seeds):
            prior = scored(plain, NETWORKS[name], args.sample, seed)
            first = best_of(prior, plain, BEST)
            for way, runs in found.items():
                problem = replace(
                    plain,
                    first=first if way in ("first", "both") else (),
                    prior=prior if way in ("prior", "both") else (),
                )
                runs.append(volumes(problem, replay, seed))
        for way, runs in found.items():
            table = np.array(runs)[:, np.array(BUDGETS) - 1]
            cells = "  ".join(f"{m:.4f} +- {s:.4f}" for m, s in zip(table.mean(0), table.std(0), strict=True))
            print(f"{name:16} {way:6} after {BUDGETS}: {cells}", flush=True)


if __name__ == "__main__":
    main()
