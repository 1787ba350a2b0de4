"""The compiled backend: what it needs, and what it computes."""

import pytest
import torch
from torch import nn

from nas_compress.backends.torch import TorchCompileBackend
from nas_compress.errors import ConfigError, EvaluationError


def test_a_missing_compiler_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", str(tmp_path / "absent++"))
    with pytest.raises(ConfigError, match="wants a C.. compiler: CXX = '.*absent"):
        TorchCompileBackend.check()
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("c++", "cc"):  # Inductor looks for none of these
        (tmp_path / name).touch(0o755)
    with pytest.raises(ConfigError, match=r"(g|clang)\+\+ is not installed, and CXX names no other"):
        TorchCompileBackend().compile(nn.Identity(), torch.ones(1))


def test_a_network_that_cannot_be_compiled_is_an_evaluation_error_of_one_line():
    class Branches(nn.Module):
        def forward(self, x):
            return x + 1 if x.sum() > 0 else x - 1

    compiler_or_skip()
    with pytest.raises(EvaluationError, match="torch.compile cannot take this network") as caught:
        TorchCompileBackend().compile(Branches().eval(), torch.ones(2, 3))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_compiled_networks_compute_what_the_modules_compute_however_many_there_are():
    compiler_or_skip()
    images = torch.randn(2, 3, 8, 8)
    for width in range(4, 14):  # torch.compile itself gives up on the ninth of a class, without a word
        torch.manual_seed(width)
        net = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
        net(images)
        session = TorchCompileBackend().compile(net.eval(), images)
        with torch.no_grad():
            assert torch.allclose(session(images), net(images), atol=1e-5)
        with pytest.raises(EvaluationError, match=r"compiled for inputs of shapes \[\(2, 3, 8, 8\)\]"):
            session(images[:1])


def compiler_or_skip():
    try:
        TorchCompileBackend.check()
    except ConfigError as error:
        pytest.skip(str(error))
