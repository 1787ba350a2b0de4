"""NASConfig: attribute access, INC's YAML, round trips, and what is said about mistakes."""

from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas_compress.config import APPROACHES, DynasConfig, NASConfig
from nas_compress.documents import template_names, template_text
from nas_compress.errors import ConfigError
from nas_compress.objectives import objectives
from nas_compress.objectives.config import LatencyConfig
from nas_compress.objectives.timing import TimingSettings
from nas_compress.supernets import supernets

INC_YAML = """
model:
    name: imagenet_nas
    framework: pytorch

nas:
    approach: dynas
    search:
        search_algorithm: nsga2
        search_space:
        max_trials:
        seed: 7
    dynas:
        supernet: ofa_mbv3_d234_e346_k357_w1.2
        metrics: ['acc', 'macs']
        population: 50
        num_evals: 250
        results_csv_path: './search_results.csv'
        batch_size: 64
        eval_batch_size: 128
        dataset_path: '/datasets/imagenet-ilsvrc2012'
        supernet_ckpt_path:
        num_workers: 20
        test_fraction: 0.5
        distributed: false
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def message(function, *arguments, **keywords) -> str:
    with pytest.raises(ConfigError) as caught:
        function(*arguments, **keywords)
    return str(caught.value)


def searchable(**changes) -> NASConfig:
    """A config that passes `check` (computed metrics want neither data nor weights)."""
    section = {"supernet": "digits_mbv3", "metrics": ["macs", "params"], **changes}
    return NASConfig(approach="dynas", dynas=section)


def test_the_blog_example():
    config = NASConfig(approach="dynas", search_algorithm="nsga2")
    config.dynas.supernet = "ofa_mbv3_d234_e346_k357_w1.2"
    config.dynas.metrics = ["acc", "macs"]
    config.dynas.population = 50
    config.dynas.num_evals = 250
    config.dynas.results_csv_path = "search_results.csv"
    config.dynas.batch_size = 64
    config.dynas.dataset_path = "/datasets/imagenet-ilsvrc2012"
    config.seed = 7
    assert config.section is config.dynas
    assert config.search.seed == 7 and config.metrics == ["acc", "macs"]
    assert config.dynas.results_csv_path == Path("search_results.csv")
    assert config.strategy == "dynas"


def test_incs_yaml_loads_unchanged(tmp_path, caplog):
    config = NASConfig.from_yaml(write(tmp_path / "inc.yaml", INC_YAML))
    assert config.seed == 7
    assert config.dynas.batch_size == 64
    assert config.dynas.test_fraction == 0.5
    assert config.dynas.supernet_ckpt_path is None
    assert "'model' is not about the search" in caplog.text


def test_metrics_of_the_search_section_serve_the_approach(tmp_path):
    text = "nas: {approach: random, search: {metrics: [macs]}}"
    assert NASConfig.from_yaml(write(tmp_path / "a.yaml", text)).random.metrics == ["macs"]
    assert NASConfig(metrics=["params"]).dynas.metrics == ["params"]
    text = message(NASConfig, metrics=["params"], dynas={"metrics": ["macs"]})
    assert "give them once" in text


@pytest.mark.parametrize("approach", APPROACHES)
def test_flat_attributes_are_those_of_the_sections(approach):
    config = NASConfig(approach=approach)
    config.metrics = ["macs"]
    config.search_algorithm = "nsga2"
    config.search_space = {"ks": [3, 5]}
    config.higher_is_better = [False]
    config.max_trials = 3
    assert getattr(config, approach).metrics == ["macs"]
    assert config.search.model_dump() == {
        "search_algorithm": "nsga2",
        "seed": 42,
        "metrics": None,
        "search_space": {"ks": [3, 5]},
        "higher_is_better": [False],
        "max_trials": 3,
    }


@given(
    approach=st.sampled_from(APPROACHES),
    seed=st.integers(0, 2**31),
    population=st.integers(1, 1000),
    fraction=st.floats(0.001, 1.0),
    metrics=st.lists(st.sampled_from(["acc", "macs", "latency"]), min_size=1, unique=True),
    threads=st.integers(1, 64),
    path=st.one_of(st.none(), st.just("weights/a b.safetensors")),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_yaml_round_trip(tmp_path, approach, seed, population, fraction, metrics, threads, path):
    section = {
        "population": population,
        "test_fraction": fraction,
        "metrics": metrics,
        "supernet_ckpt_path": path,
        "latency": {"threads": threads},
    }
    config = NASConfig(approach=approach, seed=seed, **{approach: section})
    config.to_yaml(tmp_path / "config.yaml")
    assert NASConfig.from_yaml(tmp_path / "config.yaml") == config


def test_sections_of_other_approaches_survive_the_round_trip(tmp_path):
    config = NASConfig(approach="random")
    config.dynas.population = 7
    config.to_yaml(tmp_path / "config.yaml")
    assert NASConfig.from_yaml(tmp_path / "config.yaml").dynas.population == 7


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c: setattr(c.dynas, "populaton", 3), "nas.dynas.populaton: unknown key (did you mean 'population'?)"),
        (lambda c: setattr(c.dynas, "population", "fifty"), "nas.dynas.population: 'fifty' is not a whole number"),
        (lambda c: setattr(c.dynas, "population", 2.5), "nas.dynas.population: 2.5 is not a whole number"),
        (lambda c: setattr(c.dynas, "population", True), "nas.dynas.population: true is not a number"),
        (lambda c: setattr(c.dynas, "num_evals", 0), "nas.dynas.num_evals: 0 is not allowed; wants >= 1"),
        (lambda c: setattr(c.dynas, "metrics", "acc"), "nas.dynas.metrics: 'acc' is not a list; write [acc]"),
        (lambda c: setattr(c.dynas, "test_fraction", float("nan")), "nas.dynas.test_fraction: nan"),
        (lambda c: setattr(c.dynas, "latency", {"thread": 2}), "nas.dynas.latency.thread: unknown key"),
        (lambda c: setattr(c.dynas.latency, "threads", 0), "latency.threads: 0 is not allowed"),
        (lambda c: setattr(c, "seed", -1), "nas.search.seed: -1 is not allowed; wants >= 0"),
        (lambda c: setattr(c, "sed", 1), "nas.sed: unknown key (did you mean 'seed'?)"),
        (lambda c: setattr(c, "approach", "dynsa"), "nas.approach: 'dynsa' is not allowed (did you mean 'dynas'?)"),
        (lambda c: NASConfig(aproach="dynas"), "nas.aproach: unknown key (did you mean 'approach'?)"),
        (lambda c: NASConfig(supernet="digits_mbv3"), "nas.supernet: unknown key here; it belongs to nas.dynas"),
        (lambda c: NASConfig(dynas={"seed": 3}), "nas.dynas.seed: unknown key here; it belongs to nas.search"),
        (lambda c: NASConfig(dynas=3), "nas.dynas: 3 is not a mapping"),
        (lambda c: setattr(c.dynas, "predictor", 3), "nas.dynas.predictor: 3 is not a predictor's name"),
        (lambda c: setattr(c.dynas, "predictor", {"acc": 3}), "nas.dynas.predictor: {'acc': 3} is not a predictor's"),
        (lambda c: DynasConfig(constraints={"macs": 3e8}), "nas.dynas.constraints.macs: 300000000.0 is not a limit; w"),
        (lambda c: DynasConfig(constraints={"macs": []}), "nas.dynas.constraints.macs: [] is not a limit"),
        (lambda c: DynasConfig(constraints="x"), "nas.dynas.constraints: 'x' is not a mapping"),
        (lambda c: DynasConfig(patience=0), "nas.dynas.patience: 0 is not allowed; wants >= 1"),
        (lambda c: DynasConfig(min_gain=1), "nas.dynas.min_gain: 1 is not allowed; wants < 1"),
        (lambda c: DynasConfig(time_budget=0), "nas.dynas.time_budget: 0 is not allowed; wants > 0"),
        (lambda c: DynasConfig(reference_point={"acc": "x"}), "nas.dynas.reference_point.acc: 'x' is not a number"),
        (lambda c: DynasConfig(generations=3), "nas.dynas.generations: unknown key"),
        (
            lambda c: NASConfig(evolutionary={"algorithm_options": {"references": []}}),
            "nas.evolutionary.algorithm_options.references: [] is too short",
        ),
        (
            lambda c: NASConfig(dynas={"algorithm_options": {"mutation": 1.5}}),
            "nas.dynas.algorithm_options.mutation: 1.5 is not allowed; wants <= 1",
        ),
        (
            lambda c: NASConfig(dynas={"algorithm_options": {"neighbours": 2.5}}),
            "nas.dynas.algorithm_options.neighbours: 2.5 is not a whole number",
        ),
        (
            lambda c: NASConfig(full={"algorithm_options": {"steps": 0.1}}),
            "nas.full.algorithm_options.steps: unknown key (did you mean 'step'?)",
        ),
        (
            lambda c: NASConfig(random={"algorithm_options": {"step": 0.1}}),
            "nas.random.algorithm_options: unknown key",
        ),
        (lambda c: NASConfig(full={"training_samples": 0}), "nas.full.training_samples: 0 is not allowed"),
        (lambda c: DynasConfig(metrics=[]), "nas.dynas.metrics: [] is too short"),
        (lambda c: DynasConfig(dataset_path=""), "nas.dynas.dataset_path: '' is not a path"),
    ],
)
def test_a_wrong_value_says_where_what_and_what_is_allowed(change, expected):
    config = NASConfig()
    before = config.to_dict()
    assert expected in message(change, config)
    assert config.to_dict() == before


def test_all_problems_of_a_file_come_at_once_with_their_lines(tmp_path):
    path = write(tmp_path / "a.yaml", "nas:\n  approach: dynas\n  dynas:\n    populaton: 3\n    num_evals: none\n")
    text = message(NASConfig.from_yaml, path)
    assert text.splitlines()[0] == f"{path} has 2 problems:"
    assert "line 4: nas.dynas.populaton: unknown key" in text
    assert "line 5: nas.dynas.num_evals: 'none' is not a whole number" in text


def test_a_checkable_config_passes():
    searchable().check()


@pytest.mark.parametrize("population", [{}, {"population": 50}])
def test_a_short_search_of_the_default_approach_takes_any_population_and_reads_back(tmp_path, population):
    short = searchable(num_evals=20, **population)
    short.check()
    short.to_yaml(tmp_path / "config.yaml")
    NASConfig.from_yaml(tmp_path / "config.yaml").check()


def test_the_default_population_is_told_to_be_too_large():
    with pytest.raises(ConfigError, match="population: 50, the default, is larger than num_evals"):
        NASConfig(approach="concurrent", concurrent={"supernet": "digits_mbv3", "num_evals": 20}).check()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"supernet": None}, "nas.dynas.supernet: is not set; known: "),
        (
            {"supernet": "digits_mbv2"},
            "nas.dynas.supernet: unknown supernet 'digits_mbv2' (did you mean 'digits_mbv3'?)",
        ),
        ({"metrics": ["macs", "blau"]}, "nas.dynas.metrics[1]: unknown objective 'blau' (did you mean 'bleu'?)"),
        ({"metrics": ["lat", "latency"]}, "nas.dynas.metrics[1]: 'latency' is given twice (as 'lat')"),
        ({"predictor": "xgb"}, "nas.dynas.predictor: unknown predictor 'xgb'"),
        ({"predictor": {"macs": "xgb"}}, "nas.dynas.predictor.macs: unknown predictor 'xgb'"),
        ({"predictor": {"acc": "gp"}}, "nas.dynas.predictor: 'acc' is not measured by this search; measured: macs, p"),
        ({"constraints": {"mcas": "<= 1"}}, "nas.dynas.constraints.mcas: unknown objective 'mcas' (did you mean 'mac"),
        ({"constraints": {"macs": "<= 1 ms"}}, "nas.dynas.constraints.macs: constraint on macs: unit 'ms'"),
        (
            {"constraints": {"latency": [">= 1", "fast"]}},
            "nas.dynas.constraints.latency: constraint on latency: 'fast'",
        ),
        ({"constraints": {"acc": ">= 9"}}, "nas.dynas.supernet_ckpt_path: is not set"),
        (
            {"constraints": {"latency": "<= 1"}, "latency": {"threads": 9999}},
            "nas.dynas.latency.threads: 9999 is more than this",
        ),
        ({"reference_point": {"macs": 1}}, "nas.dynas.reference_point: lacks a value for params"),
        (
            {"reference_point": {"macs": 1, "params": 2, "acc": 3}},
            "nas.dynas.reference_point: 'acc' is not among metrics",
        ),
        ({"distributed": True}, "nas.dynas.distributed: true is not supported"),
        ({"dataset": "cifar"}, "nas.dynas.dataset: unknown data source 'cifar' (did you mean 'cifar10'?)"),
        ({"dataset": "idx", "dataset_path": "/nowhere"}, "nas.dynas.dataset_path: '/nowhere' does not exist"),
        ({"metrics": ["latency"], "latency": {"backend": "onnx"}}, "nas.dynas.latency.backend: unknown backend 'onnx'"),
        ({"metrics": ["latency"], "latency": {"threads": 9999}}, "nas.dynas.latency.threads: 9999 is more than this"),
        ({"latency": {"lut": "nope.jsonl"}}, "nas.dynas.latency.lut: no such file: 'nope.jsonl'"),
        (
            {"metrics": ["latency"], "latency": {"min_runs": 9, "max_runs": 4}},
            "nas.dynas.latency.min_runs: 9 is larger",
        ),
        ({"supernet_ckpt_path": "/nowhere/a.pth"}, "nas.dynas.supernet_ckpt_path: no such file: '/nowhere/a.pth'"),
        ({"warm_start": "/nowhere.csv"}, "nas.dynas.warm_start: no such file: '/nowhere.csv'"),
        ({"results_csv_path": "/"}, "nas.dynas.results_csv_path: '/' is a folder"),
        ({"results_csv_path": "/dev/null/a.csv"}, "nas.dynas.results_csv_path: '/dev/null/a.csv' cannot be written"),
    ],
)
def test_check_finds_what_does_not_fit_together(changes, expected):
    assert message(searchable(**changes).check).startswith(expected)


@pytest.mark.parametrize(
    ("approach", "changes", "expected"),
    [
        (
            "full",
            {"num_evals": 50, "training_samples": 50},
            "nas.full.training_samples: 50 leaves nothing of num_evals",
        ),
        ("full", {"num_evals": 1}, "nas.full.training_samples: null leaves nothing of num_evals (1)"),
        ("concurrent", {"validation_only": ["acc"]}, "nas.concurrent.validation_only: 'acc' is not measured by this"),
        (
            "concurrent",
            {"metrics": ["latency"], "validation_only": ["lat"]},
            "nas.concurrent.validation_only: ['lat'] leaves no objective to search for on predictions; metrics are",
        ),
        (
            "full",
            {"predictor": {"macs": "ridge"}},
            "nas.full.predictor.macs: 'ridge' has nothing to predict: macs is computed; leave it out, or write",
        ),
        (
            "evolutionary",
            {"algorithm_options": {"references": [{"macs": 1, "params": 1}]}},
            "nas.evolutionary.algorithm_options.references: goes with search_algorithm rnsga2 alone, which is 'nsga2' "
            "here; nsga2 takes crossover, mutation",
        ),
        (
            "denas",
            {"algorithm_options": {"mutation": 0.1}},
            "nas.denas.algorithm_options.mutation: goes with search_algorithm age, ctaea, ga, moead, nsga2, "
            "rnsga2, unsga3 alone, which is 'denas' here; denas takes none",
        ),
    ],
)
def test_check_finds_what_does_not_fit_an_approach(approach, changes, expected):
    section = {"supernet": "digits_mbv3", "metrics": ["macs", "params"], **changes}
    assert message(NASConfig(approach=approach, **{approach: section}).check).startswith(expected)


def test_concurrent_may_predict_what_could_be_computed():
    section = {"supernet": "digits_mbv3", "metrics": ["macs", "params"], "predictor": {"macs": "ridge"}}
    NASConfig(approach="concurrent", concurrent=section).check()


def test_a_warm_start_is_read_before_any_work(tmp_path):
    path = write(tmp_path / "earlier.csv", "Sub-network,MACs\n\"{'ks': [3]}\",7\n")
    text = message(searchable(warm_start=path).check)
    assert text.startswith(f"nas.dynas.warm_start: {path}, line 2: ")
    path = write(tmp_path / "notes.csv", "dear all\n")
    assert "want a column 'Sub-network'" in message(searchable(warm_start=path).check)


def test_timing_settings_have_one_home():
    timing = NASConfig(dynas={"latency": {"threads": 2, "min_runs": 7, "tolerance": 0.5}}).dynas.latency
    assert timing.settings() == TimingSettings(min_runs=7, tolerance=0.5)
    assert LatencyConfig().settings() == TimingSettings()


def test_any_registered_metric_will_do_but_for_the_quality_of_another_task(monkeypatch):
    monkeypatch.setattr(objectives, "_entries", dict(objectives._entries))
    objectives.register("energy", direction="minimize", unit="mJ", column="Energy (mJ)")(object())
    searchable(metrics=["macs", "energy"]).check()
    text = message(searchable(metrics=["bleu"], supernet_ckpt_path=None).check)
    assert "nas.dynas.metrics: 'bleu' is not a metric of supernet 'digits_mbv3''s task; those are: acc" in text


@pytest.mark.parametrize(
    ("supernet", "dataset", "expected"),
    [
        ("digits_resnet", "digits", "train it with: nas-compress train-supernet RECIPE"),
        ("tiny_bert", "sentences", "train it with: nas-compress train-supernet RECIPE"),
        ("denas_asr", "fsdd", "train it with: nas-compress train-supernet RECIPE"),
    ],
)
def test_untrained_supernets_are_trained_where_that_can_be_done(supernet, dataset, expected):
    metric = supernets.entry(supernet).info["metrics"][0]
    config = searchable(supernet=supernet, dataset=dataset, metrics=[metric], supernet_ckpt_path=None)
    assert f"is not set, and {supernet!r} comes without weights; {expected}" in message(config.check)


def test_a_network_without_shared_weights_is_asked_for_no_checkpoint():
    text = message(searchable(supernet="denas_cnn", metrics=["acc"], supernet_ckpt_path=None).check)
    assert "it has no trained weights to measure" in text and "supernet_ckpt_path" not in text


def test_a_supernet_of_ones_own_needs_data_that_are_named():
    config = searchable(supernet=None, metrics=["acc"])
    assert message(lambda: config.check(own_supernet=True)).startswith("nas.dynas.dataset: is not set; known: cifar10")
    config.check(own_supernet=True, own_data=True)


def test_check_sees_lists_that_were_changed_in_place():
    config = searchable()
    config.dynas.metrics.append(3)
    assert "nas.dynas.metrics[2]: 3 is not text" in message(config.check)


def test_check_knows_the_algorithms_of_each_approach():
    config = searchable()
    for name in ("grid", "bo", "nothing"):
        config.search_algorithm = name
        assert f"nas.search.search_algorithm: {name!r} does not go with approach 'dynas'" in message(config.check)
    config.search_algorithm = "nsga2"
    config.check()
    assert "algorithm" not in config.strategy_options(), "as where none is named: an archive is of both"
    config.search_algorithm = "agemoea"
    assert config.strategy_options()["algorithm"] == "age"
    config = NASConfig(approach="evolutionary", search_algorithm="nsga3", evolutionary={"supernet": "digits_mbv3"})
    config.metrics = ["macs", "params"]
    assert "unknown search strategy 'nsga3' (did you mean 'unsga3'?)" in message(config.check)
    for name in ("dynas", "concurrent", "random"):
        config.search_algorithm = name
        assert f"{name!r} is an approach of its own; write approach: {name}" in message(config.check)
    for name in ("grid", "age", "nsga2"):
        config.search_algorithm = name
        config.check()
    config.search_algorithm = None
    assert config.strategy == "nsga2"
    config.approach, config.search_algorithm = "random", "grid"
    config.random.supernet = "digits_mbv3"
    assert "'grid' does not go with approach 'random'; leave it out" in message(config.check)


@pytest.mark.parametrize("approach", ["evolutionary", "dynas", "concurrent"])
def test_algorithms_for_one_metric_take_one(approach):
    config = NASConfig(approach=approach, search_algorithm="ga", metrics=["macs", "params"])
    config.section.supernet = "digits_mbv3"
    assert "nas.search.search_algorithm: 'ga' optimises 1 metric(s), and there are 2: macs, params" in message(
        config.check
    )
    config.metrics, config.section.constraints = ["macs"], {"params": "<= 30k"}
    config.check()


def test_options_of_the_strategies_by_registered_names():
    config = NASConfig(metrics=["top1", "lat"])
    assert config.strategy_options() == {"predictor": "gp", "batch": 10}
    config.dynas.predictor, config.dynas.batch = {"top1": "ridge"}, 5
    assert config.strategy_options() == {"predictor": {"acc": "ridge"}, "batch": 5}
    config.approach, config.metrics, config.search_algorithm = "concurrent", ["top1", "lat"], "age"
    assert config.strategy_options() == {"generations": 200, "algorithm": "age"}
    config.concurrent.validation_only, config.concurrent.predictor = ["lat"], "auto"
    assert config.strategy_options()["validation_only"] == ["latency"]
    assert config.strategy_options()["predictor"] == "auto"
    config.approach = "full"
    assert config.strategy_options() == {"generations": 200, "training_samples": 200, "algorithm": "age"}
    config.full.num_evals, config.full.training_samples = 1000, 30
    assert config.strategy_options()["training_samples"] == 30
    config.approach = "evolutionary"
    assert config.strategy_options() == {}
    config.evolutionary.algorithm_options = {"references": [{"top1": 75, "lat": "2"}]}
    assert config.strategy_options() == {"references": [{"acc": 75.0, "latency": 2.0}]}
    config.approach = "random"
    assert config.strategy_options() == {}


def test_options_reach_the_algorithm_of_each_approach():
    options = {"mutation": 0.1, "references": [{"top1": 75, "lat": "2"}]}
    given = {"mutation": 0.1, "references": [{"acc": 75.0, "latency": 2.0}]}
    for approach in ("dynas", "concurrent", "full"):
        config = NASConfig(approach=approach, search_algorithm="rnsga2", **{approach: {"algorithm_options": options}})
        assert config.strategy_options()["algorithm_options"] == given
    config = NASConfig(approach="denas", search_algorithm="rnsga2", denas={"algorithm_options": options})
    assert config.strategy_options() == given


@pytest.mark.parametrize(
    ("metrics", "constraints", "words"),
    [
        (["acc", "macs"], {"acc": ">= 101"}, "constraints.acc: acc >= 101 % cannot be kept: acc ends at 100"),
        (["acc", "macs"], {"acc": "> 100 %"}, "acc > 100 % cannot be kept"),
        (["acc", "latency"], {"latency": "<= 0 ms"}, "latency <= 0 ms cannot be kept: latency begins at 0"),
        (["acc", "macs"], {"macs": ["<= 1M", "< 0"]}, "macs < 0 cannot be kept"),
        (["acc", "macs"], {"acc": ["> 101", "<= 100"], "macs": ">= 0"}, "acc > 101 % cannot be kept"),
        (["acc", "macs", "x"], {"acc": [">= 100", "<= 100"], "macs": [">= 0", "<= 0.1 x largest"]}, None),
        (["wer", "macs", "x"], {"wer": "<= 0 %"}, None),
    ],
)
def test_limits_can_be_kept(metrics, constraints, words):
    supernet = "fsdd_asr" if "wer" in metrics else "digits_mbv3"
    found = message(searchable(metrics=metrics, constraints=constraints, supernet=supernet).check)
    assert ("cannot be kept" in found) == (words is not None) and (words or "") in found


def test_arguments_beside_the_search_section_are_refused():
    with pytest.raises(
        ConfigError, match="search_algorithm, seed and search are both given; put all of it into search"
    ):
        NASConfig("evolutionary", search_algorithm="age", seed=7, search={"max_trials": 5})


def test_a_reference_point_leaves_room_for_something_better():
    for point, words in (
        ({"macs": 0, "params": 1e6}, "nas.dynas.reference_point.macs: 0.0 leaves nothing better: macs begins at 0"),
        ({"macs": 1e6, "params": -1}, "nas.dynas.reference_point.params: -1.0 leaves nothing better"),
    ):
        assert message(searchable(reference_point=point).check).startswith(words)
    section = {
        "supernet": "fsdd_asr",
        "metrics": ["de_score", "macs"],
        "reference_point": {"de_score": 10, "macs": 1e6},
    }
    assert "reference_point.de_score: 10.0 leaves nothing better: de_score ends at 10" in message(
        NASConfig(approach="dynas", dynas=section).check
    )


def test_a_reference_point_is_worse_than_the_best_that_a_metric_of_ones_own_names(monkeypatch):
    monkeypatch.setattr(objectives, "_entries", dict(objectives._entries))
    for name, best in (("perplexity", 1.0), ("balance", -10.0)):
        objectives.register(name, direction="minimize", unit="", column="", best=best)(object())
    point = {"perplexity": 1.0, "balance": -2.0}
    text = message(searchable(metrics=[*point], reference_point=point).check)
    assert text.startswith("nas.dynas.reference_point.perplexity: 1.0 leaves nothing better: perplexity begins at 1")
    assert "balance" not in text


def test_other_spellings_of_an_algorithm_are_allowed():
    config = searchable()
    config.search_algorithm = "agemoea"
    config.check()


def test_an_algorithm_is_given_what_it_takes():
    config = searchable(metrics=["macs", "params"], algorithm_options={"step": 0.2, "mutation": 0.1})
    config.search_algorithm = "mocmaes"
    assert message(config.check) == (
        "nas.dynas.algorithm_options.mutation: goes with search_algorithm age, ctaea, ga, moead, nsga2, rnsga2, "
        "unsga3 alone, which is 'mocmaes' here; mocmaes takes step"
    )
    config.dynas.algorithm_options.mutation = None
    config.check()
    config.search_algorithm, config.dynas.algorithm_options = "rnsga2", {"references": [{"macs": 1}]}
    where = "nas.dynas.algorithm_options.references[0]: lacks a value for params"
    assert message(config.check) == where


def test_a_predictor_of_what_is_never_predicted_is_refused(tmp_path):
    reason = "predictor names 'top1', which validation_only keeps from being predicted; leave out one of them"
    with pytest.raises(ConfigError, match=reason):
        NASConfig(concurrent={"metrics": ["top1", "macs"], "predictor": {"top1": "gp"}, "validation_only": ["acc"]})
    NASConfig(concurrent={"metrics": ["acc", "lat"], "predictor": {"acc": "gp"}, "validation_only": ["lat"]})


def test_limits_add_metrics_that_are_measured_for_them_alone():
    section = DynasConfig(metrics=["acc", "lat"], constraints={"latency": "<= 2 ms", "macs": [">= 1M", "<= 300M"]})
    assert section.limited == ["macs"] and section.measured == ["acc", "latency", "macs"]
    assert section.limits == [("latency", "<= 2 ms"), ("macs", ">= 1M"), ("macs", "<= 300M")]


def test_reference_points_take_multiples():
    assert DynasConfig(reference_point={"acc": 70, "macs": "450M"}).reference_point == {"acc": 70.0, "macs": 450e6}


def test_directions_must_agree():
    config = searchable()
    config.higher_is_better = [True, False]
    assert "nas.search.higher_is_better: [True, False] does not fit" in message(config.check)
    config.higher_is_better = [False, False]
    config.check()


def test_a_checkpoint_must_look_like_one(tmp_path):
    for name in ("net.pth", "net.safetensors"):
        path = write(tmp_path / name, "version https://git-lfs.github.com/spec/v1\n")
        assert "is not a whole safetensors or torch file" in message(searchable(supernet_ckpt_path=path).check)


def test_a_similar_file_name_is_suggested(tmp_path):
    write(tmp_path / "supernet.pth", "")
    text = message(searchable(supernet_ckpt_path=tmp_path / "supernt.pth").check)
    assert "(did you mean 'supernet.pth'?)" in text


def test_problems_of_a_check_carry_the_line(tmp_path):
    path = write(tmp_path / "a.yaml", "nas:\n  dynas:\n    supernet: digits_mbv2\n    metrics: [macs]\n")
    assert message(NASConfig.from_yaml(path).check).startswith(f"{path}, line 3: nas.dynas.supernet: unknown")


@pytest.mark.parametrize("section", ["model", "use_bf16", "graph_optimization", "pruning", "auto_distillation"])
def test_other_sections_of_inc_files_are_ignored_aloud(tmp_path, caplog, section):
    (tmp_path / "inc.yaml").write_text(f"{section}: {{name: x}}\nnas: {{approach: dynas}}\n")
    with caplog.at_level("WARNING"):
        assert NASConfig.from_yaml(tmp_path / "inc.yaml").approach == "dynas"
    assert repr(section) in caplog.text


def test_json_schema_describes_every_field():
    schema = NASConfig.json_schema()
    assert schema["properties"]["nas"]["properties"].keys() >= {"approach", "search", *APPROACHES}
    dynas = schema["$defs"]["DynasConfig"]
    assert dynas["additionalProperties"] is False
    assert all(item.get("description") for item in dynas["properties"].values())


@pytest.mark.parametrize("name", [n for n in template_names() if "nas" in yaml.safe_load(template_text(n))])
def test_templates_load_and_fit_the_schema(name):
    config = NASConfig.from_yaml(name)
    assert config.section.supernet
    jsonschema.validate(yaml.safe_load(template_text(name)), NASConfig.json_schema())


def test_metrics_of_the_search_serve_whatever_the_approach_is():
    config = NASConfig(metrics=["macs"])
    assert config.metrics == ["macs"]
    config.approach = "random"
    assert config.metrics == ["macs"]
    config.random.metrics = ["acc"]
    assert config.metrics == ["acc"]
    section = NASConfig(metrics=["macs"], dynas=DynasConfig(population=10))
    assert section.metrics == ["macs"] and section.dynas.population == 10


def test_a_config_is_made_again_from_its_dump():
    config = NASConfig(approach="random", seed=3, metrics=["macs"])
    assert NASConfig(**config.model_dump()) == config
    assert NASConfig(search={"seed": 3}).seed == 3


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_are_bounded(seed):
    with pytest.raises(ConfigError, match="seed"):
        NASConfig(seed=seed)


def test_truth_values_are_no_numbers():
    with pytest.raises(ConfigError, match="true is not a number"):
        NASConfig(max_trials=True)


def test_metrics_count_wherever_they_are_set_last():
    config = NASConfig("dynas")
    config.search.metrics = ["params", "macs"]
    assert config.metrics == config.section.metrics == ["params", "macs"] == config.to_dict()["dynas"]["metrics"]
    config.metrics.append("acc")
    assert config.section.metrics == ["params", "macs", "acc"]
    config = NASConfig("dynas", metrics=["acc", "macs"])
    config.metrics = ["acc", "latency"]
    config.approach = "random"
    assert config.metrics == config.random.metrics == ["acc", "latency"]
    config.random.metrics = ["acc", "params"]
    assert config.metrics == ["acc", "params"] == NASConfig.parse(config.to_dict(), ("nas",)).metrics
    basic = NASConfig("basic", search_space={"a": [1, 2]}, higher_is_better=[False])
    basic.search.metrics = ["loss"]
    assert basic.metrics == ["loss"]
