"""Zero-cost scores against trained accuracy: rank correlations with bootstrap intervals, and CPU seconds.

    python benchmarks/zero_cost ../shared/data --problems nas_bench_201 --count 300 --json scores.json

Every network is built, initialised and scored with each proxy; `--json` keeps the scores, and what it holds already is
not computed again. A network that a proxy is not fit for counts as its worst; they are counted. The correlation is
that of the mean rank over the seeds; the intervals are of 95 %, by drawing networks with replacement.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from correlation import Vector, correlations
from problems import PROBLEMS, settings
from scores import Scores, columns, compute

from nas_compress.proxies import proxies


def main() -> None:
    """Read the arguments, compute, print a table for each problem."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="folder of published data")
    parser.add_argument("--problems", nargs="+", choices=list(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--proxies", nargs="+", default=list(proxies))
    parser.add_argument("--count", type=int, default=200, help="networks of each problem")
    parser.add_argument("--batch", type=int, default=32, help="samples that networks are scored on")
    parser.add_argument("--seeds", type=int, default=1, help="initialisations that scores are the mean of")
    parser.add_argument("--json", type=Path, default=Path("zero_cost_scores.json"))
    args = parser.parse_args()
    names, seeds = [proxies.canonical(name) for name in args.proxies], list(range(args.seeds))
    scores = Scores(args.json)
    for each in args.problems:
        problem = PROBLEMS[each](args.data, args.count, args.batch)
        compute(problem, settings(problem), names, seeds, scores)
        print(f"\n{settings(problem)}, {len(problem.keys)} networks, {len(seeds)} seeds\n")
        print(f"{'proxy':24s} {'target':14s} {'Spearman':>22s} {'Kendall':>22s} {'failed':>6s} {'CPU s':>7s}")
        for name in names:
            found = list(columns(scores, problem, settings(problem), name, seeds))
            sign = -1 if proxies.entry(name).info["direction"] == "minimize" else 1
            print_rows(name, problem.targets, [sign * values for values, _ in found], [times for _, times in found])


def print_rows(name: str, targets: Mapping[str, Vector], values: Sequence[Vector], times: Sequence[Vector]) -> None:
    """Print a proxy's line for every target."""
    for target, accuracy in targets.items():
        result = correlations(values, accuracy)
        spearman, kendall = (
            f"{r:6.3f} [{low:6.3f}, {high:6.3f}]" for r, low, high in (result.spearman, result.kendall)
        )
        seconds = sum(part.mean() for part in times) / len(times)
        print(f"{name:24s} {target:14s} {spearman} {kendall} {result.failed:6d} {seconds:7.3f}", flush=True)


main()
