"""The latency objective: what it runs, and what it says about it."""

from contextlib import contextmanager
from importlib import metadata
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from nas_compress.backends import Backend, Session
from nas_compress.backends.torch import TorchBackend
from nas_compress.config import NASConfig
from nas_compress.errors import ConfigError, EvaluationError, UnknownNameError
from nas_compress.latency.meter import LatencyMeter
from nas_compress.objectives.latency import Latency
from nas_compress.objectives.timing import TimingSettings
from nas_compress.space import Architecture

ARCHITECTURE = Architecture({"r": (8,)})
QUICK = TimingSettings(warmup=1, min_runs=3, max_runs=5, budget_s=0.1)


class Net:
    """What the objective wants of a super-network."""

    def __init__(self, classes=3):
        self.classes = classes

    def example_input(self, batch, architecture):
        r = int(architecture["r"][0])
        return torch.zeros(batch, 1, r, r)

    def describe(self):
        return {"name": "net", "classes": self.classes}


class Recording(Backend):
    name = "recording"
    packages = ("torch",)

    def __init__(self):
        self.compiled = []

    def compile(self, module, example, threads=1):
        self.compiled.append((module, tuple(example.shape), threads))
        return RecordingSession()


class RecordingSession(Session):
    def __call__(self, inputs):
        return inputs

    @contextmanager
    def bound(self, inputs):
        yield lambda: None


def test_the_subnet_is_compiled_for_batch_resolution_and_threads():
    backend, subnet = Recording(), nn.Identity()
    measured = Latency(Net(), backend, batch_size=3, threads=2, settings=QUICK).measure(subnet, ARCHITECTURE)
    assert backend.compiled == [(subnet, (3, 1, 8, 8), 2)]
    assert measured.value >= 0 and measured.spread >= 0
    assert {"runs", "clock", "iqr_ms", "cpu_ms", "stopped_by"} <= set(measured.provenance)


def test_the_context_holds_all_that_the_value_depends_on():
    def context(**options):
        return Latency(Net(), **options).context()

    base = context(backend="torch")
    assert set(base) == {"supernet", "backend", "versions", "hardware", "threads", "batch_size", "precision"}
    assert base != Latency(Net(classes=4), "torch").context()
    assert base["versions"] == {"torch": metadata.version("torch")}
    assert base == context(backend="torch", settings=QUICK)
    for other in (
        {"backend": "onnxruntime"},
        {"backend": "torch", "threads": 2},
        {"backend": "torch", "batch_size": 2},
        {"backend": "torch", "precision": "bf16"},
    ):
        assert context(**other) != base


def test_where_it_is_measured_in_a_process_of_its_own_the_context_says_so(monkeypatch):
    monkeypatch.setattr("nas_compress.latency.isolated.pick_cores", lambda threads: [7])
    assert Latency(Net(), "torch", isolated=True).context()["pinned_to_cores"] == [7]


def agent_of(**options):
    section = NASConfig(approach="random").random
    for name, value in options.items():
        setattr(section.latency, name, value)
    return SimpleNamespace(supernet=Net(), config=SimpleNamespace(section=section))


def test_it_is_made_as_the_config_says():
    made = Latency.from_agent(agent_of(backend="torch", precision="bf16", threads=2))
    assert isinstance(made, Latency)
    assert made.context() == Latency(Net(), "torch", precision="bf16", threads=2).context()


def test_a_backend_that_takes_long_to_build_is_warned_of(caplog, monkeypatch):
    Latency.from_agent(agent_of(backend="torch"))
    assert not caplog.records
    monkeypatch.setattr(TorchBackend, "slow_build", "a week")
    Latency.from_agent(agent_of(backend="torch"))
    assert "latency: torch takes a week to build each of 250 networks" in caplog.text


def test_several_inputs_are_passed_on():
    class Pair(nn.Module):
        def forward(self, first, second):
            return first.float().flatten(1) + second

    class Twice(Net):
        def example_input(self, batch, architecture):
            return torch.ones(batch, 4, dtype=torch.int64), torch.ones(batch, 4)

    for backend in ("torch", "onnxruntime"):
        assert Latency(Twice(), backend, settings=QUICK).measure(Pair().eval(), ARCHITECTURE).value > 0


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"threads": 0}])
def test_options_out_of_range_are_named(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        Latency(Net(), "torch", **options)


def test_an_unknown_backend_is_an_error():
    with pytest.raises(UnknownNameError, match="did you mean 'onnxruntime'"):
        Latency(Net(), "onnxruntme")


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_a_real_network_is_timed(backend):
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()
    measured = Latency(Net(), backend, settings=QUICK).measure(net, ARCHITECTURE)
    assert 0 < measured.value < 1000


def test_a_network_that_cannot_be_exported_is_a_failed_trial():
    class Unexportable(nn.Module):
        def forward(self, x):
            return torch.linalg.eigvals(x[:, 0]).real

    with pytest.raises(EvaluationError, match="ONNX"):
        Latency(Net(), settings=QUICK).measure(Unexportable(), ARCHITECTURE)


class Fails(nn.Module):
    """A network that raises when it is run."""

    def forward(self, x):
        raise RuntimeError("sizes do not match")


def test_a_network_that_cannot_run_is_an_evaluation_that_failed():
    with pytest.raises(EvaluationError, match="torch cannot run this network: sizes do not match"):
        LatencyMeter("torch").measure(Fails(), torch.zeros(1, 3))
