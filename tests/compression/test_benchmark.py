"""Measuring exported files: figures, contexts and mistakes."""

import json

import pytest
import torch

from nas_compress.compression.benchmark import Artefact, measure_artefacts
from nas_compress.compression.export import export_onnx
from nas_compress.compression.quantize import quantize_onnx
from nas_compress.data.base import MemorySplit
from nas_compress.errors import CheckpointError, EvaluationError
from nas_compress.objectives.quality import accuracy
from nas_compress.objectives.timing import TimingSettings

QUICK = TimingSettings(warmup=1, min_runs=5, max_runs=20, budget_s=0.2)


@pytest.fixture(scope="module")
def split():
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (30, 1, 16, 16), generator=generator, dtype=torch.uint8)
    return MemorySplit(pixels, torch.randint(0, 5, (30,), generator=generator), (0.5,), (0.3,))


def test_files_are_measured_as_they_are(net, split, images, tmp_path):
    fp32, small, int8 = (tmp_path / f"{name}.onnx" for name in ("fp32", "small", "int8"))
    export_onnx(net, images[:2], fp32)
    export_onnx(net, images[:2, :, :8, :8], small)
    quantize_onnx(fp32, int8, images.split(16))
    artefacts = {"fp32": Artefact(fp32, 16), "small": Artefact(small, 8), "int8": Artefact(int8, 16)}
    figures = measure_artefacts(artefacts, split, batch_size=40, eval_batch_size=7, settings=QUICK)
    assert list(figures) == list(artefacts)
    for name, size in (("fp32", 16), ("small", 8)):
        assert figures[name].quality.value == pytest.approx(accuracy(net, split, size).value, abs=4)
    assert figures["int8"].size_bytes == int8.stat().st_size
    assert figures["small"].latency.median_ms < figures["fp32"].latency.median_ms


def test_another_resolution_than_the_files_is_named(net, split, images, tmp_path):
    export_onnx(net, images[:2], tmp_path / "net.onnx")
    with pytest.raises(EvaluationError, match=r"takes inputs of shape \('batch', 1, 16, 16\), got \(30, 1, 8, 8\)"):
        measure_artefacts({"net": Artefact(tmp_path / "net.onnx", 8)}, split, settings=QUICK)


def test_figures_are_plain_data_with_their_context(net, split, images, tmp_path):
    export_onnx(net, images[:2], tmp_path / "net.onnx")
    artefacts = {"net": Artefact(tmp_path / "net.onnx", 16)}
    entry = measure_artefacts(artefacts, split, batch_size=2, settings=QUICK)["net"].to_dict()
    assert json.loads(json.dumps(entry)) == entry
    assert entry["accuracy"]["images"] == 30
    assert {"median_ms", "error_ms", "iqr_ms", "runs"} <= set(entry["latency"])
    assert entry["context"]["backend"] == "onnxruntime"
    assert (entry["context"]["batch_size"], entry["context"]["threads"]) == (2, 1)
    assert {"versions", "hardware"} <= set(entry["context"])


@pytest.mark.parametrize(
    ("name", "message"), [("absent.onnx", "no exported network"), ("net.bin", "cannot be measured")]
)
def test_what_cannot_be_measured_is_named(split, tmp_path, name, message):
    (tmp_path / "net.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match=message):
        measure_artefacts({"net": Artefact(tmp_path / name, 16)}, split, settings=QUICK)
