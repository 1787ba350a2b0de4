"""Searches with precisions in the space, from the config to the result."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from nas_compress import NAS, NASConfig
from nas_compress.backends.hardware import has_bf16_dot_product
from nas_compress.compression import inc_version
from nas_compress.compression.inc_module import GraphModule, Int8Module
from nas_compress.errors import ConfigError, MissingExtraError
from nas_compress.result import SearchResult
from nas_compress.search import dynas
from nas_compress.space import Architecture
from nas_compress.space.precision import PRECISION
from nas_compress.supernets import precision_config, supernets
from nas_compress.supernets.precision import PrecisionSupernet
from nas_compress.supernets.precision_config import PrecisionConfig
from nas_compress.weights import write_state


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "digits_resnet.safetensors"
    write_state(path, supernets.get("digits_resnet")(seed=0).state_dict())
    return path


def config(weights: Path | None, folder: Path, approach: str = "dynas", **options: Any) -> NASConfig:
    """Return a search of the smallest images, in which everything is the same from run to run."""
    config = NASConfig(approach=approach, seed=3, search_space={"r": [8]})
    given = {
        "supernet": "digits_resnet",
        "supernet_ckpt_path": weights,
        "metrics": ["acc", "model_size"],
        "precision": {},
        "num_evals": 5,
        "population": 5,
        "calibration_images": 64,
        "results_csv_path": folder / "results.csv",
    }
    for name, value in (given | options).items():
        setattr(config.section, name, value)
    return config


@pytest.fixture(autouse=True)
def _short_inner_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynas, "INNER_POPULATION", 20)
    monkeypatch.setattr(dynas, "INNER_GENERATIONS", 5)


def told(result: SearchResult) -> list[tuple[Architecture, dict[str, float]]]:
    return [(trial.architecture, dict(trial.values)) for trial in result.trials]


@pytest.mark.parametrize("approach", ["dynas", "concurrent", "full", "evolutionary", "random"])
def test_every_approach_searches_precisions(approach: str, weights: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"generations": 5} if approach in ("concurrent", "full") else {}
    agent = NAS(config(weights, tmp_path, approach, **options))
    result = agent.search()
    assert all(trial.ok for trial in result.trials)
    assert result.trials[0].architecture == agent.space.largest()
    assert set(result.trials[0].architecture[PRECISION]) == {"fp32"}
    assert {value for trial in result.trials for value in trial.architecture[PRECISION]} == {"fp32", "int8"}


def test_values_are_those_of_the_quantized_file(weights: Path, tmp_path: Path) -> None:
    agent = NAS(config(weights, tmp_path, "random", metrics=["acc", "model_size", "latency"], num_evals=2))
    agent.config.random.latency.budget_s = 0.01
    result = agent.search()
    for trial in result.trials:
        network = agent.build(trial.architecture)
        assert trial.values["model_size"] == len(network.onnx) / 1e6
        right = [o.measure(network, trial.architecture).value for o in agent.objectives() if o.name == "acc"]
        assert right == [trial.values["acc"]]
        assert trial.values["latency"] > 0
    contexts = result.provenance["contexts"]
    assert contexts["acc"]["precision"] == contexts["latency"]["precision"] == "by architecture"
    assert contexts["acc"]["quantization"]["schemes"] == ["minmax"]
    assert contexts["latency"]["supernet"]["precision"]["engine"] == "onnxruntime"


def test_the_seed_decides_and_a_finished_search_is_read_back(weights: Path, tmp_path: Path) -> None:
    first = NAS(config(weights, tmp_path / "a")).search()
    assert told(NAS(config(weights, tmp_path / "b")).search()) == told(first)
    again = NAS(config(weights, tmp_path / "a", num_evals=6)).search()
    assert told(again)[:5] == told(first) and again.provenance["measured_now"] == 2
    assert told(SearchResult.load(tmp_path / "a" / "results.jsonl"))[:5] == told(first)
    table = (tmp_path / "a" / "results.csv").read_text()
    assert "'precision': ['fp32', 'fp32', 'fp32', 'fp32']" in table


def test_limits_refer_to_the_largest_in_fp32(weights: Path, tmp_path: Path) -> None:
    limits = {"model_size": "<= 0.6 x largest"}
    result = NAS(config(weights, tmp_path, "random", constraints=limits, num_evals=6)).search()
    largest = result.trials[0].values["model_size"]
    assert result.front() and all(trial.values["model_size"] <= 0.6 * largest for trial in result.front())


def test_an_fp32_search_is_a_warm_start(weights: Path, tmp_path: Path) -> None:
    earlier = NAS(config(weights, tmp_path / "fp32", precision=None, metrics=["acc", "macs"])).search()
    warm = config(weights, tmp_path / "int8", warm_start=tmp_path / "fp32" / "results.csv", num_evals=8)
    agent = NAS(warm)
    problem, space = agent.problem(), agent.supernet.space
    known = {trial.architecture: trial.values["acc"] for trial in earlier.trials}
    assert {space.without(t.architecture): t.values["acc"] for t in problem.prior} == known  # type: ignore[attr-defined]
    assert all(set(t.architecture[PRECISION]) == {"fp32"} for t in problem.prior)
    best = problem.first[len(space.landmarks()) :]
    assert all(set(a[PRECISION]) == {"int8"} for a in best[::2])
    trials = agent.search().trials
    assert [trial.architecture for trial in trials[: len(problem.first)]] == list(dict.fromkeys(problem.first))


def test_precisions_can_be_restricted(weights: Path, tmp_path: Path) -> None:
    some = config(weights, tmp_path, "random", num_evals=3)
    some.search_space = {"r": [8], "precision[0]": ["fp32"], "precision[3]": ["int8"]}
    for trial in NAS(some).search().trials:
        assert (trial.architecture[PRECISION][0], trial.architecture[PRECISION][3]) == ("fp32", "int8")
    some.search_space = {"precision": ["int4"]}
    with pytest.raises(ConfigError, match=r"nas\.search\.search_space: precision\[0\]"):
        NAS(some)
    some.search_space, some.random.precision = {"precision": ["int8"]}, None
    with pytest.raises(ConfigError, match=r"nas\.search\.search_space: .*no gene 'precision'"):
        NAS(some)


def test_one_precision_is_a_search_of_quantized_subnets(weights: Path, tmp_path: Path) -> None:
    result = NAS(config(weights, tmp_path, "random", num_evals=2, precision={"values": ["int8"]})).search()
    assert {value for trial in result.trials for value in trial.architecture[PRECISION]} == {"int8"}


def test_yaml_holds_the_precisions(weights: Path, tmp_path: Path) -> None:
    written = config(weights, tmp_path, precision={"by": "block", "schemes": ["minmax", "entropy"]})
    written.to_yaml(tmp_path / "config.yaml")
    assert NASConfig.from_yaml(tmp_path / "config.yaml").dynas.precision == written.dynas.precision


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"metrics": ["macs", "model_size"]},
            "nas.dynas.metrics: ['macs', 'model_size'] with precision wants a metric",
        ),
        (
            {"metrics": ["de_score", "acc"]},
            "nas.dynas.metrics: 'de_score' does not go with precision: the score says nothing of quantized networks",
        ),
        ({"supernet": "replay/ofa_mbv3"}, "nas.dynas.precision: does not go with 'replay/ofa_mbv3', whose values come"),
        ({"supernet": "tiny_bert"}, "nas.dynas.precision: does not go with 'tiny_bert', which takes text"),
        ({"supernet": "denas_cnn"}, "nas.dynas.precision: does not go with 'denas_cnn', which shares no weights"),
        ({"latency": {"backend": "torch"}}, "nas.dynas.latency.backend: 'torch' does not go with precision"),
        ({"latency": {"lut": "table.npz"}}, "nas.dynas.latency.lut: 'table.npz' does not go with precision"),
        (
            {"latency": {}, "precision": {"engine": "inc"}},
            "nas.dynas.latency.backend: 'onnxruntime' does not go with precision, whose engine is 'inc'; wants "
            "'torch_compile'",
        ),
        (
            {"latency": {"backend": "torch_compile", "isolated": True}, "precision": {"engine": "inc"}},
            "nas.dynas.latency.isolated: true does not go with precision, whose engine is 'inc'",
        ),
        (
            {"precision": {"engine": "inc"}},
            "nas.dynas.metrics: 'model_size' does not go with precision, whose engine is 'inc': INC's files hold fp32",
        ),
        (
            {"precision": {"engine": "inc"}, "metrics": ["acc"], "constraints": {"model_size": "<= 1 MB"}},
            "nas.dynas.constraints: 'model_size' does not go with precision",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(
    options: dict[str, Any], message: str, weights: Path, tmp_path: Path
) -> None:
    pytest.importorskip("neural_compressor.torch") if "precision" in options else None
    metrics = {"metrics": ["acc", "latency"]} if "latency" in options else {}
    path = None if "supernet" in options else weights
    with pytest.raises(ConfigError, match=re.escape(message)):
        config(path, tmp_path, **metrics, **options).check()


def test_what_inc_needs_is_looked_up_before_any_work(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inc = config(weights, tmp_path, metrics=["acc", "macs"], precision={"engine": "inc", "values": ["bf16", "int8"]})
    net = supernets.get("digits_resnet")(seed=0)
    monkeypatch.setattr(precision_config, "inc_version", lambda: {"neural-compressor-pt": "3.10"})
    monkeypatch.setattr(precision_config, "has_bf16_dot_product", lambda: False)
    with pytest.raises(ConfigError, match=r"nas\.dynas\.precision: values holds bf16, and this processor"):
        NAS(inc)
    monkeypatch.setattr(precision_config, "inc_version", inc_version.inc_version)
    monkeypatch.setattr(inc_version, "DISTRIBUTIONS", ("no-such-distribution",))
    with pytest.raises(ConfigError, match=r"nas\.dynas\.precision: no-such-distribution is not installed; install"):
        NAS(inc)
    with pytest.raises(MissingExtraError, match="no-such-distribution"):
        PrecisionSupernet(net, PrecisionConfig(engine="inc"))


def test_inc_searches_on_the_quantized_graph(weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("neural_compressor.torch")
    values = ["fp32", "bf16", "int8"] if has_bf16_dot_product() else ["fp32", "int8"]
    options = {"engine": "inc", "values": values}
    searched = config(weights, tmp_path, "random", metrics=["acc", "macs"], num_evals=2, precision=options)
    agent = NAS(searched)
    assert agent.space.dimensions[-1].choices[0] == tuple(reversed(values))
    result = agent.search()
    largest, trial = result.trials
    assert set(largest.architecture[PRECISION]) == {"fp32"} and set(trial.architecture[PRECISION]) != {"fp32"}
    network = agent.build(trial.architecture)
    assert isinstance(network, GraphModule) and not isinstance(network, Int8Module)
    accuracy = next(o for o in agent.objectives() if o.name == "acc")
    assert accuracy.measure(network, trial.architecture).value == trial.values["acc"]
    quantization = result.provenance["contexts"]["acc"]["quantization"]
    assert quantization["engine"] == "inc" and quantization["quantizer"] == inc_version.inc_version()
    assert quantization["versions"]["torch"] == torch.__version__


@pytest.mark.slow
def test_inc_measures_the_compiled_network(weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("neural_compressor.torch")
    inc = config(weights, tmp_path, "random", metrics=["acc", "latency"], num_evals=2, precision={"engine": "inc"})
    inc.random.latency.backend, inc.random.latency.budget_s = "torch_compile", 0.01
    counters.clear()
    result = NAS(inc).search()
    assert all(trial.ok and trial.values["latency"] > 0 for trial in result.trials)
    assert set(result.trials[0].architecture[PRECISION]) == {"fp32"} and counters["inductor"]
    context = result.provenance["contexts"]["latency"]
    assert (context["backend"], context["precision"]) == ("torch_compile", "by architecture")
    assert context["supernet"]["precision"]["quantizer"] == inc_version.inc_version()


def test_a_supernet_of_ones_own_is_checked_too(tmp_path: Path) -> None:
    own = config(None, tmp_path, supernet=None, dataset="digits", num_evals=2, approach="random")
    net = supernets.get("digits_mbv3")(seed=0).eval()
    own.search_space = None
    assert len(NAS(own, supernet=net).search().trials) == 2
    with pytest.raises(ConfigError, match=r"nas\.random\.latency\.backend: 'torch'"):
        own.random.metrics, own.random.latency.backend = ["acc", "latency"], "torch"
        NAS(own, supernet=net)


def test_costs_do_not_depend_on_precision(weights: Path, tmp_path: Path) -> None:
    agent = NAS(config(weights, tmp_path))
    space = agent.supernet.space
    some = space.sample(np.random.default_rng(0), 20)
    for objective in agent.descriptors():
        bare = [Architecture({**a, PRECISION: ["fp32"] * 4}) for a in some]
        assert objective.compute(some).tolist() == objective.compute(bare).tolist()
