"""int8 torch modules made with INC: close to fp32, the same at every call, safe to read back."""

import io
import pickle
import zipfile

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from nas_compress.compression import inc
from nas_compress.compression.inc import Int8Module, load_int8, quantize_inc
from nas_compress.errors import CheckpointError, DataError, EvaluationError, MissingExtraError


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def int8(small, images):
    counters.clear()
    return quantize_inc(small, images[:4], images.split(16))


@pytest.fixture(scope="module")
def saved(int8, tmp_path_factory):
    path = tmp_path_factory.mktemp("int8") / "net.pt2"
    int8.save(path)
    return path


def test_it_runs_int8_kernels(int8):
    assert counters["inductor"]["qconv_unary_lower_count"] == 2
    assert counters["inductor"]["qlinear_unary_lower_count"] == 1


@pytest.mark.parametrize("batch", [1, 4, 7, 8])
def test_outputs_are_close_to_fp32_at_any_batch(small, int8, images, batch):
    with torch.no_grad():
        wanted = small(images[:batch])
    got = int8(images[:batch])
    assert got.shape == wanted.shape
    assert (got - wanted).abs().max() < 0.05 * wanted.abs().max()


def test_another_thread_count_still_runs_int8_kernels(int8, images):
    wanted, before = int8(images[:4]), torch.get_num_threads()
    counters.clear()
    torch.set_num_threads(before + 1)
    try:
        assert torch.allclose(int8(images[:4]), wanted, atol=1e-5)
    finally:
        torch.set_num_threads(before)
    assert counters["inductor"].get("qconv_unary_lower_count", 2) == 2


def test_quantizing_leaves_the_module_alone(small, int8):
    assert not any(module.training for module in small.modules())
    assert small[0].weight.requires_grad


def test_what_was_saved_computes_the_same(int8, saved, images):
    again = load_int8(saved, images[:4])
    assert torch.allclose(again(images[:8]), int8(images[:8]), atol=1e-5)


class Harmful:
    def __reduce__(self):
        return (pytest.fail, ("a pickle in the file was executed",))


def _rewritten(source, target, change):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return target


def test_no_pickle_in_a_file_is_executed(saved, tmp_path, images):
    harmful = io.BytesIO()
    torch.save(Harmful(), harmful)
    for content in (harmful.getvalue(), pickle.dumps(Harmful())):
        path = _rewritten(saved, tmp_path / "net.pt2", lambda n, b, c=content: c if n.endswith(".pt") else b)
        with pytest.raises(CheckpointError, match="net.pt2"):
            load_int8(path, images[:4])


def test_native_code_in_a_file_is_not_loaded(saved, tmp_path, images):
    path = _rewritten(saved, tmp_path / "net.pt2", lambda name, content: content)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("net/data/aotinductor/model/code.so", b"")
    with pytest.raises(CheckpointError, match="native code"):
        load_int8(path, images[:4])


@pytest.mark.parametrize("content", [None, b"", b"text", b"PK\x05\x06" + bytes(18)])
def test_a_missing_or_damaged_file_is_named(tmp_path, images, content):
    path = tmp_path / "net.pt2"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match="net.pt2"):
        load_int8(path, images[:4])


def test_outputs_that_change_from_call_to_call_are_refused(monkeypatch, images):
    class Drifts(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return x * self.calls

    monkeypatch.setattr(torch, "compile", lambda graph, **options: graph)
    with pytest.raises(EvaluationError, match="repeated calls differ"):
        Int8Module(Drifts(), images[:1])


def test_no_calibration_images_is_an_error(small, images):
    with pytest.raises(DataError, match="calibration images"):
        quantize_inc(small, images[:2], [])


def test_a_missing_package_is_named(monkeypatch, small, images):
    monkeypatch.setattr(inc, "DISTRIBUTIONS", ("no-such-distribution",))
    with pytest.raises(MissingExtraError, match="no-such-distribution"):
        quantize_inc(small, images[:2], [images])
