"""DE-NAS from end to end: what it finds without training, against the stock network of each domain, trained equally.

    python benchmarks/denas_end_to_end.py asr --data-path fsdd_8k_int16.npz
    python benchmarks/denas_end_to_end.py cnn --data-path cifar10 --epochs 8 --precision bf16
    python benchmarks/denas_end_to_end.py vit --data-path cifar10 --epochs 8 --precision bf16
    python benchmarks/denas_end_to_end.py bert --data-path stsa_binary --tokenizer FOLDER --epochs 3

The search takes the best score within a share of the stock network's cost. Both networks then start from random weights
and are trained by the same options. Printed are quality on test data, parameters, multiply-accumulates, CPU seconds of
the search and of training, and latency in ONNX Runtime (batch 1, one thread, in turns), as DE-NAS's figure 5 has them.
Stock networks: a ResNet of bottlenecks as OFA's (`cifar10_resnet`'s largest), the largest small ViT, a BERT of MiniLM's
sizes (6 layers of 384 features, 1,536 in between), the largest recognizer.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nas_compress import NAS, NASConfig, best_structure
from nas_compress.compression.domains import Domain, domain_of
from nas_compress.data import load_data
from nas_compress.latency.meter import LatencyMeter
from nas_compress.objectives.timing import TimingSettings
from nas_compress.space import Architecture
from nas_compress.supernets import load_supernet
from nas_compress.supernets.base import Supernet
from nas_compress.training.config import FinetuneConfig
from nas_compress.training.trainer import finetune

TURNS, LENGTH = 3, 64


def minilm(net: Supernet) -> Architecture:
    """Return the architecture of MiniLM's sizes in DE-NAS's space, whose heads have 64 features each."""
    genes = {"num_layers": [6], "num_attention_heads": [8], "hidden_size": [384], "intermediate_size": [1536]}
    return net.space.canonicalize(Architecture({d.name: genes[d.name] for d in net.space.dimensions}))


def largest(net: Supernet) -> Architecture:
    """Return the largest architecture."""
    return net.space.largest()


@dataclass(frozen=True)
class Case:
    """A domain: where the search looks, what it is compared with, and how both are trained.

    Attributes:
        space: The super-network that is searched.
        dataset: The data source.
        stock: The super-network that has the stock network.
        which: Its architecture.
        metric: What is limited, to `share` of the stock network's.
        training: Options of `finetune`.
    """

    space: str
    dataset: str
    stock: str
    which: Callable[[Supernet], Architecture] = largest
    metric: str = "macs"
    training: Mapping[str, Any] = field(default_factory=dict)


ADAMW = {"optimizer": "adamw", "max_norm": 1.0}
CASES = {
    "cnn": Case(
        "denas_cnn", "cifar10", "cifar10_resnet", training={"lr": 0.1, "weight_decay": 5e-4, "batch_size": 128}
    ),
    "vit": Case("cifar10_vit", "cifar10", "cifar10_vit", training={**ADAMW, "lr": 2e-3, "batch_size": 128}),
    "bert": Case(
        "bert_base_denas", "sentences", "bert_base_denas", minilm, "params", {**ADAMW, "lr": 2e-4, "batch_size": 32}
    ),
    "asr": Case("fsdd_asr", "fsdd", "fsdd_asr", training={**ADAMW, "max_norm": 5.0, "lr": 1e-3, "batch_size": 32}),
}


@dataclass(frozen=True)
class Trained:
    """A network after training.

    Attributes:
        supernet: Where it comes from.
        architecture: What it is.
        network: The network itself.
        seconds: CPU seconds of training.
    """

    supernet: Supernet
    architecture: Architecture
    network: nn.Module
    seconds: float


def train(net: Supernet, architecture: Architecture, domain: Domain[Any], options: dict[str, Any]) -> Trained:
    """Train a network from random weights."""
    network, size = net.extract(architecture), domain.size(net, architecture)
    start = time.process_time()
    finetune(network, domain.data, size, FinetuneConfig(**options, curve=0))
    return Trained(net, architecture, network, time.process_time() - start)


def untrained(name: str, data: Any, seed: int = 0) -> Supernet:
    """Return a super-network with random weights, fit for the data."""
    classes = getattr(data, "classes", None)
    return load_supernet(name, trained=False, seed=seed, **({} if classes is None else {"num_classes": len(classes)}))


def main() -> None:
    """Search, train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("domain", choices=list(CASES))
    parser.add_argument("--data-path", type=Path, help="where the data is")
    parser.add_argument("--tokenizer", help="of texts: a folder with tokenizer.json or vocab.txt")
    parser.add_argument("--share", type=float, default=0.5, help="of the stock network's cost (default 0.5)")
    parser.add_argument("--evaluations", type=int, default=200, help="scores of the search (default 200)")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto")
    parser.add_argument("--output", type=Path, default=Path("outputs/denas_end_to_end"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    case = CASES[arguments.domain]
    texts = {} if arguments.tokenizer is None else {"tokenizer": arguments.tokenizer, "length": LENGTH}
    data = load_data(case.dataset, arguments.data_path, texts)
    domain = domain_of(data)
    stock = untrained(case.stock, data)
    whole = case.which(stock)
    limit = int(arguments.share * (stock.macs(whole) if case.metric == "macs" else stock.params(whole)))
    start = time.process_time()
    found = best_structure(NAS(search(case, limit, arguments)).search())
    searched = time.process_time() - start
    print(
        f"{case.space}: score {found.values['de_score']:.2f}, "
        f"{arguments.evaluations} candidates in {searched:.0f} CPU s"
    )
    print(f"  {found.architecture}")
    options = {**case.training, "epochs": arguments.epochs, "precision": arguments.precision}
    trained = {
        "stock": train(stock, whole, domain, options),
        "found": train(untrained(case.space, data), found.architecture, domain, options),
    }
    report(trained, domain)


def search(case: Case, limit: int, arguments: argparse.Namespace) -> NASConfig:
    """Return the config of the search within the limit."""
    population = min(50, arguments.evaluations)
    options = {
        "supernet": case.space,
        "metrics": ["de_score"],
        "constraints": {case.metric: f"<= {limit}"},
        "population": population,
        "num_evals": arguments.evaluations,
        "results_csv_path": arguments.output / arguments.domain / "search.csv",
    }
    return NASConfig(approach="denas", search={"seed": 0}, denas=options)


def report(trained: Mapping[str, Trained], domain: Domain[Any]) -> None:
    """Measure latencies in turns and print a row for each network."""
    meter = LatencyMeter("onnxruntime", settings=TimingSettings(budget_s=2))
    prepared = {
        name: meter.prepare(each.network, each.supernet.example_input(1, each.architecture))
        for name, each in trained.items()
    }
    turns = {name: [meter.time(prepared[name]) for _ in range(TURNS)] for name in trained}
    print(f"{'':8}{'quality (test)':>20}{'parameters':>12}{'MACs':>14}{'training, CPU s':>17}{'latency, ms':>18}")
    for name, each in trained.items():
        quality = domain.quality(each.network, "test", domain.size(each.supernet, each.architecture))
        best = min(turns[name], key=lambda stats: stats.median_ms)
        net, architecture = each.supernet, each.architecture
        print(
            f"{name:8}{f'{quality.value:.2f} ± {quality.spread:.2f}':>20}{net.params(architecture):>12,d}"
            f"{net.macs(architecture):>14,d}{each.seconds:>17.0f}{f'{best.median_ms:.3f} ± {best.error_ms:.3f}':>18}"
        )


if __name__ == "__main__":
    main()
