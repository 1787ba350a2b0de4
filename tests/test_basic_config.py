"""Settings of basic searches: what loads, and what is refused before any work."""

import math

import pytest

from nas_compress import NAS, NASConfig
from nas_compress.errors import ConfigError

SPACE = {"channels": [8, 16, 32], "act": ["relu", "gelu"], "bias": [True, False]}
YAML = """
nas:
  approach: null
  search:
    search_space: {channels: [8, 16, 32], act: [relu, gelu], bias: [true, false]}
    search_algorithm: random
    metrics: [error_rate, ms]
    higher_is_better: [false, false]
    max_trials: 5
    seed: 7
"""


def test_files_of_inc_load(tmp_path):
    path = tmp_path / "basic.yaml"
    path.write_text(YAML)
    config = NASConfig.from_yaml(path)
    assert config.approach == "basic" and config.strategy == "random"
    assert config.search_space == SPACE and [type(v) for v in config.search_space["bias"]] == [bool, bool]
    assert (config.metrics, config.higher_is_better, config.max_trials) == (["error_rate", "ms"], [False, False], 5)
    config.to_yaml(tmp_path / "again.yaml")
    assert NASConfig.from_yaml(tmp_path / "again.yaml") == config
    assert NASConfig(approach=None).approach == "basic" and NASConfig(approach=None).strategy == "bo"


def test_no_warning_about_settings_that_count(tmp_path, caplog):
    path = tmp_path / "basic.yaml"
    path.write_text(YAML)
    NASConfig.from_yaml(path)
    assert not caplog.text


def changed(**changes):
    given = {"search_space": SPACE, "search_algorithm": "grid", "metrics": ["acc"], **changes}
    return NASConfig(approach="basic", **given)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search_space": None}, "nas.search.search_space: is not set"),
        ({"search_space": {"a": []}}, "nas.search.search_space.a: has no values"),
        ({"search_space": {"a": [1, math.inf]}}, "nas.search.search_space.a"),
        ({"search_space": {"a": [1, True]}}, "nas.search.search_space.a: true is given twice"),
        ({"metrics": None}, "nas.search.metrics: is not set; wants the names of what eval_func returns"),
        ({"metrics": ["acc", "acc"]}, "nas.search.metrics[1]: 'acc' is given twice"),
        ({"metrics": ["error"], "higher_is_better": [False]}, "nas.search.metrics[0]: 'error' cannot be a metric"),
        ({"metrics": ["acc", "energy"]}, "nas.search.higher_is_better: is not set, and energy may be either"),
        ({"metrics": ["acc", "ms"], "higher_is_better": [True]}, "nas.search.higher_is_better: has 1 values for 2"),
        ({"search_algorithm": "nsga2"}, "nas.search.search_algorithm: 'nsga2' does not go with approach basic"),
        ({"basic": {"constraints": {"ms": "< 2"}}}, "nas.basic.constraints.ms: is not among metrics: acc"),
        ({"basic": {"constraints": {"acc": "< 2 %"}}}, "nas.basic.constraints.acc: constraint on acc: unit '%'"),
        ({"basic": {"reference_point": {"ms": 2}}}, "nas.basic.reference_point: has values for ms; wants one for"),
        ({"basic": {"results_csv_path": "/"}}, "nas.basic.results_csv_path: '/' is a folder"),
    ],
)
def test_wrong_settings_are_named_before_any_work(changes, message):
    with pytest.raises(ConfigError) as caught:
        NAS(changed(**changes))
    assert str(caught.value).startswith(message)


def test_unknown_keys_and_wrong_types_are_named():
    with pytest.raises(ConfigError, match=r"nas.basic.num_evals: unknown key"):
        changed(basic={"num_evals": 3})
    with pytest.raises(ConfigError, match=r"nas.search.search_space.a: 16 is not a list"):
        changed(search_space={"a": 16})
    with pytest.raises(ConfigError, match=r"nas.search.search_space.a"):
        changed(search_space={"a": [[1, 2]]})
