import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from nas_compress import NAS, NASConfig
from nas_compress.data import load_data
from nas_compress.errors import ArchiveError, CheckpointError, ConfigError, DataError, InfeasibleError
from nas_compress.objectives import Measurement, Objective, calibration, objectives
from nas_compress.result import SearchResult
from nas_compress.search import SearchProblem, SearchStrategy
from nas_compress.search.random import RandomSearch
from nas_compress.supernets import load_supernet, supernets
from nas_compress.supernets.mobilenet import MobileNetSupernet
from nas_compress.weights import write_state

digits_mbv3 = supernets.get("digits_mbv3")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Random weights, as a file: what they predict does not matter here."""
    path = tmp_path_factory.mktemp("weights") / "digits.safetensors"
    write_state(path, digits_mbv3(seed=3).state_dict())
    return path


@pytest.fixture
def config(tmp_path, checkpoint):
    config = NASConfig(approach="dynas", seed=1)
    config.dynas.supernet = "digits_mbv3"
    config.dynas.supernet_ckpt_path = checkpoint
    config.dynas.metrics = ["accuracy_top1", "macs"]
    config.dynas.population, config.dynas.num_evals = 8, 14
    config.dynas.calibration_images = 200
    config.dynas.results_csv_path = tmp_path / "results.csv"
    return config


def measured(agent):
    """Run a search and count the architectures that were measured rather than looked up."""
    fresh = []
    result = agent.search(lambda progress: fresh.append(progress.measured))
    return result, sum(fresh)


def test_a_search_measures_each_architecture_once_and_goes_on(config):
    first, fresh = measured(NAS(config))
    assert fresh == len(first) == 14
    assert first.trials[0].architecture == digits_mbv3().space.largest()
    assert len({t.architecture for t in first}) == 14
    again, fresh = measured(NAS(config))
    assert fresh == 0
    assert again.trials == first.trials
    config.dynas.num_evals = 18
    longer, fresh = measured(NAS(config))
    assert fresh == 4
    assert longer.trials[:14] == first.trials


def test_values_equal_what_the_parts_compute(config):
    agent = NAS(config)
    trial = agent.search().trials[5]
    subnet = agent.build(trial.architecture)
    images = agent.data.val.images(torch.arange(len(agent.data.val)), agent.supernet.resolution(trial.architecture))
    with torch.no_grad():
        correct = (subnet(images).argmax(1) == agent.data.val.labels).double().mean().item()
    assert trial.values == {"acc": pytest.approx(100 * correct), "macs": agent.supernet.macs(trial.architecture)}
    assert trial.spreads["acc"] > 0 and "macs" not in trial.spreads


def test_the_same_seed_gives_the_same_search_and_another_one_another(config, tmp_path):
    runs = []
    for number, seed in enumerate((1, 1, 2)):
        config.seed = seed
        config.dynas.results_csv_path = tmp_path / f"run{number}.csv"
        runs.append(NAS(config).search().trials)
    assert runs[0] == runs[1] != runs[2]


def test_another_search_in_the_same_place_is_refused(config):
    NAS(config).search()
    config.seed = 2
    with pytest.raises(ArchiveError, match="seed"):
        NAS(config).search()


def test_other_weights_are_measured_again(config, tmp_path, caplog):
    before = NAS(config).search()
    config.dynas.supernet_ckpt_path = tmp_path / "other.safetensors"
    write_state(config.dynas.supernet_ckpt_path, digits_mbv3(seed=4).state_dict())
    with caplog.at_level(logging.WARNING):
        after, fresh = measured(NAS(config))
    assert fresh > 0 and "checkpoint" in caplog.text
    assert "macs is measured again" not in caplog.text
    accuracies = [[t.values["acc"] for t in run] for run in (before, after)]
    assert accuracies[0] != accuracies[1]


def test_objects_of_ones_own(config, tmp_path):
    config.dynas.supernet = config.dynas.supernet_ckpt_path = None
    net, data = digits_mbv3(seed=3).eval(), load_data("digits")
    agent = NAS(config, supernet=net, data=data)
    assert agent.supernet is net and agent.data is data
    assert len(agent.search()) == 14


@pytest.mark.parametrize(("metric", "task"), [("f1", "questions"), ("bleu", "translation"), ("wer", "speech")])
def test_a_metric_of_another_task_than_ones_own_data_is_refused(config, metric, task):
    config.dynas.supernet = config.dynas.supernet_ckpt_path = None
    config.dynas.metrics = [metric, "macs"]
    with pytest.raises(ConfigError, match=f"{metric} is measured on data for {task}; 'digits' is for images"):
        NAS(config, supernet=digits_mbv3(seed=3).eval(), data=load_data("digits")).search()
    assert not Path(config.dynas.results_csv_path).exists()


def test_edits_after_construction_count(config, tmp_path):
    agent = NAS(config)
    config.dynas.num_evals = 9
    assert len(agent.search()) == 9
    config.dynas.results_csv_path = tmp_path
    with pytest.raises(ConfigError, match=r"dynas\.results_csv_path: .* is a folder"):
        agent.search()


def test_a_restricted_space_is_kept_to(config):
    config.search_space = {"ks": [3], "r": [8]}
    result = NAS(config).search()
    for trial in result:
        assert set(trial.architecture["ks"]) <= {0, 3} and trial.architecture["r"] == (8,)
    config.search_space = {"kss": [3]}
    with pytest.raises(ConfigError, match=r"search_space.*no gene 'kss' \(did you mean 'ks'\?\)"):
        NAS(config).search()


def test_warm_start_evaluates_the_front_of_an_earlier_search_first(config, tmp_path):
    earlier = NAS(config).search()
    config.dynas.warm_start = config.dynas.results_csv_path
    config.dynas.results_csv_path = tmp_path / "second.csv"
    config.seed = 5
    later = NAS(config).search()
    front = {t.architecture for t in earlier.front()} - {later.trials[0].architecture}
    assert {t.architecture for t in later.trials[1 : 1 + len(front)]} == front


def test_warm_start_from_a_table_of_other_metrics_is_refused(config, tmp_path):
    config.dynas.metrics = ["macs", "params"]
    NAS(config).search()
    config.dynas.warm_start = config.dynas.results_csv_path
    config.dynas.metrics = ["acc"]
    config.dynas.results_csv_path = tmp_path / "second.csv"
    with pytest.raises(ConfigError, match=r"warm_start.*has none of this search's objectives \(acc\)"):
        NAS(config).search()


def test_computed_metrics_need_neither_weights_nor_data(tmp_path):
    config = NASConfig(approach="evolutionary", seed=1)
    config.evolutionary.supernet = "ofa_mbv3_d234_e346_k357_w1.0"
    config.evolutionary.metrics = ["macs", "params"]
    config.evolutionary.population, config.evolutionary.num_evals = 10, 30
    config.evolutionary.results_csv_path = tmp_path / "results.csv"
    assert len(NAS(config).search()) == 30


def test_a_checkpoint_of_another_net_is_refused(config, tmp_path):
    write_state(config.dynas.supernet_ckpt_path.with_name("other.safetensors"), digits_mbv3(num_classes=7).state_dict())
    config.dynas.supernet_ckpt_path = config.dynas.supernet_ckpt_path.with_name("other.safetensors")
    with pytest.raises(CheckpointError, match=r"another network: classifier"):
        NAS(config).search()


def test_nets_without_published_weights_say_so():
    with pytest.raises(CheckpointError, match="comes without weights"):
        load_supernet("digits_mbv3")


def test_only_what_depends_on_weights_is_measured_again(config, tmp_path):
    config.dynas.metrics = ["acc", "latency"]
    config.dynas.population, config.dynas.num_evals = 3, 3
    config.dynas.latency.budget_s, config.dynas.latency.min_runs = 0.01, 3
    before = NAS(config).search()
    config.dynas.calibration_images = 100
    after = NAS(config).search()
    assert after.provenance["measured_now"] == 3
    assert [t.values["latency"] for t in after] == [t.values["latency"] for t in before]
    assert after.provenance["contexts"]["latency"]["supernet"]["name"] == "digits_mbv3"
    assert after.provenance["contexts"]["acc"]["calibration_images"] == 100


@pytest.mark.parametrize("has_bf16", [False, True])
def test_calibration_in_bf16_is_a_condition_of_accuracy(config, monkeypatch, has_bf16):
    monkeypatch.setattr(calibration, "has_bf16_dot_product", lambda: has_bf16)
    monkeypatch.setattr(calibration, "MUCH_TO_COMPUTE", 1e6)
    config.dynas.population, config.dynas.num_evals = 3, 3
    context = NAS(config).search().provenance["contexts"]["acc"]
    assert context.get("calibration_precision") == ("bf16 above 1e+06 multiply-accumulates" if has_bf16 else None)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        ({"num_classes": 7}, "10 classes"),
        ({"in_channels": 3}, "1 channel"),
    ],
)
def test_a_net_that_does_not_fit_the_data_is_an_error(config, net, message):
    options = replace(digits_mbv3().config, **net)
    agent = NAS(config, supernet=MobileNetSupernet("mine", options, seed=1).eval(), data=load_data("digits"))
    with pytest.raises(DataError, match=message):
        agent.search()
    config.dynas.metrics = ["macs"]
    agent = NAS(config, supernet=MobileNetSupernet("mine", options, seed=1).eval(), data=load_data("digits"))
    assert len(agent.search()) == 14


def test_objectives_of_ones_own_are_made_from_the_agent(config, monkeypatch):
    class Depth(Objective):
        name, direction, unit, column = "depth", "minimize", "", "Depth"

        def measure(self, subnet, architecture):
            return Measurement(float(sum(architecture["d"])))

    monkeypatch.setattr(objectives, "_entries", dict(objectives._entries))
    for wrong, message in (
        ({"direction": "max"}, "'depth': direction = 'max'; allowed: maximize, minimize"),
        ({"direction": "maximize"}, "direction is registered as 'maximize', the class has 'minimize'"),
        ({"column": "d"}, "column is registered as 'd', the class has 'Depth'"),
    ):
        with pytest.raises(ConfigError, match=message):
            objectives.register("depth", **wrong)(Depth)
    with pytest.raises(ConfigError, match="name is registered as 'other', the class has 'depth'"):
        objectives.register("other")(Depth)
    with pytest.raises(ConfigError, match="'bare': direction = None"):
        objectives.register("bare")(type("Bare", (), {}))
    objectives.register("depth")(Depth)
    assert dict(objectives.entry("depth").info) == {"direction": "minimize", "unit": "", "column": "Depth"}
    config.dynas.metrics = ["acc", "depth"]
    result = NAS(config).search()
    assert all(t.values["depth"] == sum(t.architecture["d"]) for t in result)


def test_warm_start_into_a_restricted_space_takes_what_is_inside(config, tmp_path):
    config.dynas.metrics = ["macs", "params"]
    config.dynas.num_evals = 40
    NAS(config).search()
    config.dynas.warm_start = config.dynas.results_csv_path
    config.dynas.results_csv_path = tmp_path / "second.csv"
    config.search_space = {"r": [8]}
    assert all(trial.architecture["r"] == (8,) for trial in NAS(config).search())


def test_the_archive_never_takes_the_name_of_the_table(config, tmp_path):
    config.dynas.metrics = ["macs"]
    for name in ("net_w1.0", "net_w1.2", "table.csv"):
        config.dynas.results_csv_path = tmp_path / name
        NAS(config).search()
    assert {p.name for p in tmp_path.glob("*.jsonl")} == {"net_w1.0.jsonl", "net_w1.2.jsonl", "table.jsonl"}
    config.dynas.results_csv_path = tmp_path / "x.jsonl"
    with pytest.raises(ConfigError, match=r"results_csv_path.*archive"):
        NAS(config)


def test_weights_are_loaded_once_they_are_needed(config):
    config.dynas.metrics, checkpoint = ["macs"], config.dynas.supernet_ckpt_path
    config.dynas.supernet_ckpt_path = None
    agent = NAS(config)
    blank = agent.supernet.fingerprint()
    assert agent.supernet is agent.supernet
    config.dynas.metrics, config.dynas.supernet_ckpt_path = ["acc"], checkpoint
    assert agent.supernet.fingerprint() == digits_mbv3(seed=3).fingerprint() != blank


# -- limits, warm start, stopping ------------------------------------------------------------------------------


def table_of(space, architectures, path, **columns):
    """Write a table as INC does."""
    rows = [",".join(["Sub-network", *columns])]
    for i, architecture in enumerate(architectures):
        rows.append(",".join([f'"{architecture}"', *(str(values[i]) for values in columns.values())]))
    path.write_text("\n".join(rows))
    return path


def test_limits_steer_the_search_and_are_part_of_its_identity(config):
    config.dynas.constraints = {"params": ["<= 0.6 x largest", ">= 1k"], "macs": "<= 0.6 x largest"}
    result = NAS(config).search()
    assert [o.name for o in result.metrics] == ["acc", "macs", "params"]
    largest = result.trials[0]
    for trial in result.trials[1:]:
        assert all(trial.values[name] <= 0.6 * largest.values[name] for name in ("macs", "params"))
    assert largest not in result.feasible and len(result.feasible) == 13
    assert result.provenance["search"]["constraints"] == {
        "params": ["<= 0.6 x largest", ">= 1k"],
        "macs": ["<= 0.6 x largest"],
    }
    assert SearchResult.load(config.dynas.results_csv_path.with_suffix(".jsonl")).front() == result.front()
    config.dynas.constraints = {"params": "<= 0.7 x largest"}
    with pytest.raises(ArchiveError, match="constraints"):
        NAS(config).search()


def test_impossible_limits_end_the_search_before_anything_is_measured(config, tmp_path):
    config.dynas.constraints = {"macs": "<= 1"}
    with pytest.raises(InfeasibleError, match="meets macs <= 1; the closest found has macs"):
        NAS(config).search()
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_search_gives_its_front_and_all_its_trials(config, tmp_path):
    net = digits_mbv3()
    points = list(dict.fromkeys(net.space.sample(np.random.default_rng(0), 40)))
    macs = [net.macs(a) for a in points]
    acc = [50 + 40 * rank / len(points) for rank in np.argsort(np.argsort(macs))]
    path = table_of(
        net.space, [*points, points[0]], tmp_path / "old.csv", MACs=[*macs, macs[0]], top1=[*acc, acc[0] + 2]
    )
    config.dynas.warm_start, config.dynas.constraints = path, {"macs": "<= 0.7 x largest"}
    problem = NAS(config).problem()
    assert {t.architecture for t in problem.prior} == set(points)
    assert problem.prior[0].values == {"acc": pytest.approx(acc[0] + 1), "macs": macs[0]}
    first = problem.first[1:]
    assert problem.first[0] == net.space.largest() and len(first) == 8 and set(first) <= set(points)
    assert all(net.macs(a) <= 0.7 * net.macs(net.space.largest()) for a in first)
    result = NAS(config).search()
    assert [t.architecture for t in result][:9] == list(problem.first)
    path.write_text(path.read_text().replace("50.0", "51.0"))
    with pytest.raises(ArchiveError, match="prior"):
        NAS(config).search()


def test_metrics_that_a_super_network_computes_describe_its_architectures(config):
    config.dynas.metrics = ["acc"]
    assert [o.name for o in NAS(config).problem().descriptors] == ["macs", "params"]


def test_patience_and_the_reference_point_are_those_of_the_config(config):
    config.dynas.metrics, config.dynas.num_evals = ["macs", "params"], 400
    config.dynas.patience, config.dynas.reference_point = 5, {"macs": "1G", "params": "1M"}
    result = NAS(config).search()
    assert result.provenance["stopped"]["rule"] == "patience" and len(result) < 400
    assert result.reference_point == {"macs": 1e9, "params": 1e6}
    assert result.ideal_point == {"macs": 0.0, "params": 0.0}
    assert NAS(config).search().trials == result.trials


# -- strategies of one's own -----------------------------------------------------------------------------------


class FromTheEnd(SearchStrategy):
    """Asks for the architectures of the space, the last one first."""

    def __init__(self, problem, *, seed=42, population=50, step=1):
        super().__init__(problem, seed=seed, population=population)
        rows = np.array(list(self.space.enumerate()))[::-step]
        self.left = [*problem.first, *self.space.decode(rows[: 3 * population])]

    def ask(self, n):
        batch, self.left = self.left[:n], self.left[n:]
        return batch

    def tell(self, trials):
        self.last = trials


@pytest.mark.parametrize(
    "own", [FromTheEnd, partial(FromTheEnd, step=2), lambda p, **options: FromTheEnd(p, **options)]
)
def test_a_strategy_of_ones_own(config, own):
    config.dynas.metrics, config.search_space = ["macs"], {"ks": [3], "r": [8]}
    result = NAS(config, strategy=own).search()
    assert len(result) == 14
    assert NAS(config, strategy=own).search().provenance["measured_now"] == 0
    name = result.provenance["search"]["algorithm"]
    assert name.startswith("test_agent.") and ("step=2" in name) == isinstance(own, partial)
    with pytest.raises(ArchiveError, match="algorithm"):
        NAS(config).search()


def test_options_without_effect_beside_a_strategy_of_ones_own_are_refused(config):
    config.dynas.predictor, config.dynas.batch, config.search_algorithm = "ridge", 3, "age"
    config.dynas.algorithm_options = {"mutation": 0.1}
    with pytest.raises(ConfigError) as refused:
        NAS(config, strategy=FromTheEnd)
    for name in ("nas.dynas.predictor: 'ridge'", "nas.dynas.batch: 3", "nas.search.search_algorithm: 'age'"):
        assert f"{name} has no effect beside a strategy of your own" in str(refused.value)
    assert "nas.dynas.algorithm_options.mutation: has no effect beside a strategy of" in str(refused.value)


def test_options_of_denas_are_refused_beside_a_strategy_of_ones_own(config):
    config.approach, config.denas = "denas", {"supernet": config.dynas.supernet, "search_engine": "RandomSearchEngine"}
    config.denas.m_prob, config.denas.select_num = 0.5, 3
    with pytest.raises(ConfigError) as refused:
        NAS(config, strategy=FromTheEnd)
    for name in ("search_engine: 'RandomSearchEngine'", "m_prob: 0.5", "select_num: 3"):
        assert f"nas.denas.{name} has no effect beside a strategy of your own" in str(refused.value)


@pytest.mark.parametrize("given", ["digits_mbv3", object])
def test_what_is_no_super_network_or_no_data_is_refused(config, given):
    with pytest.raises(ConfigError, match=f"supernet is a {type(given).__name__}; wants a super-network"):
        NAS(config, supernet=given)
    with pytest.raises(ConfigError, match=f"data is a {type(given).__name__}; wants data"):
        NAS(config, data=given)


class Start:
    """An object without a text of its own: the default one holds its address."""


def test_a_search_goes_on_with_an_object_among_the_options_of_its_strategy(config):
    def own(problem, start, key, **options):
        return FromTheEnd(problem, **options)

    config.dynas.metrics, config.search_space = ["macs"], {"ks": [3], "r": [8]}
    NAS(config, strategy=partial(own, start=Start(), key=lambda: 0)).search()
    again = NAS(config, strategy=partial(own, start=Start(), key=lambda: 0)).search()
    assert again.provenance["measured_now"] == 0
    assert "Start object" in again.provenance["search"]["algorithm"]
    with pytest.raises(ArchiveError, match="algorithm"):
        NAS(config, strategy=partial(own, start="begin", key=lambda: 0)).search()


def test_an_algorithm_object_of_pymoo(config):
    from pymoo.algorithms.moo.nsga2 import NSGA2

    section = config.evolutionary = config.evolutionary.model_copy(update=dict(config.dynas) | {"predictor": None})
    config.approach, section.metrics = "evolutionary", ["macs", "params"]
    algorithm = NSGA2(pop_size=6)
    result = NAS(config, strategy=algorithm).search()
    assert len({t.architecture for t in result}) == 14
    assert "NSGA2" in result.provenance["search"]["algorithm"]
    assert NAS(config, strategy=algorithm).search().provenance["measured_now"] == 0


@pytest.mark.parametrize("wrong", [3, "nsga2", dict, object()])
def test_what_is_no_strategy_is_refused(config, wrong):
    with pytest.raises(ConfigError, match="strategy: "):
        NAS(config, strategy=wrong)


def test_a_strategy_that_is_made_already_is_refused(config):
    problem = SearchProblem(digits_mbv3().space, NAS(config).objectives())
    with pytest.raises(ConfigError, match="a RandomSearch object is given; give the class"):
        NAS(config, strategy=RandomSearch(problem))
    with pytest.raises(ConfigError, match="made a int, not a SearchStrategy"):
        NAS(config, strategy=lambda *_, **__: 3).search()


@pytest.mark.parametrize("given", [None, 3, {"approach": "dynas"}])
def test_what_is_no_config_is_refused(given):
    with pytest.raises(ConfigError, match=f"wants a NASConfig or the path of a YAML file, got {type(given).__name__}"):
        NAS(given)
