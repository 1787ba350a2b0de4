"""Backends: the same numbers as torch, thread counts, missing packages, cheap imports."""

import subprocess
import sys
from functools import partial
from importlib import metadata

import pytest
import torch
from torch import nn

from nas_compress.backends import backends, hardware
from nas_compress.backends.base import Backend
from nas_compress.backends.ipex import IPEX, IpexBackend
from nas_compress.backends.onnxruntime import OnnxSession, to_onnx
from nas_compress.errors import CheckpointError, ConfigError, EvaluationError, MissingExtraError
from nas_compress.latency.meter import LatencyMeter


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.Hardswish(),
        nn.Conv2d(8, 8, 5, padding=2, groups=8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(8, 4),
    ).eval()  # fmt: skip


@pytest.mark.parametrize("name", ["torch", "onnxruntime"])
def test_a_session_computes_what_the_module_computes_at_any_batch(net, name):
    session = backends.get(name)().compile(net, torch.randn(2, 3, 8, 8), threads=1)
    for batch in (1, 2, 7):
        images = torch.randn(batch, 3, 8, 8)
        with torch.no_grad():
            assert torch.allclose(session(images), net(images), atol=1e-5)


@pytest.mark.parametrize("name", ["torch", "onnxruntime"])
def test_a_bound_run_can_be_repeated(net, name):
    session = backends.get(name)().compile(net, torch.randn(1, 3, 8, 8))
    with session.bound(torch.randn(4, 3, 8, 8)) as run:
        first, second = run(), run()
    assert torch.equal(torch.as_tensor(first[0]), torch.as_tensor(second[0]))


@pytest.mark.parametrize("name", ["torch", "onnxruntime"])
def test_compiling_leaves_the_module_and_its_modes_alone(net, name):
    before = [(key, value.clone(), value.stride()) for key, value in net.state_dict().items()]
    net.train()
    backends.get(name)().compile(net, torch.randn(2, 3, 8, 8))
    assert all(module.training for module in net.modules())
    net.eval()
    for (key, value, stride), now in zip(before, net.state_dict().values(), strict=True):
        assert torch.equal(value, now) and stride == now.stride(), key


def test_torch_threads_are_set_for_a_run_and_put_back(net):
    before = torch.get_num_threads()
    session = backends.get("torch")().compile(net, torch.randn(1, 3, 8, 8), threads=before + 1)
    with session.bound(torch.randn(1, 3, 8, 8)):
        assert torch.get_num_threads() == before + 1
        assert not torch.is_grad_enabled()
    assert torch.get_num_threads() == before and torch.is_grad_enabled()


def test_images_are_laid_out_channels_last_and_other_inputs_are_left_alone():
    seen = []

    class Looks(nn.Module):
        def forward(self, x):
            seen.append(x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last))
            return x

    backends.get("torch")().compile(Looks(), torch.randn(2, 3, 8, 8))(torch.randn(2, 3, 8, 8))
    backends.get("torch")().compile(Looks(), torch.randn(2, 5))(torch.randn(2, 5))
    assert seen == [True, True, False], "tried out, then run"


def test_an_export_that_fails_is_an_evaluation_error_of_one_line():
    class Unexportable(nn.Module):
        def forward(self, x):
            return torch.linalg.eigvals(x).real

    with pytest.raises(EvaluationError, match="export to ONNX failed") as caught:
        to_onnx(Unexportable(), torch.randn(1, 3, 3))
    assert "\n" not in str(caught.value)


class Attends(nn.MultiheadAttention):
    def forward(self, x):
        return super().forward(x, x, x, need_weights=False)[0]


@pytest.mark.parametrize("kind", [Attends, partial(nn.TransformerEncoderLayer, dim_feedforward=16)])
def test_torchs_own_attention_is_exported(kind):
    torch.manual_seed(0)
    module = nn.Sequential(kind(8, 2, batch_first=True)).eval()
    session = OnnxSession(to_onnx(module, torch.randn(2, 5, 8)))
    assert torch.backends.mha.get_fastpath_enabled()
    x = torch.randn(3, 5, 8)
    torch.testing.assert_close(session(x), module(x), atol=1e-5, rtol=1e-5)


class Scaled(nn.Linear):
    def forward(self, x, scale=2.0, twice=False):
        y = super().forward(x) * scale
        return 2 * y if twice else y


@pytest.mark.parametrize("kind", [Scaled, partial(nn.TransformerEncoderLayer, dim_feedforward=16, batch_first=True)])
def test_what_forward_has_defaults_for_is_no_input(kind):
    torch.manual_seed(0)
    module, x = kind(8, 2).eval(), torch.randn(3, 5, 8)
    session = OnnxSession(to_onnx(module, torch.randn(2, 5, 8)))
    assert "forward" not in vars(module)
    torch.testing.assert_close(session(x), module(x), atol=1e-5, rtol=1e-5)


def test_scripts_are_exported():
    with pytest.deprecated_call():
        module = torch.jit.script(nn.Linear(4, 3))
    x = torch.randn(2, 4)
    torch.testing.assert_close(OnnxSession(to_onnx(module, x))(x), module(x))


def test_exporting_is_silent(net, capfd, recwarn):
    to_onnx(net, torch.randn(1, 3, 8, 8))
    out, err = capfd.readouterr()
    assert not out and not err and not recwarn.list


@pytest.mark.parametrize("content", [None, b"", b"not a model"])
def test_a_missing_or_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "broken.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match="broken.onnx"):
        OnnxSession(path)


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[ipex\]'"):
        IpexBackend.check()
    with pytest.raises(MissingExtraError, match=r"pip install \. \(in"):
        backends.get("onnxruntime").check()


@pytest.mark.parametrize(("torch_version", "fits"), [("2.8.0+cpu", True), ("2.13.0+cpu", False), ("2.80.1", False)])
def test_ipex_is_compared_with_torch_without_importing_it(monkeypatch, torch_version, fits):
    versions = {IPEX: "2.8.0", "torch": torch_version}
    monkeypatch.setattr(metadata, "version", versions.__getitem__)
    if fits:
        IpexBackend.check()
    else:
        with pytest.raises(MissingExtraError, match=r"wants torch 2\.8\.\*, found torch"):
            IpexBackend.check()
    assert "intel_extension_for_pytorch" not in sys.modules


def test_an_ipex_whose_libraries_are_broken_is_told(monkeypatch, tmp_path, net):
    (tmp_path / "intel_extension_for_pytorch.py").write_text("raise OSError('libipex.so: undefined symbol: x')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(metadata, "version", {IPEX: "2.8.0", "torch": "2.8.0+cpu"}.__getitem__)
    with pytest.raises(MissingExtraError, match="cannot be imported: libipex.so: undefined symbol"):
        IpexBackend().compile(net, torch.ones(1, 3, 8, 8))


def test_checking_every_backend_imports_no_framework():
    code = (
        "import sys\n"
        "from nas_compress.backends import backends\n"
        "from nas_compress.errors import MissingExtraError\n"
        "from nas_compress.backends.hardware import describe_hardware\n"
        "import nas_compress.objectives, nas_compress.objectives.timing\n"
        "describe_hardware()\n"
        "for name in backends:\n"
        "    try: backends.get(name).check()\n"
        "    except MissingExtraError: pass\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'fvcore', 'intel_extension_for_pytorch'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_hardware_is_read_from_cpuinfo(monkeypatch, tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name\t: Some CPU @ 2GHz\nflags\t\t: fpu avx2 avx512_vnni\n\nmodel name\t: Other\n")
    monkeypatch.setattr(hardware, "_CPUINFO", cpuinfo)
    hardware._cpuinfo.cache_clear()
    found = hardware.describe_hardware()
    assert (found["cpu"], found["isa"]) == ("Some CPU @ 2GHz", ["avx2", "avx512_vnni"])
    assert hardware.has_int8_dot_product()
    cpuinfo.unlink()
    hardware._cpuinfo.cache_clear()
    assert hardware.describe_hardware()["cpu"]
    assert not hardware.has_int8_dot_product()
    hardware._cpuinfo.cache_clear()


def test_a_backend_of_ones_own_without_a_name_is_refused():
    class Nameless(Backend):
        packages = ("torch",)

        def compile(self, module, example, threads=1):
            raise NotImplementedError

    with pytest.raises(ConfigError, match="backend Nameless: wants a class attribute `name`"):
        LatencyMeter(Nameless())
