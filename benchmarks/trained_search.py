"""Searches of a trained super-network with measured latency: what approaches find at equal numbers of evaluations.

    python benchmarks/trained_search.py fashion_mnist_mbv3 --evaluations 80 --seeds 0 1 2

Quality is measured on search-validation examples, latency in ONNX Runtime on one thread (torch where a network is not
written as one ONNX file). All searches share one reference point, the smallest sub-network's quality less a point and
twice the largest one's latency, and an ideal point of perfect quality and no latency. Fronts of the first seed are
drawn side by side. Latencies of different searches were not measured in turns: differences of a few per cent between
fronts are the machine's.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from matplotlib.figure import Figure

from nas_compress import NAS, NASConfig, SearchResult
from nas_compress.supernets import supernets

ARMS = {
    "dynas": ("dynas", None),
    "concurrent": ("concurrent", None),
    "nsga2": ("evolutionary", "nsga2"),
    "random": ("random", None),
}


def agent(arguments: argparse.Namespace, arm: str, seed: int) -> NAS:
    """Return the agent of an arm and a seed, which goes on where an earlier run of this command stood."""
    approach, algorithm = ARMS[arm]
    config = NASConfig(approach=approach, seed=seed, **({"search_algorithm": algorithm} if algorithm else {}))
    section, entry = config.section, supernets.entry(arguments.supernet)
    section.supernet, section.supernet_ckpt_path = arguments.supernet, arguments.checkpoint
    section.dataset, section.dataset_path = entry.info["dataset"], arguments.data_path
    section.metrics = [entry.info["metrics"][0], "latency"]
    section.num_evals, section.population = arguments.evaluations, min(20, arguments.evaluations)
    section.test_fraction, section.latency.budget_s = arguments.fraction, 0.3
    section.results_csv_path = arguments.folder / arguments.supernet / f"{arm}_{seed}.csv"
    section.results_csv_path.parent.mkdir(parents=True, exist_ok=True)
    return NAS(config)


def ends(agent: NAS) -> tuple[dict[str, float], dict[str, float]]:
    """Return the reference point and the ideal point: see the top of this file."""
    quality, latency = agent.objectives()
    space = agent.supernet.space
    small, large = space.smallest(), space.largest()
    worst = quality.measure(agent.build(small), small).value + (-1 if quality.direction == "maximize" else 1)
    slow = 2 * latency.measure(agent.build(large), large).value
    best = 100.0 if quality.direction == "maximize" else 0.0
    return {quality.name: worst, latency.name: slow}, {quality.name: best, latency.name: 0.0}


def drawn(results: dict[str, SearchResult], path: Path) -> None:
    """Draw the fronts side by side."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    for arm, result in results.items():
        quality, latency = result.objectives
        front = result.front()
        points = sorted((t.values[latency.name], t.values[quality.name]) for t in front)
        axes.step(*zip(*points, strict=True), where="post", marker=".", label=f"{arm} ({len(result)} evaluations)")
        axes.set(xlabel=latency.label, ylabel=quality.label)
    axes.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    """Parse the command line, search, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("supernet")
    parser.add_argument("--checkpoint", help="weights; those that the network comes with by default")
    parser.add_argument("--data-path", help="where the data is")
    parser.add_argument("--evaluations", type=int, default=80)
    parser.add_argument("--fraction", type=float, default=0.34, help="share of the search-validation examples")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--folder", type=Path, default=Path("trained_search"))
    arguments = parser.parse_args()
    budgets = [n for n in (20, 40, 80, 160) if n <= arguments.evaluations]
    points = ends(agent(arguments, arguments.arms[0], arguments.seeds[0]))
    print(f"{arguments.supernet}; hypervolume in % of the box from {points[0]} to {points[1]}")
    print(f"{'':12s}" + "".join(f"{n:>16d}" for n in budgets))
    first: dict[str, SearchResult] = {}
    for arm in arguments.arms:
        rows = []
        for seed in arguments.seeds:
            result = agent(arguments, arm, seed).search()
            first.setdefault(arm, result)
            volumes = 100 * result.hypervolumes(*points)
            rows.append([float(volumes[min(n, len(volumes)) - 1]) for n in budgets])
        cells = []
        for column in zip(*rows, strict=True):
            spread = statistics.stdev(column) if len(column) > 1 else 0.0
            cells.append(f"{statistics.mean(column):9.2f} ± {spread:4.2f}")
        print(f"{arm:12s}" + "".join(cells), flush=True)
    drawn(first, arguments.folder / arguments.supernet / "fronts.png")


if __name__ == "__main__":
    main()
