"""Whether DE-NAS's evolution evolves: its best train-free score against that of as many random architectures.

    python benchmarks/denas_search.py                                   # small nets of each domain, 500 candidates
    python benchmarks/denas_search.py --domains cnn --seeds 10 --budget 500 --score-seeds 1 --batch 4    # cheaper
    python benchmarks/denas_search.py --published --domains vit         # DE-NAS's own spaces: hours

The small nets stand for DE-NAS's spaces: the same genes, fewer features. All searches of a domain use one score, by
default that of the product. Scores are kept in `--json`; what it holds of the same settings (terms, weights, seeds,
batch, limits, space) is not computed again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nas_compress.constraints import Constraint
from nas_compress.errors import EvaluationError
from nas_compress.objectives.base import Measurement, Objective
from nas_compress.objectives.config import ScoreOptions
from nas_compress.objectives.cost import Params
from nas_compress.objectives.de_score import DEScore, UntrainedTerms, kind_of, sample_within
from nas_compress.proxies.de_score import DEFAULT_WEIGHTS
from nas_compress.records import context_hash
from nas_compress.search import SearchProblem, Trial, strategies
from nas_compress.space import Architecture
from nas_compress.supernets import supernets
from nas_compress.supernets.base import Supernet
from nas_compress.supernets.bert import BertSupernet
from nas_compress.supernets.bert_config import BertConfig
from nas_compress.supernets.conv_chain import ConvChainSupernet
from nas_compress.supernets.conv_chain_config import ConvChainConfig

SMALL: dict[str, tuple[Callable[[], Supernet], float | None]] = {
    "cnn": (lambda: ConvChainSupernet("small_cnn", ConvChainConfig(widening=2, max_layers=4, resolution=16), 0), 100e3),
    "vit": (lambda: supernets.get("digits_vit")(seed=0), None),
    "bert": (lambda: BertSupernet("small_bert", _bert(), 0), None),
    "asr": (lambda: supernets.get("fsdd_asr")(seed=0), None),
}
"""A super-network of each domain, and the most parameters."""

PUBLISHED: dict[str, tuple[Callable[[], Supernet], float | None]] = {
    "cnn": (lambda: supernets.get("denas_cnn")(seed=0), 1e6),
    "vit": (lambda: supernets.get("denas_vit")(seed=0), 100e6),
    "bert": (lambda: supernets.get("bert_base_denas")(seed=0), 110e6),
    "asr": (lambda: supernets.get("denas_asr")(seed=0), 40e6),
}
"""DE-NAS's, with its published limits."""


def _bert() -> BertConfig:
    """DE-NAS's space with an eighth of the features."""
    return BertConfig(
        layers=tuple(range(4, 13)),
        heads=tuple(range(8, 13)),
        intermediate=tuple(range(16, 385, 4)),
        hidden=tuple(range(16, 97, 2)),
        head_size=8,
        per_layer=False,
        vocabulary=200,
        positions=32,
        length=16,
    )


class Known(Objective):
    """A score whose values are remembered from search to search."""

    name, direction, unit, column = "de_score", "maximize", "", ""

    def __init__(self, score: Objective, values: dict[str, float | None]) -> None:
        self.score, self.values, self.seconds, self.count = score, values, 0.0, 0

    def measure(self, subnet: object, architecture: Architecture) -> Measurement:
        """Return the score, computed once."""
        key = json.dumps(architecture.to_dict())
        if key not in self.values:
            start = time.process_time()
            try:
                self.values[key] = self.score.measure(None, architecture).value
            except EvaluationError:
                self.values[key] = None
            self.seconds, self.count = self.seconds + time.process_time() - start, self.count + 1
        value = self.values[key]
        if value is None:
            raise EvaluationError("no score")
        return Measurement(value)


def search(name: str, problem: SearchProblem, seed: int, budget: int) -> list[float]:
    """Return the scores in the order in which a strategy asked for them."""
    strategy, scores = strategies.get(name)(problem, seed=seed), []
    while len(scores) < budget and (batch := strategy.ask(budget - len(scores))):
        trials = []
        for architecture in batch:
            values = {o.name: float(o.compute([architecture])[0]) for o in problem.limited}
            try:
                score = problem.objectives[0].measure(None, architecture).value
                trials.append(Trial(architecture, {**values, "de_score": score}))
            except EvaluationError as error:
                score = -np.inf
                trials.append(Trial(architecture, error=str(error)))
            scores.append(score)
        strategy.tell(trials)
    return scores


def problem_of(net: Supernet, most: float | None, args: argparse.Namespace) -> SearchProblem:
    """Return the search for the best score among networks of at most so many parameters."""
    weights, count = DEFAULT_WEIGHTS[kind_of(net)], ScoreOptions().score_reference
    limits = [] if most is None else [Constraint("params", "<=", most)]
    terms = UntrainedTerms(net, list(weights), seeds=args.score_seeds, batch=args.batch)
    conditions = {"limits": [str(limit) for limit in limits], "sample": count}
    limited = [Params(net)] if limits else []
    score = DEScore(terms, weights, lambda: sample_within(problem, count), conditions)
    problem = SearchProblem(net.space, [score], limits, limited=limited)
    return problem


def run(domain: str, args: argparse.Namespace, kept: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Search a domain with every strategy, seed by seed, and yield where they stand after each seed."""
    build, most = (PUBLISHED if args.published else SMALL)[domain]
    net = build()
    problem = problem_of(net, most, args)
    (score,) = problem.objectives
    name_of_scores = f"{net.name} {context_hash(score.context())}"
    known = Known(score, kept.setdefault(f"scores {name_of_scores}", {}))
    problem = replace(problem, objectives=[known])
    best: dict[str, list[float]] = {name: [] for name in args.searches}
    for seed in range(args.seeds):
        for name in args.searches:
            scores = search(name, problem, seed, args.budget)
            best[name].append(max(scores))
            kept.setdefault(f"runs {name_of_scores}", {})[f"{name} {seed}"] = scores
        if args.json:
            args.json.write_text(json.dumps(kept))
        yield row(domain, net, best, known)


def row(domain: str, net: Supernet, best: dict[str, list[float]], known: Known) -> str:
    """Return the best scores as mean +- standard deviation, and in how many seeds others' beat random's, if it ran."""
    cells = [f"{name} {np.mean(values):6.3f} +- {np.std(values):5.3f}" for name, values in best.items()]
    others = [name for name in best if name != "random"] if "random" in best else []
    for name in others:
        wins = sum(a > b for a, b in zip(best[name], best["random"], strict=True))
        cells.append(f"{name} beats random in {wins} of {len(best[name])}")
    time_each = f"{1e3 * known.seconds / max(known.count, 1):.0f} CPU ms a score"
    return "  ".join([f"{domain:5} {f'{net.space.size():.2g} nets':12}", *cells, time_each])


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domains", nargs="+", choices=list(SMALL), default=list(SMALL))
    parser.add_argument("--searches", nargs="+", default=["denas", "random"], help="strategies")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budget", type=int, default=500)
    parser.add_argument("--score-seeds", type=int, default=ScoreOptions().score_seeds)
    parser.add_argument("--batch", type=int, default=ScoreOptions().score_batch)
    parser.add_argument("--published", action="store_true", help="DE-NAS's own spaces in place of small ones")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    kept = json.loads(args.json.read_text()) if args.json and args.json.is_file() else {}
    print(f"best DE-Score after {args.budget} candidates")
    for rows in zip(*(run(domain, args, kept) for domain in args.domains), strict=True):
        print("\n".join(rows), flush=True)


if __name__ == "__main__":
    main()
