"""What a train-free score costs, and how far its short cuts keep its ranking.

    python benchmarks/denas_score.py                      # all domains, 24 architectures each
    python benchmarks/denas_score.py --domains vit --count 40

Per domain: CPU seconds of one thread per candidate with DE-NAS's published space, by term and in all, at the default
settings; Spearman correlation with the slow exact computation (inputs of full size, batch 64 for the kernel, four other
seeds), with its ceiling: the correlation of the default settings with themselves at other seeds. The original's seconds
are those measured on its own program (CNN 5.3, ViT 60, BERT 96, ASR 11 to 18 a candidate).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from denas_search import PUBLISHED
from numpy.typing import NDArray
from scipy.stats import spearmanr

from nas_compress.constraints import Constraint
from nas_compress.objectives.config import ScoreOptions
from nas_compress.objectives.cost import Params
from nas_compress.objectives.de_score import kind_of, sample_within, small_twin
from nas_compress.proxies.de_score import DEFAULT_WEIGHTS, de_score, network_terms
from nas_compress.search import SearchProblem
from nas_compress.space import Architecture
from nas_compress.supernets.base import Supernet

ORIGINAL = {"cnn": 5.3, "vit": 60.0, "bert": 96.0, "asr": 11.0}
"""CPU seconds per candidate of the original program at its default settings, latency included."""

EXACT_BATCH = {"cnn": 64, "vit": 2, "bert": 2, "asr": 2}
"""Inputs of the exact computation; diversity and saliency look at one image, or at all tokens."""

Terms = dict[str, NDArray[np.float64]]


def exact_net(net: Supernet, seed: int) -> Supernet:
    """Return an untrained super-network on inputs of full size."""
    config: Any = net.config
    return type(net)(net.name, replace(config), seed).eval()  # type: ignore[call-arg]


def terms(
    nets: Sequence[Supernet], architectures: Sequence[Architecture], names: Sequence[str], batch: int, first: int
) -> tuple[Terms, dict[str, float]]:
    """Return the terms, shape (n, seeds) each, and the CPU seconds per architecture by term, all seeds together."""
    found: Terms = {name: np.zeros((len(architectures), len(nets))) for name in names}
    seconds = dict.fromkeys(["extract", *names], 0.0)
    for i, architecture in enumerate(architectures):
        for j, net in enumerate(nets):
            start = time.process_time()
            network, inputs = net.extract(architecture), net.example_input(batch, architecture)
            seconds["extract"] += time.process_time() - start
            for name in names:
                start = time.process_time()
                found[name][i, j] = network_terms(network, inputs, [name], first + j)[name]
                seconds[name] += time.process_time() - start
    return found, {name: value / len(architectures) for name, value in seconds.items()}


def run(domain: str, count: int, slow_seeds: int) -> None:
    """Measure a domain and print its rows."""
    build, most = PUBLISHED[domain]
    net, options = build(), ScoreOptions()
    weights = DEFAULT_WEIGHTS[kind_of(net)]
    limits = [] if most is None else [Constraint("params", "<=", most)]
    architectures = sample_within(SearchProblem(net.space, [Params(net)], limits), count)
    seeds, names = options.score_seeds, list(weights)

    fast, cost = terms([small_twin(net, s) for s in range(seeds)], architectures, names, options.score_batch, 0)
    again, _ = terms([small_twin(net, 50 + s) for s in range(seeds)], architectures, names, options.score_batch, 50)
    slow_nets = [exact_net(net, 100 + s) for s in range(slow_seeds)]
    slow, slow_cost = terms(slow_nets, architectures, names, EXACT_BATCH[domain], 100)

    total = sum(cost.values())
    params = net.encoded_cost("params", net.space, net.space.encode(architectures))
    print(
        f"{domain}: {count} architectures, {params.mean() / 1e6:.3g}M parameters on average; terms {', '.join(names)}"
    )
    parts = ", ".join(f"{name} {value:.3f}" for name, value in cost.items())
    print(
        f"  {total:.2f} CPU s a candidate ({parts}), the original {ORIGINAL[domain]:g}: {ORIGINAL[domain] / total:.0f}x"
    )
    print(f"  the slow exact computation: {sum(slow_cost.values()):.1f} CPU s at {slow_seeds} seeds")
    for name in names:
        print(f"  {name:13}{compared(fast[name], again[name], slow[name])}")
    scores = [de_score(each, weights).mean(axis=1)[:, None] for each in (fast, again, slow)]
    print(f"  {'DE-Score':13}{compared(*scores)}", flush=True)


def compared(fast: NDArray[np.float64], again: NDArray[np.float64], slow: NDArray[np.float64]) -> str:
    """Return the rank correlations of means over seeds: with the exact values, and at other seeds."""
    means = [
        np.log(np.abs(each) + 1e-300).mean(axis=1) if (each > 0).all() else each.mean(1) for each in (fast, again, slow)
    ]
    exact, retest = (spearmanr(means[0], other).statistic for other in (means[2], means[1]))
    return f"Spearman with exact {exact:.3f}, retest at other seeds {retest:.3f}"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domains", nargs="+", choices=list(PUBLISHED), default=list(PUBLISHED))
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--slow-seeds", type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for domain in args.domains:
        run(domain, args.count, args.slow_seeds)


if __name__ == "__main__":
    main()
