"""Networks with published results, and data to score them on."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from networks_bert import VOCABULARY, nas_bench_bert
from networks_cnn import nas_bench_201, nas_bench_macro
from PIL import Image
from scores import Problem
from torch import Tensor

from nas_compress.proxies.base import tensors_of
from nas_compress.supernets.vit import build as build_vit
from nas_compress.supernets.vit_config import AUTOFORMER_TINY

TOKENS = 32
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def images(folder: Path, count: int, size: int = 32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return normalised training images of CIFAR-10, shape (count, 3, size, size), and their labels."""
    file = np.load(folder / "cifar10_jpeg" / "cifar10_train_jpeg.npz")
    chosen = np.random.default_rng(seed).choice(len(file["labels"]), count, replace=False)
    data, offsets = file["data"], file["offsets"]
    pixels = [Image.open(io.BytesIO(data[offsets[i] : offsets[i + 1]].tobytes())).convert("RGB") for i in chosen]
    stacked = torch.stack([torch.from_numpy(np.array(each.resize((size, size)))) for each in pixels])
    normalised = (stacked / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    return normalised.permute(0, 3, 1, 2).contiguous(), torch.from_numpy(file["labels"][chosen].astype(np.int64))


def cell_networks(folder: Path, count: int, batch: int) -> Problem:
    """NAS-Bench-201 on CIFAR-10: test accuracy after 200 epochs."""
    table = pd.read_csv(folder / "nasbench201" / "nb201_cifar10.csv.gz", dtype={"ops": str})
    rows = table.iloc[_sample(len(table), count)]
    targets = {"accuracy": rows["cifar10_test_acc_200ep"].to_numpy(float)}
    return Problem("nas_bench_201", rows["ops"].tolist(), targets, nas_bench_201, *images(folder, batch))


def chain_networks(folder: Path, count: int, batch: int) -> Problem:
    """NAS-Bench-Macro: test accuracy, the mean of three runs."""
    table = pd.read_csv(folder / "nas_bench_macro" / "nas_bench_macro_cifar10.csv.gz", dtype={"arch": str})
    rows = table.iloc[_sample(len(table), count)]
    targets = {"accuracy": rows["acc_mean"].to_numpy(float)}
    return Problem("nas_bench_macro", rows["arch"].tolist(), targets, nas_bench_macro, *images(folder, batch))


def vision_transformers(folder: Path, count: int, batch: int) -> Problem:
    """200 AutoFormers: accuracy on CIFAR-100, Flowers and Chaoyang, trained from scratch and with distillation.

    Networks are scored on images of CIFAR-10 with labels at random out of 100.
    """
    rows = json.loads((folder / "vit_bench" / "autoformer_groundtruth.json").read_text())[:count]
    supernet = build_vit("autoformer_tiny", AUTOFORMER_TINY, 100, seed=0)
    keys = [json.dumps(row["arch"]) for row in rows]
    names = ("c100_base_acc", "flower_base_acc", "chaoyang_base_acc", "c100_kd_acc", "flower_kd_acc", "chaoyang_kd_acc")
    targets = {name.removesuffix("_acc"): np.array([row[name] for row in rows], dtype=float) for name in names}

    def build(key: str) -> torch.nn.Module:
        arch = json.loads(key)
        row = (arch["depth"], *arch["mlp_ratio"], *arch["num_heads"], arch["hidden_dim"])
        return supernet.extract(AUTOFORMER_TINY.architecture(row))

    labels = torch.from_numpy(np.random.default_rng(0).integers(100, size=batch))
    return Problem("autoformer", keys, targets, build, images(folder, batch, 224)[0], labels, "xavier", "vit")


def text_encoders(folder: Path, count: int, batch: int) -> Problem:
    """250 small BERTs: mean GLUE score after pre-training. Networks are scored on random words of random classes."""
    rows = json.loads(gzip.decompress((folder / "bert_bench" / "nas_bench_bert_glue.json.gz").read_bytes()))[:count]
    keys = [json.dumps([row["encoder_layers"], row["hidden_size"]]) for row in rows]
    targets = {"glue": np.array([float(row["scores"]["glue"]) for row in rows])}
    rng = np.random.default_rng(0)
    words, labels = rng.integers(1000, VOCABULARY, size=(batch, TOKENS)), rng.integers(2, size=batch)
    inputs = torch.from_numpy(words), torch.from_numpy(labels)

    def build(key: str) -> torch.nn.Module:
        return nas_bench_bert(*json.loads(key))

    return Problem("nas_bench_bert", keys, targets, build, *inputs, "xavier", "bert")


def _sample(rows: int, count: int) -> list[int]:
    """Return the first `count` of a fixed random order: a longer run keeps what a shorter one has scored."""
    return [int(row) for row in np.random.default_rng(0).permutation(rows)[:count]]


PROBLEMS: dict[str, Callable[[Path, int, int], Problem]] = {
    "nas_bench_201": cell_networks,
    "nas_bench_macro": chain_networks,
    "autoformer": vision_transformers,
    "nas_bench_bert": text_encoders,
}
"""By name, from the folder of published data, the number of networks and that of samples."""


def settings(problem: Problem) -> str:
    """Return what the file of scores calls a problem: two runs of the same name have comparable scores."""
    return f"{problem.name} batch={len(tensors_of(problem.inputs)[0])} {problem.scheme}"
