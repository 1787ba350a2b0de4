from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_compress import NASConfig
from nas_compress.denas_keys import ELSEWHERE, translated
from nas_compress.errors import ConfigError
from nas_compress.objectives.config import TERMS
from nas_compress.objectives.de_score import _weights, kind_of
from nas_compress.supernets import load_supernet


def denas(tmp_path, text, algorithm=""):
    path = tmp_path / "search.yaml"
    rows = "\n".join(f"    {row}" for row in text.splitlines())
    path.write_text(f"nas:\n  approach: denas\n  search: {{seed: 1{algorithm}}}\n  denas:\n{rows}\n")
    return NASConfig.from_yaml(path)


PUBLISHED = """model_type: transformer
search_engine: EvolutionarySearchEngine
batch_size: 64
max_epochs: 4
select_num: 50
population_num: 50
m_prob: 0.2
s_prob: 0.4
crossover_num: 25
mutation_num: 25
max_param_limits: 100
min_param_limits: 1
expressivity_weight: 0
complexity_weight: 0
diversity_weight: 1
saliency_weight: 1"""


def test_published_keys(tmp_path):
    config = denas(tmp_path, PUBLISHED)
    section = config.denas
    assert section.supernet == "denas_vit"
    assert (section.population, section.num_evals, section.batch_size) == (50, 200, 64)
    assert section.constraints == {"params": ["<= 100000000", ">= 1000000"]}
    assert section.weights() == {"expressivity": 0, "complexity": 0, "diversity": 1, "saliency": 1}
    assert config.strategy == "denas"
    assert config.strategy_options() == {
        "parents": 50, "crossovers": 25, "mutants": 25, "m_prob": 0.2, "s_prob": 0.4
    }  # fmt: skip
    config.check()


def test_limits(tmp_path):
    text = "model_type: cnn\nbudget_model_size: 1000000\nbudget_flops: 3.0e+8\nbudget_latency_sec: 0.002\n"
    text += "budget_num_layers: 18\n"
    section = denas(tmp_path, f"{text}constraints: {{params: '>= 1k'}}").denas
    assert section.constraints == {
        "params": [">= 1k", "<= 1000000"], "macs": ["<= 300000000"], "latency": ["<= 2 ms"], "layers": ["<= 18"]
    }  # fmt: skip
    assert section.limited == ["params", "macs", "layers", "latency"]


@pytest.mark.parametrize(
    ("model_type", "supernet"),
    [("cnn", "denas_cnn"), ("vit", "denas_vit"), ("bert", "bert_base_denas"), ("asr", "denas_asr")],
)
def test_a_domain_stands_for_its_supernet(model_type, supernet):
    config = NASConfig(approach="denas", denas={"model_type": model_type})
    assert config.section.supernet == supernet
    config.check()
    other = NASConfig(approach="denas", denas={"model_type": model_type, "supernet": "digits_vit"})
    assert other.section.supernet == "digits_vit"


def test_a_domain_that_is_set_later():
    config = NASConfig(approach="denas")
    for model_type, supernet in (("vit", "denas_vit"), ("bert", "bert_base_denas")):
        config.denas.model_type = model_type
        assert config.denas.supernet == supernet
    config.denas.supernet = "digits_vit"
    config.denas.model_type = "cnn"
    assert config.denas.supernet == "digits_vit"


@pytest.mark.parametrize(
    ("engine", "strategy"),
    [
        ("EvolutionarySearchEngine", "denas"),
        ("RandomSearchEngine", "random"),
        ("BayesianOptimizationSearchEngine", "bo"),
    ],
)
def test_engines(engine, strategy):
    config = NASConfig(approach="denas", denas={"model_type": "cnn", "search_engine": engine})
    assert config.strategy == strategy
    assert bool(config.strategy_options()) == (strategy == "denas")
    config.check()


def test_other_strategies_are_named_as_elsewhere():
    config = NASConfig(approach="denas", search_algorithm="nsga2", denas={"model_type": "cnn"})
    config.denas.metrics = ["de_score", "macs"]
    assert config.strategy == "nsga2" and config.strategy_options() == {}
    config.check()
    config.denas.search_engine = "RandomSearchEngine"
    with pytest.raises(ConfigError, match="'nsga2' and denas.search_engine are both given"):
        config.check()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("population_nun: 3", "population_nun: unknown key .did you mean 'population'"),
        ("select_num: 0", "denas.select_num: 0 is not allowed; wants >= 1"),
        ("search_engine: EvolutionSearchEngine", "did you mean 'EvolutionarySearchEngine'"),
        ("model_type: vision", "'vision' is not allowed"),
        ("latency_weight: 10000", "10000 is not allowed; wants <= 100: terms have one unit here"),
        ("saliency_weight: -1", "wants >= 0"),
        ("population_num: 3\npopulation: 4", "population_num and population are both given"),
        ("max_epochs: 3\nnum_evals: 4", "max_epochs and num_evals are both given"),
        ("max_epochs: 2.5", "max_epochs: 2.5 is not a whole number over 0"),
        ("population_num: 0", "population_num: 0 is not a whole number over 0"),
        ("budget_model_size: big", "budget_model_size: 'big' is not a number over 0"),
        ("seed: 0", "seed stands in nas.search"),
        ("supernet_cfg: conf/supernet.yaml", "supernet_cfg is not read; name a super-network"),
        ("budget_num_layers: many", "budget_num_layers: 'many' is not a number over 0"),
        ("score_batch: 1", "wants >= 2"),
        ("max_epochs: 2\ncrossover_num: [1]", "crossover_num: .1. is not a whole number"),
        ("max_epochs: 2\nmutation_num: abc", "mutation_num: 'abc' is not a whole number"),
        ("max_epochs: 2\ncrossover_num: .nan", "crossover_num: nan is not a whole number"),
        ("max_epochs: 2\npopulation: [3]", "population: .3. is not a whole number"),
        ("max_epochs: 2\npopulation: .inf", "population: inf is not a whole number"),
        ("max_epochs: 2\npopulation: null", "population: null is not a whole number"),
        ("max_epochs: 2\npopulation: 0", "population: 0 is not allowed; wants >= 1"),
    ],
)
def test_what_is_refused(tmp_path, text, words):
    with pytest.raises(ConfigError, match=words) as caught:
        denas(tmp_path, text)
    assert "denas" in str(caught.value)


def weightless(names):
    return {f"{name}_weight": 0 for name in names}


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"latency_weight": 1.0}, "denas.latency_weight: wants latency.lut"),
        (weightless(TERMS), "all weights of the score are 0"),
        (weightless({*TERMS} - {"latency"}), "all weights of the score are 0"),
        (weightless({*TERMS} - {"latency", "diversity"}), "complexity, saliency, entropy, macs, lat"),
        (weightless({"expressivity", "complexity", "saliency"}), "all weights of the score are 0"),
        ({"supernet": "digits_vit", **weightless({"diversity", "saliency"})}, "all weights of the score are 0"),
        ({"supernet": None, **weightless({*TERMS} - {"latency"})}, "all weights of the score are 0"),
        ({"metrics": ["de_score_original"], "latency_weight": 1.0}, "denas.latency_weight: 1.0 has no effect: it has"),
        (
            {"supernet": "digits_vit", "metrics": ["de_score_original"], "macs_weight": 1.0},
            "denas.macs_weight: 1.0 has no effect: it has no place in the formula of de_score_original",
        ),
        (
            {"supernet": "digits_vit", "metrics": ["de_score_original"], "latency_weight": 1.0},
            "denas.latency_weight: wants latency.lut",
        ),
        ({"diversity_weight": 1}, "denas.diversity_weight: 1.0 does not go with 'denas_cnn', which has no attention"),
        ({"constraints": {"params": ["<= 1M", ">= 5M"]}}, "params >= 5000000 and params <= 1000000 exclude each other"),
        ({"min_param_limits": 5, "max_param_limits": 1}, "constraints.params: params >= 5000000 and params <= "),
        ({"metrics": ["de_score", "acc"]}, "metrics: 'acc' is not a metric"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together(section, words):
    with pytest.raises(ConfigError, match=words):
        NASConfig(approach="denas", denas={"model_type": "cnn", **section}).check()


@pytest.mark.parametrize(
    "section",
    [
        {"supernet": "digits_vit", **weightless({"expressivity", "complexity", "macs"})},
        {"supernet": "digits_vit", **weightless({"diversity", "saliency"}), "expressivity_weight": 1},
        {"supernet": "digits_resnet", **weightless({*TERMS} - {"macs"}), "macs_weight": 1},
        {"supernet": "digits_resnet", **weightless({"diversity"})},
        {"supernet": "a_class_of_ones_own", "diversity_weight": 1},
        {"constraints": {"params": ["<= 1M", ">= 1M"]}},
        {"constraints": {"params": ["<= 1M", ">= 0.5 x largest"]}},
    ],
)
def test_what_fits_together(section):
    own = section.get("supernet") == "a_class_of_ones_own"
    NASConfig(approach="denas", denas={"model_type": "cnn", **section}).check(own_supernet=own)


@pytest.mark.parametrize("supernet", ["denas_cnn", "digits_mbv3", "digits_resnet", "digits_vit", "tiny_bert"])
def test_what_is_refused_for_its_terms_is_what_the_score_could_not_be_made_of(supernet):
    net = load_supernet(supernet, trained=False, seed=0)
    for present in product((None, 0, 1), repeat=3):
        section = dict(zip(("saliency_weight", "diversity_weight", "macs_weight"), present, strict=True))
        section |= weightless({"expressivity", "complexity"})
        config = NASConfig(approach="denas", denas={"supernet": supernet, **section})
        terms = _weights(net, config.denas)
        lacks = "diversity" in terms and kind_of(net) == "cnn"
        if terms and not lacks:
            config.check()
        else:
            with pytest.raises(ConfigError, match="diversity_weight: " if lacks else "all weights of the score are 0"):
                config.check()


@pytest.mark.parametrize(
    ("sizes", "evaluations"),
    [
        ({}, 500),
        ({"population_num": 7}, 70),
        ({"population_num": 50, "crossover_num": 40}, 50 + 9 * 65),
        ({"population_num": 50, "crossover_num": 10, "mutation_num": 10}, 50 + 9 * 20),
        ({"population_num": 50, "crossover_num": 0}, 50 + 9 * 25),
    ],
)
def test_epochs_are_generations(sizes, evaluations):
    assert NASConfig(approach="denas", denas={"max_epochs": 10, **sizes}).denas.num_evals == evaluations


@pytest.mark.parametrize("sizes", [{"crossover_num": 0, "mutation_num": 0}, {"population": 1, "mutation_num": 0}])
def test_a_generation_wants_children(sizes):
    config = NASConfig(approach="denas", denas={"model_type": "cnn", **sizes})
    with pytest.raises(ConfigError, match=r"nas\.denas\.crossover_num: a population of \d+ has no children"):
        config.check()


def test_yaml_round_trip(tmp_path):
    config = denas(tmp_path, PUBLISHED)
    config.to_yaml(tmp_path / "again.yaml")
    again = NASConfig.from_yaml(tmp_path / "again.yaml")
    assert again == config
    again.check()


def test_the_score_is_a_metric_of_every_approach():
    for approach in ("dynas", "concurrent", "evolutionary", "random", "full"):
        NASConfig(approach=approach, metrics=["de_score", "macs"], **{approach: {"supernet": "denas_cnn"}}).check()


keys = st.sampled_from(
    ["population", "population_num", "max_epochs", "num_evals", "crossover_num", "budget_flops", "m_prob", *ELSEWHERE]
)
plain = st.none() | st.booleans() | st.integers(-3, 100) | st.floats() | st.text(max_size=5) | st.lists(st.integers())


@given(st.dictionaries(keys, plain, max_size=4))
def test_any_values_are_translated_or_refused(section):
    try:
        found = translated(section, 50)
    except ValueError as error:
        assert str(error)
    else:
        assert not {"population_num", "max_epochs", "budget_flops"} & {k for k, v in found.items() if v is not None}


@given(st.dictionaries(keys, plain, max_size=4))
def test_any_section_is_read_or_refused(section):
    try:
        config = NASConfig(approach="denas", denas=section)
    except ConfigError:
        return
    assert config.denas.population >= 1
