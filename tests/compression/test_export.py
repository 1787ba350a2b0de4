"""ONNX files: equal to torch, whole or absent, with metadata and a dynamic batch."""

import pytest
import torch
from torch import nn

from nas_compress.backends.onnxruntime import OnnxSession
from nas_compress.compression.export import export_onnx
from nas_compress.errors import EvaluationError, OutputError
from nas_compress.files import replacing


def test_the_file_computes_what_the_module_computes_at_any_batch(net, images, tmp_path):
    export_onnx(net, images[:1], tmp_path / "deep" / "net.onnx", {"resolution": "16"})
    session = OnnxSession(tmp_path / "deep" / "net.onnx")
    for batch in (1, 3, 64):
        with torch.no_grad():
            assert torch.allclose(session(images[:batch]), net(images[:batch]), atol=1e-4)
    assert session.metadata["resolution"] == "16"


def test_exporting_leaves_the_module_in_its_mode(net, images, tmp_path):
    net.train()
    export_onnx(net, images[:2], tmp_path / "net.onnx")
    assert all(module.training for module in net.modules())
    net.eval()


def test_an_export_that_computes_something_else_is_refused_and_the_old_file_kept(tmp_path):
    class Untraceable(nn.Module):
        def forward(self, x):
            return x * float(x.sum())

    path = tmp_path / "net.onnx"
    path.write_bytes(b"old")
    with pytest.raises(EvaluationError, match="differs from the torch one"):
        export_onnx(Untraceable(), torch.ones(2, 1, 4, 4).cumsum(2), path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.onnx"]


def test_outputs_that_are_not_finite_are_refused(tmp_path):
    class Broken(nn.Module):
        def forward(self, x):
            return x.flatten(1) * float("nan")

    with pytest.raises(EvaluationError, match="gives outputs that are NaN or infinite"):
        export_onnx(Broken(), torch.ones(1, 1, 2, 2), tmp_path / "net.onnx")


def test_lists_and_truth_values_are_outputs(tmp_path):
    class Net(nn.Module):
        def forward(self, x):
            return [x.flatten(1), x.flatten(1) > 0]

    export_onnx(Net(), torch.randn(2, 1, 2, 2), tmp_path / "net.onnx")
    assert (tmp_path / "net.onnx").is_file()


def test_an_unwritable_place_is_named(net, images, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write .*net.onnx"):
        export_onnx(net, images[:1], tmp_path / "file" / "net.onnx")


def test_a_replacement_that_fails_leaves_no_trace(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ValueError), replacing(path) as temporary:
        temporary.write_text("half")
        raise ValueError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
