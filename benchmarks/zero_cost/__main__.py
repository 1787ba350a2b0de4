"""Zero-cost scores against trained accuracy: rank correlations with bootstrap intervals, and CPU seconds.

    python benchmarks/zero_cost ../shared/data --problems nas_bench_201 --count 300 --json scores.json
    python benchmarks/zero_cost ../shared/data --proxies de_score params macs --batch 8
    python benchmarks/zero_cost ../shared/data --proxies de_score --fit-weights nas_bench_macro --batch 8

Every network is built, initialised and scored with each proxy; `--json` keeps the scores, and what it holds already is
not computed again. A network that a proxy is not fit for counts as its worst; they are counted. The correlation is
that of the mean rank over the seeds; the intervals are of 95 %, by drawing networks with replacement.

`de_score` and `de_score_original` are made of columns of their own, which may be asked for as well (`expressivity`,
`original_complexity`, ...). DE-Score's scale is that of the networks at hand. `--fit-weights` finds the weights of the
terms, `--terms` (tenths that add up to 1, none below .1), with the largest Kendall tau on the first `--count` networks
of one problem, and prints what they come to on all. `--skip` leaves the first so many of these out of the tables:
those that choices, such as the weights, were made on. The last column has published values of Spearman's
coefficient, see `published.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from benches import PROBLEMS, settings
from correlation import Vector, correlations
from published import PUBLISHED
from scores import COLUMNS, Problem, Scores, columns, compute
from terms import SCORES, Weights, fitted, kind_of, needed, scored, sign, values_of

from nas_compress.proxies import proxies
from nas_compress.proxies.de_score import DEFAULT_WEIGHTS, SIGNS

Row = tuple[str, Sequence[Vector], float]
"""A name, the scores of each seed, and the CPU seconds of a network and seed."""


def main() -> None:
    """Read the arguments, compute, print a table for each problem."""
    args = _arguments()
    names = [name if name in (*SCORES, *COLUMNS) else proxies.canonical(name) for name in args.proxies]
    seeds, scores, weights = list(range(args.seeds)), Scores(args.json), None
    if args.fit_weights:
        problem = PROBLEMS[args.fit_weights](args.data, args.count, args.batch)
        names_of_terms = args.terms or list(DEFAULT_WEIGHTS[kind_of(problem)])
        compute(problem, settings(problem), names_of_terms, seeds, scores)
        terms = values_of(scores, problem, settings(problem), names_of_terms, seeds)
        weights = fitted(terms, next(iter(problem.targets.values())))
        print(
            f"weights fitted on {settings(problem)}:", ", ".join(f"{name} {value}" for name, value in weights.items())
        )
    for each in args.problems:
        problem = PROBLEMS[each](args.data, args.count, args.batch).after(args.skip)
        if not problem.keys:
            print(f"\n{each} has {args.skip} networks or fewer: none is left (--skip)")
            continue
        print(f"\n{settings(problem)}, {len(problem.keys)} networks, {len(seeds)} seeds\n")
        print(f"{'proxy':24s} {'target':14s} {'Spearman':>23s} {'Kendall':>23s} failed   CPU s published")
        for row in rows(problem, names, seeds, scores, weights):
            print_rows(row, problem.targets, PUBLISHED.get(problem.name, {}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of published data")
    parser.add_argument("--problems", nargs="+", choices=list(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--proxies", nargs="+", default=[*proxies, *SCORES], help="proxies, DE-Scores, their terms")
    parser.add_argument("--fit-weights", choices=list(PROBLEMS), help="fit DE-Score's weights on this problem")
    parser.add_argument("--terms", nargs="+", choices=list(SIGNS), help="terms to fit; by default those with a weight")
    parser.add_argument("--count", type=int, default=200, help="networks of each problem")
    parser.add_argument("--skip", type=int, default=0, help="leave out so many: those that choices were made on")
    parser.add_argument("--batch", type=int, default=32, help="samples that networks are scored on")
    parser.add_argument("--seeds", type=int, default=1, help="initialisations that scores are the mean of")
    parser.add_argument("--json", type=Path, default=Path("zero_cost_scores.json"))
    args = parser.parse_args()
    for name, least in (("count", 1), ("skip", 0)):
        if getattr(args, name) < least:
            parser.error(f"argument --{name}: {getattr(args, name)} is not allowed; wants >= {least}")
    if args.skip >= args.count:
        parser.error(f"argument --skip: {args.skip} leaves none of {args.count} networks (--count)")
    return args


def rows(
    problem: Problem, names: Sequence[str], seeds: Sequence[int], scores: Scores, weights: Weights | None
) -> Iterator[Row]:
    """Compute what is missing, and yield the rows of a table; a score of fitted weights after `de_score`."""
    wanted = [(name, None) for name in names]
    if weights is not None:
        used = {name: weight for name, weight in weights.items() if weight > 0}
        wanted.append(("de_score", used))
    parts = {column for name, given in wanted for column in needed(name, problem, given)}
    compute(problem, settings(problem), sorted(parts), seeds, scores)
    for name, given in wanted:
        yield _row(problem, name, seeds, scores, given)


def _row(problem: Problem, name: str, seeds: Sequence[int], scores: Scores, weights: Weights | None) -> Row:
    parts = needed(name, problem, weights)
    found = {part: list(columns(scores, problem, settings(problem), part, seeds)) for part in parts}
    seconds = sum(times.mean() for each in found.values() for _, times in each) / len(seeds)
    if name in SCORES:
        terms = values_of(scores, problem, settings(problem), parts, seeds)
        return f"{name}{' (fitted)' if weights else ''}", [scored(name, terms, problem, weights)], seconds
    if name in COLUMNS:
        return name, [sign(name) * values for values, _ in found[name]], seconds
    direction = -1 if proxies.entry(name).info["direction"] == "minimize" else 1
    return name, [direction * values for values, _ in found[name]], seconds


def print_rows(row: Row, targets: Mapping[str, Vector], published: Mapping[str, float]) -> None:
    """Print a proxy's line for every target."""
    name, values, seconds = row
    if np.isnan(values).all():
        print(f"{name:24s} no network has this score")
        return
    known = f"{published[name]:9.3f}" if name in published else ""
    for target, accuracy in targets.items():
        result = correlations(values, accuracy)
        spearman, kendall = (
            f"{r:6.3f} [{low:6.3f}, {high:6.3f}]" for r, low, high in (result.spearman, result.kendall)
        )
        print(
            f"{name:24s} {target:14s} {spearman} {kendall} {result.failed:6d} {seconds:7.3f} {known}".rstrip(),
            flush=True,
        )


if __name__ == "__main__":
    main()
