"""Replay searches on OFA's published accuracy predictor and exact MACs: hypervolume per number of evaluations.

    python benchmarks/search_replay.py ../shared/data --seeds 5

Every strategy starts from the smallest and the largest sub-network. The hypervolume is taken between the accuracy
(%) of the smallest and the MACs of the largest, and divided by that of 45,000 evaluations of NSGA-II.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_compress.objectives.base import Measurement, Objective
from nas_compress.objectives.cost import Macs
from nas_compress.search import Trial, pareto, strategies
from nas_compress.search.evolution import Evolution
from nas_compress.space import Architecture, SearchSpace
from nas_compress.supernets import supernets

BUDGETS = (50, 100, 250)
KERNELS, RATIOS, RESOLUTION = (3, 5, 7), (3, 4, 6), 224
SEARCHES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("random", {}),
    ("nsga2", {"population": 50}),
    ("nsga2", {"population": 20}),
    ("dynas", {}),
    ("dynas", {"batch": 50}),
    ("dynas", {"predictor": "ridge"}),
    ("dynas", {"predictor": "svr"}),
)


class PredictedAccuracy(Objective):
    """ImageNet top-1 of OFA MobileNetV3 w1.0 as OFA's own predictor, a small MLP, sees it; not an analytic one here."""

    name, direction, unit, column = "acc", "maximize", "%", "Top-1 Acc (%)"

    def __init__(self, path: Path) -> None:
        with np.load(path) as weights:
            self._layers = [(weights[f"{i}.weight"].T, weights[f"{i}.bias"]) for i in (0, 2, 4, 6)]

    def __call__(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """Return accuracies in %, shape (n,)."""
        ks = np.array([a["ks"] for a in architectures])[..., None] == KERNELS
        e = np.array([a["e"] for a in architectures])[..., None] == RATIOS
        r = np.tile((RESOLUTION - 112) // 16 == np.arange(8), (len(ks), 1))
        x = np.hstack([ks.reshape(len(ks), -1), e.reshape(len(ks), -1), r]).astype(np.float32)
        for weight, bias in self._layers[:-1]:
            x = np.maximum(x @ weight + bias, 0)
        weight, bias = self._layers[-1]
        return np.asarray(100 * (x @ weight + bias)[:, 0], dtype=np.float64)

    def measure(self, subnet: Any, architecture: Architecture) -> Measurement:
        """Return the prediction; the sub-network is not looked at."""
        return Measurement(float(self([architecture])[0]))


class Replay:
    """The search problem: the space at one resolution, its two objectives, and what its best front is worth."""

    def __init__(self, data: Path) -> None:
        supernet = supernets.get("ofa_mbv3_d234_e346_k357_w1.0")()
        self.space: SearchSpace = supernet.space.restrict({"r": RESOLUTION})
        self.acc, self.macs = PredictedAccuracy(data / "ofa" / "ofa_mbv3_acc_predictor.npz"), Macs(supernet)
        self.corners = [self.space.smallest(), self.space.largest()]
        (low, _), (_, high) = self.costs(self.corners)
        self.reference = np.array([low, high])
        self.best = pareto.hypervolume(self._front(), self.reference)

    def costs(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """Return what is minimised, shape (n, 2)."""
        return np.column_stack([-self.acc(architectures), self.macs.compute(architectures)])

    def _front(self, population: int = 300, generations: int = 150) -> NDArray[np.float64]:
        rng = np.random.default_rng(0)
        evolution = Evolution(self.space, 2, population, rng, set())
        rows = self.space.encode([*self.corners, *self.space.sample(rng, population - 2)])
        seen = []
        for _ in range(generations):
            seen.append(self.costs(self.space.decode(rows)))
            evolution.select(rows, seen[-1])
            rows = evolution.breed(population)
        return np.vstack(seen)

    def run(self, strategy: str, seed: int, noise: float, **options: Any) -> list[float]:
        """Return the normalised hypervolume at each budget, then the CPU seconds the strategy itself took."""
        rng, cpu = np.random.default_rng([seed, 1]), time.process_time()
        search = strategies.get(strategy)(self.space, (self.acc, self.macs), seed=seed, first=self.corners, **options)
        cpu, costs = time.process_time() - cpu, np.empty((0, 2))
        while len(costs) < max(BUDGETS):
            start = time.process_time()
            asked = search.ask(max(BUDGETS) - len(costs))
            cpu += time.process_time() - start
            new = self.costs(asked)
            costs = np.vstack([costs, new])
            accuracies = -new[:, 0] + noise * rng.standard_normal(len(new))
            search.tell([Trial(a, {"acc": t, "macs": m}) for a, t, m in zip(asked, accuracies, new[:, 1], strict=True)])
        return [pareto.hypervolume(costs[:n], self.reference) / self.best for n in BUDGETS] + [cpu]


def main() -> None:
    """Print one line per search: mean and standard deviation over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of published results that holds ofa/")
    parser.add_argument("--seeds", type=int, default=5, help="searches per line (default 5)")
    parser.add_argument("--noise", type=float, default=0.0, help="standard deviation added to accuracy, in points")
    parser.add_argument("--only", help="one strategy")
    arguments = parser.parse_args()
    replay = Replay(arguments.data)
    print(f"{'search':<34}" + "".join(f"{n:>8} evals  " for n in BUDGETS) + "   CPU s")
    for strategy, options in SEARCHES:
        if arguments.only in (None, strategy):
            runs = [replay.run(strategy, seed, arguments.noise, **options) for seed in range(arguments.seeds)]
            mean, std = np.mean(runs, axis=0), np.std(runs, axis=0)
            label = strategy + "".join(f" {key}={value}" for key, value in options.items())
            cells = "".join(f"  {m:.3f} ± {s:.3f}" for m, s in zip(mean[:-1], std[:-1], strict=True))
            print(f"{label:<34}{cells}  {mean[-1]:6.2f}", flush=True)


if __name__ == "__main__":
    main()
