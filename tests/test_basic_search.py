"""Basic searches from a config to a result."""

import csv
import logging
import math
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from nas_compress import NAS, NASConfig
from nas_compress.basic import params_of
from nas_compress.errors import ArchiveError, ConfigError, EvaluationError, InfeasibleError
from nas_compress.result import SearchResult
from nas_compress.search import strategies
from nas_compress.search.random import RandomSearch
from nas_compress.tables import read_results

SPACE = {"channels": [8, 16, 32], "act": ["relu", "gelu"], "bias": [True, False]}


def error_rate(params):
    return 10 / params["channels"] + 0.1 * (params["act"] == "relu") + 0.01 * params["bias"]


class Model:
    """Stands in for a network; trains by counting."""

    def __init__(self, params):
        self.params, self.steps = params, 0


class Counting:
    """The three functions of a user, and how often they were called."""

    def __init__(self, broken=lambda params: False):
        self.built, self.trained, self.broken = [], 0, broken

    def build(self, params):
        self.built.append(params)
        return Model(params)

    def train(self, model):
        self.trained += 1
        model.steps += 1

    def evaluate(self, model):
        if self.broken(model.params):
            raise ZeroDivisionError("no images")
        return {"ms": float(model.params["channels"]), "error_rate": error_rate(model.params) / model.steps, "more": 0}


@pytest.fixture
def config(tmp_path):
    config = NASConfig(
        approach="basic",
        search_space=SPACE,
        search_algorithm="random",
        metrics=["error_rate", "ms"],
        higher_is_better=[False, False],
        max_trials=6,
    )
    config.basic.results_csv_path = tmp_path / "results.csv"
    return config


def agent_of(config, functions=None, **options):
    functions = functions or Counting()
    agent = NAS(config, **options)
    agent.model_builder, agent.train_func, agent.eval_func = functions.build, functions.train, functions.evaluate
    return agent


# -- searches ----------------------------------------------------------------------------------------------------


def test_a_search_builds_trains_and_evaluates_each_architecture_once(config):
    functions = Counting()
    result = agent_of(config, functions).search()
    assert len(result) == functions.trained == len(functions.built) == 6
    assert [params_of(t.architecture) for t in result] == functions.built
    assert len(set(result.trials[i].architecture for i in range(6))) == 6
    for trial, params in zip(result, functions.built, strict=True):
        assert trial.values == {"error_rate": error_rate(params), "ms": params["channels"]}
        assert {type(v) for v in params.values()} == {int, str, bool}


def test_functions_as_arguments(config):
    functions = Counting()
    NAS(config, model_builder=functions.build, train_func=functions.train, eval_func=functions.evaluate).search()
    assert functions.trained == 6


def test_training_may_be_left_out(config):
    agent = agent_of(config)
    agent.train_func, agent.eval_func = None, lambda model: [model.steps, 1]
    assert all(t.values == {"error_rate": 0, "ms": 1} for t in agent.search())


def test_the_result_works_with_names_of_the_users_own(config, tmp_path):
    config.max_trials, config.search_algorithm = 12, "grid"
    result = agent_of(config).search()
    assert [params_of(t.architecture) for t in result][:3] == [
        {"channels": 8, "act": "relu", "bias": False},
        {"channels": 8, "act": "relu", "bias": True},
        {"channels": 8, "act": "gelu", "bias": False},
    ]
    wanted = [{"channels": c, "act": "gelu", "bias": False} for c in (32, 16, 8)]
    assert [params_of(t.architecture) for t in result.front()] == wanted
    assert params_of(result.best({"ms": "<= 16"}, minimize="error_rate").architecture) == wanted[1]
    assert params_of(result.best({"ms": "<= 0.5 x largest"}).architecture) == wanted[1]
    with pytest.raises(InfeasibleError, match="ms <= 4"):
        result.best({"ms": "<= 4"})
    table = result.to_dataframe()
    assert list(table["ms"]) == [t.values["ms"] for t in result] and table["front"].sum() == 3
    assert table["hypervolume"].iloc[-1] > 0
    result.plot(tmp_path / "front.png")
    assert (tmp_path / "front.png").stat().st_size > 0


def test_the_table_and_the_archive_read_back(config):
    config.metrics, config.higher_is_better, config.max_trials = ["acc", "latency"], None, 4
    agent = agent_of(config)
    agent.eval_func = lambda model: {"acc": 50 - error_rate(model.params), "latency": model.params["channels"]}
    result = agent.search()
    path = config.basic.results_csv_path
    with open(path, newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["Sub-network"] for row in rows] == [str(t.architecture) for t in result]
    assert [float(row["acc"]) for row in rows] == [t.values["acc"] for t in result]
    for file in (path, path.with_suffix(".jsonl")):
        assert read_results(file, agent.space) == [(t.architecture, dict(t.values)) for t in result]
    loaded = SearchResult.load(path.with_suffix(".jsonl"))
    assert loaded.trials == result.trials and loaded.objectives == result.objectives


def test_build_gives_a_trained_model(config):
    agent = agent_of(config)
    best = agent.search().best()
    model = agent.build(best.architecture)
    assert (model.params, model.steps) == (params_of(best.architecture), 1)


def test_three_trials_unless_told_otherwise(config, caplog):
    config.max_trials = None
    with caplog.at_level(logging.INFO):
        assert len(agent_of(config).search()) == 3
    assert "max_trials is not set: 3" in caplog.text


def test_a_small_space_ends_the_search(config):
    config.max_trials, config.search_space = 50, {"channels": [8, 16], "act": ["gelu"], "bias": [True]}
    result = agent_of(config).search()
    assert len(result) == 2 and result.provenance["stopped"]["rule"] == "exhausted"


def test_limits_count(config):
    config.max_trials, config.basic.constraints = 12, {"ms": ["<= 16", "> 8"]}
    result = agent_of(config).search()
    assert {t.values["ms"] for t in result.front()} == {16}
    config.basic.results_csv_path = config.basic.results_csv_path.with_name("other.csv")
    config.basic.constraints = {"ms": "< 8"}
    with pytest.raises(InfeasibleError, match="ms < 8: the closest has 8"):
        agent_of(config).search()


def test_a_search_may_run_out_of_patience(config):
    config.max_trials, config.basic.patience, config.basic.reference_point = 12, 2, {"error_rate": 2, "ms": 100}
    result = agent_of(config).search()
    assert len(result) < 12 and result.provenance["stopped"]["rule"] == "patience"


@pytest.mark.parametrize("algorithm", ["bo", "grid", "random"])
def test_every_algorithm_finds_the_best_of_a_small_space(config, algorithm):
    if algorithm not in strategies:
        pytest.skip(f"the strategy {algorithm!r} is not there")
    config.search_algorithm, config.max_trials = algorithm, 12
    config.metrics, config.higher_is_better = ["error_rate"], [False]
    best = agent_of(config).search().best()
    assert params_of(best.architecture) == {"channels": 32, "act": "gelu", "bias": False}


def test_a_strategy_of_ones_own(config):
    config.search_algorithm = None
    assert len(agent_of(config, strategy=RandomSearch).search()) == 6
    config.search_algorithm = "ours"
    with pytest.raises(ConfigError, match="search_algorithm: 'ours' has no effect beside a strategy of your own"):
        agent_of(config, strategy=RandomSearch)


# -- going on ----------------------------------------------------------------------------------------------------


def test_a_search_goes_on_without_training_anything_twice(config):
    stopped = Counting()

    def interrupted(model):
        stopped.train(model)
        if stopped.trained == 4:
            raise KeyboardInterrupt

    agent = agent_of(config, stopped)
    agent.train_func = interrupted
    with pytest.raises(KeyboardInterrupt):
        agent.search()
    again = Counting()
    agent = agent_of(config, again)
    agent.train_func = interrupted  # the same source: the same conditions
    result = agent.search()
    assert len(again.built) == 3 and again.built[0] == stopped.built[3]
    config.max_trials = 8
    more = Counting()
    agent = agent_of(config, more)
    agent.train_func = interrupted
    longer = agent.search()
    assert longer.trials[:6] == result.trials and len(more.built) == 2


def test_changed_code_is_measured_again_with_a_warning(config, caplog):
    agent_of(config).search()
    functions = Counting()
    agent = agent_of(config, functions)
    agent.train_func = lambda model: setattr(model, "steps", 2)
    with caplog.at_level(logging.WARNING):
        result = agent.search()
    assert len(functions.built) == 6 and "ms is measured again" in caplog.text and "train_func" in caplog.text
    assert all(t.values["error_rate"] == error_rate(params_of(t.architecture)) / 2 for t in result)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 3},
        {"higher_is_better": [True, False]},
        {"metrics": ["ms", "error_rate"]},
        {"search_space": {**SPACE, "channels": [8, 16]}},
        {"search_algorithm": "grid"},
    ],
)
def test_another_search_in_the_same_place_is_refused(config, change):
    agent_of(config).search()
    for name, value in change.items():
        setattr(config, name, value)
    with pytest.raises(ArchiveError, match="belongs to another search"):
        agent_of(config).search()


SCRIPT = """
    import os, sys
    from nas_compress import NAS, NASConfig

    config = NASConfig(approach=None, search_space={"a": [1, 2, 3], "b": ["x", "y"]}, search_algorithm="grid",
                       metrics=["score"], higher_is_better=[True], max_trials=6)
    def build(params):
        return params
    def evaluate(params):
        if (params["a"], params["b"]) == (2, "y") and not os.path.exists("mended"):
            open("mended", "w").close()
            os._exit(9)
        with open("log.txt", "a") as log:
            log.write(f"{params['a']}{params['b']} ")
        return params["a"]
    result = NAS(config, model_builder=build, eval_func=evaluate).search()
    print([t.values["score"] for t in result], "torch" in sys.modules, "sklearn" in sys.modules)
"""


def test_a_killed_search_loses_nothing_and_needs_no_torch(tmp_path):
    script = tmp_path / "search.py"
    script.write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, str(script)]
    root = str(Path(__file__).resolve().parents[1])
    runs = [
        subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": root, "PATH": ""})
        for _ in range(2)
    ]
    assert [run.returncode for run in runs] == [9, 0], runs[1].stderr
    assert runs[1].stdout.split("\n")[0] == "[1.0, 1.0, 2.0, 2.0, 3.0, 3.0] False False"
    assert (tmp_path / "log.txt").read_text().split() == ["1x", "1y", "2x", "2y", "3x", "3y"]
    assert (tmp_path / "search_results.jsonl").exists()


# -- failures ----------------------------------------------------------------------------------------------------


def test_some_failures_are_recorded_and_not_tried_again(config, caplog):
    functions = Counting(broken=lambda params: params["channels"] == 8)
    config.max_trials = 12
    result = agent_of(config, functions).search()
    failed = [t for t in result if not t.ok]
    assert len(failed) == 4 and {t.architecture["channels"] for t in failed} == {(8,)}
    assert {t.error for t in failed} == {"error_rate: eval_func raised ZeroDivisionError: no images"}
    assert caplog.text.count("ZeroDivisionError") == 4
    again = Counting()
    assert agent_of(config, again).search().trials == result.trials and not again.built


def test_a_value_that_is_not_finite_is_a_failure(config):
    config.max_trials = 12
    agent = agent_of(config)
    agent.eval_func = lambda model: [1.0, {8: 1.0, 16: math.nan, 32: math.inf}[model.params["channels"]]]
    errors = {(t.architecture["channels"][0], t.error) for t in agent.search()}
    assert errors == {(8, None), (16, "ms: the value is nan"), (32, "ms: the value is inf")}


@pytest.mark.parametrize(("largest", "fails"), [(1e99, False), (1e160, True)])
def test_a_value_that_cannot_be_squared_ends_nothing(config, largest, fails):
    config.max_trials, config.search_algorithm = 12, "bo"
    agent = agent_of(config)
    agent.eval_func = lambda model: [1.0, {8: 1.0, 16: 2.0, 32: largest}[model.params["channels"]]]
    result = agent.search()
    assert len(result) == 12
    assert {t.architecture["channels"][0] for t in result if not t.ok} == ({32} if fails else set())


@pytest.mark.parametrize(("trials", "tried"), [(3, 3), (12, 10)])
def test_a_bug_ends_the_search_with_its_traceback(config, trials, tried):
    config.max_trials = trials
    functions = Counting(broken=lambda params: True)
    with pytest.raises(EvaluationError, match=f"none of the first {tried} architectures.*no images") as caught:
        agent_of(config, functions).search()
    assert len(functions.built) == tried
    cause = caught.value.__cause__
    assert isinstance(cause, EvaluationError) and isinstance(cause.__cause__, ZeroDivisionError)


def test_a_wrong_count_of_values_is_told(config):
    agent = agent_of(config)
    agent.eval_func = lambda model: 0.5
    with pytest.raises(EvaluationError, match=r"returned 1 value, there are 2 metrics \(error_rate, ms\)"):
        agent.search()


@pytest.mark.parametrize("name", ["model_builder", "eval_func"])
def test_missing_functions_are_told_before_any_work(config, name):
    agent = agent_of(config)
    setattr(agent, name, None)
    with pytest.raises(ConfigError, match=f"{name} is not set"):
        agent.search()
    assert not config.basic.results_csv_path.exists()


def test_what_belongs_to_other_approaches_is_refused(config):
    with pytest.raises(ConfigError, match="data does not go with approach 'basic'"):
        NAS(config, data=object())
    with pytest.raises(ConfigError, match="'basic' has no super-network"):
        config.section  # noqa: B018
    with pytest.raises(ConfigError, match="'basic' has no super-network"):
        NAS(config).supernet  # noqa: B018
    dynas = NASConfig()
    dynas.dynas.supernet, dynas.dynas.metrics = "digits_mbv3", ["macs"]
    with pytest.raises(ConfigError, match="eval_func does not go with approach 'dynas'"):
        NAS(dynas, eval_func=len)


def test_the_approach_may_be_chosen_later(config):
    late = NASConfig(search_space=SPACE, metrics=["error_rate"], higher_is_better=[False])
    late.approach = "basic"
    assert late.metrics == ["error_rate"]
