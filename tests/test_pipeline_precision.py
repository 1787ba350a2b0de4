"""A recipe whose search decides the precisions, with INC: the artefact is what the search measured."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from nas_compress.backends import backends
from nas_compress.compression.options import Engine
from nas_compress.pipeline import compress
from nas_compress.recipe import Recipe
from nas_compress.supernets.precision import ENGINES
from nas_compress.supernets.precision_config import LATENCY_BACKENDS, METHODS


@pytest.mark.slow
def test_a_network_is_quantized_as_the_search_found_it(tmp_path: Path) -> None:
    pytest.importorskip("neural_compressor.torch")
    quick = {"budget_s": 0.02, "min_runs": 3, "warmup": 1}
    search = {
        "metrics": ["acc", "macs"], "population": 2, "num_evals": 2, "calibration_images": 64,
        "precision": {"engine": "inc", "values": ["int8"]}, "search_space": {"r": [8]},
    }  # fmt: skip
    steps = [
        {"train_supernet": {"epochs": 1, "batch_size": 256, "subnets_per_step": 2, "warmup_epochs": 0}},
        {"nas": search}, {"select": {}}, {"quantize": {"calibration_images": 32}}, {"export": {}},
        {"benchmark": {"latency": quick}},
    ]  # fmt: skip
    result = compress(Recipe(name="inc", supernet="digits_resnet", seed=1, output=tmp_path, steps=steps, latency=quick))
    quantized = result.outcomes["quantize"]
    assert quantized["engine"] == "inc" and quantized["precisions"].startswith("static int8 by INC, as searched: ")
    entry = next(e for e in result.artefacts if e["precision"] == "int8")
    assert entry["file"] == "models/chosen_int8.pt2" and entry["context"]["backend"] == "torch"
    searched = result.outcomes["select"]["values"]["acc"]
    measured = quantized["measured"]["after"]["accuracy"]
    assert abs(measured["value"] - searched) < 2 * measured["spread"]

    import torch
    import torch.ao.quantization.fx._decomposed  # noqa: F401 - registers the operators of the graph

    layers = [n for n in torch.export.load(tmp_path / entry["file"]).graph.nodes if "conv2d" in str(n.target)]
    rounded = ["dequantize" in str(layer.args[1].target) for layer in layers]
    assert rounded and all(rounded)


def test_every_engine_is_complete() -> None:
    assert set(get_args(Engine)) == set(LATENCY_BACKENDS) == set(ENGINES) == set(METHODS)
    assert all(name in backends for name in LATENCY_BACKENDS.values())
