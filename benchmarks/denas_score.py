"""What a train-free score costs, and how far its short cuts keep its ranking.

    python benchmarks/denas_score.py                          # all domains, 24 architectures each: hours
    python benchmarks/denas_score.py --domains vit --count 12
    python benchmarks/denas_score.py --latency tables         # with the latency predicted from tables kept there

Per domain, with DE-NAS's published space and one thread:

- CPU seconds of a candidate at the default settings, by term and in all: of the network whose cost on the original
  program is known (the seed chain for `cnn`, one of the same size for `vit` and `bert`; the largest of the sample for
  `asr`), against that cost, and the mean over the sample. The original's seconds are those measured on it: CNN 5.3,
  ViT 4 (60 with latency), BERT 43 (96 with latency), ASR 11 to 18.
- With `--latency`, the same with the latency as a term, predicted from a look-up table of blocks (`vit`, `asr`) or of
  whole networks (`cnn`, `bert`, whose blocks are too many). A missing table is measured first.
- Spearman correlation of the default settings with the slow exact computation, with themselves at other seeds, and of
  the slow computation with itself at another seed: no short cut can be seen to agree with it better than that. MACs,
  which are the same in both, are left out of these and cost nothing.

The slow computation has inputs of full size, nuclear norms, a kernel in which samples act on each other, and the
published batch sizes (64; 32 for text and speech).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from denas_search import PUBLISHED
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import nn

from nas_compress.constraints import Constraint
from nas_compress.latency.build import build_table
from nas_compress.latency.meter import LatencyMeter
from nas_compress.latency.predictor import LatencyPredictor, load_predictor
from nas_compress.objectives.config import ScoreOptions
from nas_compress.objectives.cost import Params
from nas_compress.objectives.de_score import kind_of, sample_within, small_twin
from nas_compress.proxies.de_score import DEFAULT_WEIGHTS, PUBLISHED_TERMS, averaged, de_score, network_terms
from nas_compress.proxies.ntk import ntk_condition_number
from nas_compress.proxies.nuclear_norm import nuclear_norm_diversity
from nas_compress.search import SearchProblem
from nas_compress.space import Architecture
from nas_compress.supernets.base import Inputs, Supernet

Terms = dict[str, NDArray[np.float64]]
Term = Callable[[nn.Module, Inputs, str, int], float]
"""Returns a term of a network by its name, with a seed."""


@dataclass(frozen=True)
class Original:
    """What the original program takes, and on what.

    Attributes:
        seconds: CPU seconds of the score of a candidate.
        with_latency: The same with the latency that it measures.
        params: Parameters of that network, in millions; None where that is the seed chain, or is not known.
        batch: Its published batch size.
        blocks: Whether the space has few enough blocks for a table of them.
    """

    seconds: float
    with_latency: float
    params: float | None
    batch: int
    blocks: bool


ORIGINAL = {
    "cnn": Original(5.3, 5.3, None, 64, False),
    "vit": Original(4.0, 60.0, 26.0, 64, True),
    "bert": Original(43.0, 96.0, 76.0, 32, False),
    "asr": Original(11.0, 11.0, None, 32, True),
}


def fast_term(module: nn.Module, inputs: Inputs, name: str, seed: int) -> float:
    """Return a term as the product computes it."""
    return network_terms(module, inputs, [name], seed)[name]


def exact_term(module: nn.Module, inputs: Inputs, name: str, seed: int) -> float:
    """Return a term as it is published: nuclear norms, and a kernel in which samples act on each other."""
    if name == "complexity":
        return ntk_condition_number(module, inputs, coupled=True)
    if name == "diversity":
        return nuclear_norm_diversity(module, inputs, norm="nuclear")
    return fast_term(module, inputs, name, seed)


def exact_net(net: Supernet, seed: int) -> Supernet:
    """Return an untrained super-network on inputs of full size."""
    config: Any = net.config
    return type(net)(net.name, replace(config), seed).eval()  # type: ignore[call-arg]


def terms(
    nets: Mapping[int, Supernet], architectures: Sequence[Architecture], names: Sequence[str], batch: int, term: Term
) -> tuple[Terms, dict[str, float]]:
    """Return the terms, shape (n, nets) each, and the CPU seconds per architecture by term, all nets together.

    `nets` are super-networks by the seed of their weights, which is that of the terms too.
    """
    found: Terms = {name: np.zeros((len(architectures), len(nets))) for name in names}
    seconds = dict.fromkeys(["extract", *names], 0.0)
    for i, architecture in enumerate(architectures):
        for j, (seed, net) in enumerate(nets.items()):
            start = time.process_time()
            network, inputs = net.extract(architecture), net.example_input(batch, architecture)
            seconds["extract"] += time.process_time() - start
            for name in names:
                start = time.process_time()
                found[name][i, j] = term(network, inputs, name, seed)
                seconds[name] += time.process_time() - start
    return found, {name: value / len(architectures) for name, value in seconds.items()}


def comparable(domain: str, net: Supernet, architectures: Sequence[Architecture]) -> Architecture:
    """Return the architecture to compare costs on: the seed chain, or the nearest of a sample in size."""
    seed: Callable[[], Architecture] | None = getattr(net.space, "seed_architecture", None)
    if seed is not None:
        return seed()
    wanted = ORIGINAL[domain].params
    return min(architectures, key=lambda a: -net.params(a) if wanted is None else abs(net.params(a) - wanted * 1e6))


def predictor(domain: str, net: Supernet, folder: Path) -> LatencyPredictor:
    """Return a domain's predictor of latency; what its table lacks is measured."""
    path, blocks = folder / f"{net.name}.jsonl", ORIGINAL[domain].blocks
    folder.mkdir(parents=True, exist_ok=True)
    build_table(path, net, net.space, LatencyMeter("onnxruntime"), blocks=blocks, sweeps=1)
    return load_predictor(path, net)


def run(domain: str, count: int, slow_seeds: int, tables: Path | None) -> None:
    """Measure a domain and print its rows."""
    build, most = PUBLISHED[domain]
    net, options = build(), ScoreOptions()
    names = PUBLISHED_TERMS[kind_of(net)]
    limits = [] if most is None else [Constraint("params", "<=", most)]
    problem = SearchProblem(net.space, [Params(net)], limits)
    architectures, many = sample_within(problem, count), sample_within(problem, 10 * count)
    seeds, batch, slow_batch = options.score_seeds, options.score_batch, ORIGINAL[domain].batch

    twins, others = ({first + s: small_twin(net, first + s) for s in range(seeds)} for first in (0, 50))
    fast, cost = terms(twins, architectures, names, batch, fast_term)
    print_cost(domain, net, comparable(domain, net, many), twins, (sum(cost.values()), tables))
    again, _ = terms(others, architectures, names, batch, fast_term)
    slow, slow_again = (
        terms(
            {first + s: exact_net(net, first + s) for s in range(slow_seeds)},
            architectures,
            names,
            slow_batch,
            exact_term,
        )
        for first in (100, 150)
    )
    print(f"  the slow exact computation: {sum(slow[1].values()):.1f} CPU s a candidate at {slow_seeds} seeds")
    print(f"  Spearman of {count} architectures: with the slow computation, with itself, slow with itself")
    columns = fast, again, slow[0], slow_again[0]
    for name in names:
        print(f"  {name:13}{compared({name: 1.0}, *columns)}")
    weights = {name: DEFAULT_WEIGHTS[kind_of(net)][name] for name in names}
    print(f"  {'together':13}{compared(weights, *columns)}", flush=True)


def print_cost(
    domain: str, net: Supernet, one: Architecture, twins: Mapping[int, Supernet], others: tuple[float, Path | None]
) -> None:
    """Print what a candidate costs, beside the original; `others`: mean seconds of the sample, folder of tables."""
    mean, tables = others
    names, original = PUBLISHED_TERMS[kind_of(net)], ORIGINAL[domain]
    terms(twins, [one], names, ScoreOptions().score_batch, fast_term)  # the first call is slower than all others
    _, cost = terms(twins, [one], names, ScoreOptions().score_batch, fast_term)
    total, parts = sum(cost.values()), ", ".join(f"{name} {value:.3f}" for name, value in cost.items())
    print(f"{domain}: CPU s a candidate, on average {mean:.2f}")
    print(f"  {net.params(one) / 1e6:.3g}M parameters: {total:.3f} ({parts})")
    print(f"  the original {original.seconds:g}: {original.seconds / total:.0f}x")
    if tables is not None:
        latency = predictor(domain, net, tables)
        start = time.process_time()
        latency.predict([one])
        total += time.process_time() - start
        ratio = original.with_latency / total
        print(f"  with latency from a table {total:.3f}, the original {original.with_latency:g}: {ratio:.0f}x")


def compared(weights: Mapping[str, float], fast: Terms, again: Terms, slow: Terms, slow_again: Terms) -> str:
    """Return the rank correlations of scores: fast with slow, and both with themselves."""
    scores = [averaged(de_score(each, weights)) for each in (fast, again, slow, slow_again)]
    pairs = (0, 2), (0, 1), (2, 3)
    return "  ".join(f"{spearmanr(scores[a], scores[b]).statistic:.3f}" for a, b in pairs)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domains", nargs="+", choices=list(PUBLISHED), default=list(PUBLISHED))
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--slow-seeds", type=int, default=1)
    parser.add_argument("--latency", type=Path, help="folder of latency tables; those that it lacks are measured")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for domain in args.domains:
        run(domain, args.count, args.slow_seeds, args.latency)


if __name__ == "__main__":
    main()
