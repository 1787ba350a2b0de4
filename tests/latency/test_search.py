"""A search on predicted latencies, through the public door: its front is measured, its archive tells both apart."""

import pandas as pd
import pytest

from nas_compress import NAS, NASConfig, SearchResult
from nas_compress.errors import ConfigError
from nas_compress.latency.build import build_table
from nas_compress.latency.meter import LatencyMeter
from nas_compress.objectives.timing import TimingSettings
from nas_compress.space import Architecture
from nas_compress.supernets import load_supernet

SPACE = {"r": [8], "ks": [3], "e": [2, 4], "d": [1, 2]}
QUICK = {"warmup": 1, "min_runs": 5, "max_runs": 10, "budget_s": 0.05}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("lut") / "lut.jsonl"
    net = load_supernet("digits_mbv3", trained=False, seed=0)
    meter = LatencyMeter("torch", settings=TimingSettings(**QUICK))
    build_table(path, net, net.space.restrict(SPACE), meter, subnets=10, sweeps=1)
    return path


def config(folder, table, **latency):
    made = NASConfig(approach="random", search_space=SPACE, seed=1)
    made.random.supernet, made.random.metrics, made.random.num_evals = "digits_mbv3", ["params", "latency"], 8
    made.random.results_csv_path = folder / "results.csv"
    made.random.latency = {"backend": "torch", "lut": table, **QUICK, **latency}
    return made


def test_the_front_is_measured_once_and_the_result_loads(tmp_path, table):
    result = NAS(config(tmp_path, table)).search()
    finalists = {Architecture(f["architecture"]): f for f in result.provenance["finalists"]}
    assert {t.architecture for t in result.front()} <= set(finalists)
    for trial in result:
        found = finalists.get(trial.architecture)
        assert trial.predicted == ({} if found is None else {"latency": found["predicted_ms"]})
        if found is not None:
            assert (trial.values["latency"], trial.spreads["latency"]) == (found["measured_ms"], found["spread_ms"])
    written = pd.read_csv(tmp_path / "results.csv")
    assert written["Latency (ms)"].tolist() == pytest.approx([t.searched["latency"] for t in result])
    archive = tmp_path / "results.jsonl"
    before = archive.read_bytes()
    again = NAS(config(tmp_path, table)).search()
    assert archive.read_bytes() == before
    loaded = SearchResult.load(archive)
    for other in (again, loaded):
        assert other.trials == result.trials
        assert other.provenance["finalists"] == result.provenance["finalists"]
        assert other.provenance["contexts"] == result.provenance["contexts"]
        assert other.hypervolumes().tolist() == pytest.approx(result.hypervolumes().tolist())
    assert [t.values for t in SearchResult.load(archive, ["params"])] == [
        {"params": t.values["params"]} for t in result
    ]


def test_a_table_of_other_conditions_is_refused(tmp_path, table):
    with pytest.raises(ConfigError, match="threads|backend"):
        NAS(config(tmp_path, table, backend="onnxruntime")).search()
