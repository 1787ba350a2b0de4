"""Searches of replay problems: from a config to a result, without a network."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from nas_compress import NAS, NASConfig
from nas_compress.cli import app
from nas_compress.errors import ArchiveError, ConfigError
from nas_compress.recipe import Recipe
from nas_compress.replay import load_replay, replays
from nas_compress.supernets import replay_of, supernets


@pytest.fixture
def config(tmp_path, shared_data):
    config = NASConfig(approach="random", seed=1)
    config.random.supernet = "replay/nas_bench_macro"
    config.random.dataset_path = shared_data
    config.random.metrics = ["acc", "macs", "params"]
    config.random.population, config.random.num_evals = 10, 20
    config.random.results_csv_path = tmp_path / "results.csv"
    return config


@pytest.mark.parametrize("name", list(replays))
def test_values_are_those_of_the_tables(config, shared_data, name):
    replay = load_replay(name, shared_data)
    config.random.supernet, config.random.metrics = f"replay/{name}", list(replay.metrics)
    result = NAS(config).search()
    assert len(result) == 20 and result.trials[0].architecture == replay.space.largest()
    architectures = [trial.architecture for trial in result]
    for metric in replay.metrics:
        values = [trial.values[metric] for trial in result]
        np.testing.assert_allclose(values, replay.values(metric, architectures), rtol=1e-5)
    context = result.provenance["contexts"]["acc"]
    assert context["replayed"] == name and context["sha256"] == replay.fingerprint()
    assert result.provenance["search"]["supernet"] == name


def test_published_spreads_are_kept(config):
    result = NAS(config).search()
    assert all(trial.spreads["acc"] > 0 and "macs" not in trial.spreads for trial in result)


def test_a_search_goes_on_and_measures_nothing_twice(config):
    first = NAS(config).search()
    fresh = []
    again = NAS(config).search(lambda progress: fresh.append(progress.measured))
    assert not any(fresh) and again.trials == first.trials
    config.random.num_evals = 30
    assert NAS(config).search().trials[:20] == first.trials


def test_dynas_on_a_restricted_space(config, shared_data):
    config.approach = "dynas"
    for name in ("supernet", "dataset_path", "metrics", "population", "num_evals", "results_csv_path"):
        setattr(config.dynas, name, getattr(config.random, name))
    config.search_space = {"op": [1, 2], "op[3]": [2]}
    config.dynas.num_evals = 30
    result = NAS(config).search()
    genes = np.array([trial.architecture["op"] for trial in result])
    assert len(result) == 30 and genes.min() == 1 and (genes[:, 3] == 2).all()


@pytest.mark.parametrize("approach", ["concurrent", "dynas", "full"])
def test_an_algorithm_object_of_pymoo_searches_on_the_predictions(config, approach):
    from pymoo.algorithms.moo.spea2 import SPEA2

    config.approach, section = approach, getattr(config, approach)
    for name in ("supernet", "dataset_path", "population", "num_evals", "results_csv_path"):
        setattr(section, name, getattr(config.random, name))
    section.metrics, section.predictor, algorithm = ["acc", "macs"], "ridge", SPEA2(pop_size=10)
    if approach != "dynas":
        section.generations = 3
    result = NAS(config, strategy=algorithm).search()
    assert result.provenance["strategy"]["predictors"]["acc"]["predictor"] == "ridge"
    search = result.provenance["search"]
    assert search["algorithm"] == approach and "SPEA2" in search["options"]["algorithm"]
    assert search["options"]["predictor"] == "ridge"
    assert NAS(config, strategy=algorithm).search().provenance["measured_now"] == 0
    with pytest.raises(ArchiveError, match="options"):
        NAS(config).search()
    config.search_algorithm = "age"
    with pytest.raises(ConfigError, match="search_algorithm: 'age' has no effect beside a strategy of your own"):
        NAS(config, strategy=algorithm)
    config.search_algorithm, section.algorithm_options = None, {"epsilon": 0.1}
    with pytest.raises(ConfigError, match="algorithm_options.epsilon: has no effect beside a strategy of your own"):
        NAS(config, strategy=algorithm)


def test_reference_points_reach_the_algorithm(config):
    section = config.evolutionary = config.evolutionary.model_copy(update=dict(config.random))
    config.approach, config.search_algorithm = "evolutionary", "rnsga2"
    section.metrics, section.num_evals = ["top1", "macs"], 60
    section.algorithm_options = {"references": [{"acc": 93, "macs": "40M"}]}
    near = NAS(config).search()
    section.algorithm_options = {"references": [{"acc": 93, "macs": "90M"}]}
    section.results_csv_path = section.results_csv_path.with_name("far.csv")
    far = NAS(config).search()
    mean = [np.mean([t.values["macs"] for t in result.trials[20:]]) for result in (near, far)]
    assert mean[0] < mean[1]


def test_changed_tables_are_measured_again(config, shared_data, tmp_path, caplog):
    before = NAS(config).search()
    (file,) = load_replay("nas_bench_macro", shared_data).paths
    copy = tmp_path / "tables" / file.relative_to(shared_data)
    copy.parent.mkdir(parents=True)
    shutil.copy(file, copy)
    config.random.dataset_path = tmp_path / "tables"
    fresh = []
    NAS(config).search(lambda progress: fresh.append(progress.measured))
    assert not any(fresh)
    copy.write_bytes(copy.read_bytes() + b"\0")  # trailing zeros mean nothing to gzip
    after = NAS(config).search(lambda progress: fresh.append(progress.measured))
    assert all(fresh[20:]) and [t.values for t in after] == [t.values for t in before]
    assert "conditions changed" in caplog.text


def test_no_torch_anywhere(config, tmp_path):
    path = tmp_path / "search.yaml"
    config.random.num_evals = 12
    config.to_yaml(path)
    code = f"""if True:
        import sys
        from nas_compress import NAS
        agent = NAS({str(path)!r})
        agent.search()
        objectives = agent.objectives()
        assert agent.build(agent.space.largest()) is None
        print("torch" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def wrong(config, **changes):
    for name, value in changes.items():
        setattr(config.random, name, value)
    with pytest.raises(ConfigError) as error:
        NAS(config)
    return str(error.value)


def test_checks_come_first(config, tmp_path):
    assert "dataset_path" in (text := wrong(config, dataset_path=None)) and "is not set" in text
    assert "the folder that holds nas_bench_macro/nas_bench_macro_cifar10.csv.gz" in text
    assert "no such folder" in wrong(config, dataset_path=tmp_path / "nowhere")
    text = wrong(config, dataset_path=tmp_path)
    assert f"no such file: {tmp_path / 'nas_bench_macro'}" in text and len(text.splitlines()) == 1


@pytest.mark.parametrize("field", ["supernet_ckpt_path", "dataset"])
def test_what_goes_with_a_network_is_refused(config, field, tmp_path):
    value = "digits" if field == "dataset" else tmp_path / "weights.safetensors"
    text = wrong(config, **{field: value})
    assert f"nas.random.{field}" in text and "leave it out" in text and len(text.splitlines()) == 1


def test_metrics_that_the_tables_lack(config):
    text = wrong(config, metrics=["acc", "latency"])
    assert "'latency' is not in the tables of 'replay/nas_bench_macro'; those are: acc, macs, params" in text
    assert "model_size" in wrong(config, metrics=["acc", "model_size"])
    text = wrong(config, metrics=["acc"], constraints={"lat": "<= 2 ms"})
    assert text.startswith("nas.random.constraints: 'latency' is not in the tables of")


def test_settings_of_measured_latency_do_not_matter(config):
    config.random.supernet, config.random.metrics = "replay/nas_bench_201", ["acc", "latency"]
    config.random.latency.threads = 100_000
    assert NAS(config).search().metrics[1].name == "latency"


def test_a_network_of_ones_own_stands_in(config):
    net = supernets.get("digits_mbv3")(seed=0)
    config.random.metrics = ["macs", "params"]
    agent = NAS(config, supernet=net)
    assert agent.space is net.space
    assert agent.build(net.space.smallest()) is not None


def test_there_is_no_network(config):
    with pytest.raises(ConfigError, match=r"'replay/nas_bench_macro' has no network"):
        supernets.get("replay/nas_bench_macro")()
    with pytest.raises(ConfigError, match="has no network"):
        NAS(config).supernet  # noqa: B018
    assert replay_of("digits_mbv3") is None and replay_of("nobody") is None


def test_a_recipe_refuses(shared_data):
    recipe = Recipe(supernet="replay/ofa_mbv3", dataset_path=shared_data, steps=[{"nas": {}}, "select", "export"])
    with pytest.raises(ConfigError, match=r"^supernet.*'replay/ofa_mbv3' has no network to train") as error:
        recipe.check()
    assert len(str(error.value).splitlines()) == 1


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*arguments):
        return CliRunner().invoke(app, [str(a) for a in arguments])

    return invoke


def test_command_line(config, tmp_path, run):
    path = tmp_path / "search.yaml"
    config.random.metrics = ["acc", "macs"]
    config.to_yaml(path)
    done = run("search", path)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "results.csv").read_text().count("\n") == 21
    records = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert any("nas_bench_macro" in json.dumps(record) for record in records)
    done = run("measure", path, "smallest")
    assert done.exit_code == 0 and "45.36" in done.output and "7,713,280" in done.output
    listed = run("list", "supernets")
    assert all(f"replay/{name}" in listed.output for name in replays)


def test_command_line_names_the_line(config, tmp_path, run):
    path = tmp_path / "search.yaml"
    config.to_yaml(path)
    data = yaml.safe_load(path.read_text())
    data["nas"]["random"]["dataset_path"] = None
    path.write_text(yaml.safe_dump(data))
    done = run("search", path)
    assert done.exit_code == 2 and "nas.random.dataset_path" in done.output
