import json

import numpy as np
import pytest
import torch

from nas_compress import NAS, NASConfig, load_best_structure
from nas_compress.errors import ConfigError, EvaluationError
from nas_compress.objectives.de_score import DEScore, DEScoreOriginal, UntrainedTerms, small_twin
from nas_compress.supernets import load_supernet, supernets
from nas_compress.weights import write_state


@pytest.fixture
def config(tmp_path):
    config = NASConfig(approach="denas", seed=1)
    section = config.denas
    section.supernet = "digits_vit"
    section.population, section.num_evals, section.select_num = 6, 15, 3
    section.score_seeds, section.score_reference, section.score_batch = 2, 8, 4
    section.results_csv_path = tmp_path / "results.csv"
    return config


def measured(agent):
    fresh = []
    result = agent.search(lambda progress: fresh.append(progress.measured))
    return result, sum(fresh)


def test_a_search_scores_each_architecture_once_and_goes_on(config, tmp_path):
    first, fresh = measured(NAS(config))
    assert fresh == len(first) == len({t.architecture for t in first}) == 15
    again, fresh = measured(NAS(config))
    assert fresh == 0 and again.trials == first.trials
    config.denas.num_evals = 18
    longer, fresh = measured(NAS(config))
    assert fresh == 3 and longer.trials[:15] == first.trials
    config.denas.results_csv_path = tmp_path / "whole.csv"
    assert measured(NAS(config))[0].trials == longer.trials


def test_nothing_is_extracted_but_untrained_networks(config, monkeypatch):
    monkeypatch.setattr(NAS, "build", lambda *_: pytest.fail("a sub-network was built"))
    result = NAS(config).search()
    assert all(t.spreads["de_score"] >= 0 for t in result)
    assert "DE-Score" in config.denas.results_csv_path.read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("given", "weights"),
    [
        ({}, {"diversity": 1, "saliency": 2, "entropy": 6, "macs": 1}),
        ({"saliency_weight": 3.0}, {"diversity": 1, "saliency": 3}),
        ({"saliency_weight": 3.0, "macs_weight": 1.0}, {"diversity": 1, "saliency": 3, "macs": 1}),
        ({"diversity_weight": 0.0, "entropy_weight": 2.0}, {"saliency": 2, "entropy": 2}),
        ({"macs_weight": 0.0}, {"diversity": 1, "saliency": 2}),
    ],
)
def test_terms_that_de_nas_does_not_have_count_by_themselves_only_where_no_weight_is_set(config, given, weights):
    for name, value in given.items():
        setattr(config.denas, name, value)
    (score,) = NAS(config).objectives()
    assert score.context()["weights"] == weights and set(score.context()["terms"]) == set(weights)


def test_the_best_structure_is_written_and_built(config, tmp_path):
    result = NAS(config).search()
    path = tmp_path / "results.best_structure.json"
    best = max(result.trials, key=lambda t: t.values["de_score"])
    content = json.loads(path.read_text())
    assert content["architecture"] == best.architecture.to_dict() and content["supernet"] == "digits_vit"
    model = load_best_structure(path)
    net = supernets.get("digits_vit")(seed=0)
    assert sum(p.numel() for p in model.parameters()) == net.params(best.architecture)
    assert model(net.example_input(2)).shape == (2, 10)


def test_limits_are_checked_before_anything_is_scored(config):
    config.denas.constraints = {"params": "<= 40k"}
    scored = []
    original = UntrainedTerms.__call__

    def call(self, architecture):
        scored.append(architecture)
        return original(self, architecture)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UntrainedTerms, "__call__", call)
        agent = NAS(config)
        result = agent.search()
    assert len(scored) == 15 + 8
    assert max(agent.supernet.params(a) for a in scored) <= 40_000
    assert all(t.values["params"] <= 40_000 for t in result)


def test_scores_do_not_depend_on_the_search_or_on_weights(config, tmp_path):
    """The same architecture has the same score under another seed, another engine, and with a trained checkpoint."""
    known = {t.architecture: t.values["de_score"] for t in NAS(config).search()}
    write_state(tmp_path / "weights.safetensors", supernets.get("digits_vit")(seed=5).state_dict())
    config.denas.supernet_ckpt_path = tmp_path / "weights.safetensors"
    config.seed, config.denas.search_engine = 2, "RandomSearchEngine"
    config.denas.results_csv_path = tmp_path / "other.csv"
    agent = NAS(config)
    (score,) = agent.objectives()
    for architecture, value in list(known.items())[:4]:
        assert score.measure(None, architecture).value == value


def test_other_engines_and_several_objectives(config, tmp_path):
    for engine in ("RandomSearchEngine", "BayesianOptimizationSearchEngine"):
        config.denas.search_engine = engine
        config.denas.results_csv_path = tmp_path / f"{engine}.csv"
        assert len(NAS(config).search()) == 15
    config.denas.search_engine, config.search_algorithm = "EvolutionarySearchEngine", "nsga2"
    config.denas.metrics = ["de_score", "macs"]
    config.denas.results_csv_path = tmp_path / "front.csv"
    result = NAS(config).search()
    assert len(result.front()) >= 2


def test_predictors_of_other_approaches_learn_the_score(config, tmp_path):
    other = NASConfig(approach="dynas", seed=1, metrics=["de_score", "macs"])
    other.dynas.supernet, other.dynas.population, other.dynas.num_evals = "digits_vit", 10, 14
    other.dynas.results_csv_path = tmp_path / "dynas.csv"
    result = NAS(other).search()
    assert len(result) == 14 and result.trials[0].architecture == NAS(other).space.largest()


def test_the_original_score(config, tmp_path):
    config.denas.metrics = ["de_score_original"]
    result = NAS(config).search()
    assert all(t.values["de_score_original"] > 0 for t in result)
    config.denas.diversity_weight, config.denas.results_csv_path = 0.0, tmp_path / "saliency.csv"
    agent = NAS(config)
    architecture = result.trials[0].architecture
    (score,) = agent.objectives()
    (saliency,) = UntrainedTerms(agent.supernet, ["saliency"], seeds=1, batch=4, original=True)(architecture)[
        "saliency"
    ]
    assert score.measure(None, architecture).value == saliency < result.trials[0].values["de_score_original"]


class HalfASecond:
    def compute(self, architectures):
        return np.full(len(architectures), 500.0)


def test_latency_is_part_of_the_original_score():
    net = load_supernet("digits_vit", trained=False, seed=0)
    architecture = net.space.largest()
    latency = HalfASecond()
    names = ["diversity", "saliency", "latency"]
    terms = UntrainedTerms(net, names, seeds=1, batch=4, latency=latency, original=True)
    plain, halved = (DEScoreOriginal(terms, "transformer", {"latency": weight}) for weight in (0.0, 2.0))
    value = plain.measure(None, architecture).value
    assert halved.measure(None, architecture).value == pytest.approx(value / 2)


def test_terms_of_all_families_on_small_inputs():
    rng = np.random.default_rng(0)
    for name, terms in (("fsdd_asr", ("diversity", "saliency")), ("tiny_bert", ("diversity", "saliency"))):
        net = supernets.get(name)(seed=0)
        (architecture,) = net.space.sample(rng, 1)
        found = UntrainedTerms(net, terms, seeds=2, batch=3)(architecture)
        assert {len(values) for values in found.values()} == {2}
        assert all(values[0] != values[1] for values in found.values())
        counted = UntrainedTerms(net, ["macs"], seeds=2)(architecture)
        assert counted == {"macs": [net.macs(architecture)] * 2}, "at full size, whatever the inputs of the others"


@pytest.mark.parametrize("name", ["denas_cnn", "digits_vit", "tiny_bert", "fsdd_asr", "digits_mbv3"])
def test_twins_are_of_the_same_space(name):
    net = load_supernet(name, trained=False, seed=0)
    twin = small_twin(net, 3)
    assert twin.space.describe() == net.space.describe()
    x, small = net.example_input(1), twin.example_input(1)
    sizes = [sum(t.numel() for t in (each if isinstance(each, tuple) else (each,))) for each in (x, small)]
    assert sizes[1] <= sizes[0]


def test_a_supernet_without_a_configuration_is_refused():
    class Net:
        config = None

    with pytest.raises(ConfigError, match="Net has no `config`"):
        UntrainedTerms(Net(), ["saliency"])


def test_a_sample_without_scores_is_an_error(config):
    agent = NAS(config)
    score = DEScore(UntrainedTerms(agent.supernet, ["saliency"]), {"saliency": 1.0}, lambda: [], {})
    with pytest.raises(ConfigError, match="0 random architectures have a score, wants 1"):
        score.measure(None, agent.space.largest())


@pytest.mark.parametrize("count", [1, 3])
def test_a_space_of_few_architectures_is_scored_whole(config, count):
    space = NAS(config).space
    choices = {d.name: d.choices[0] for d in space.dimensions if len(d.choices[0]) >= count}
    several = next(d.name for d in space.dimensions if d.slots == 1 and d.name in choices)
    config.search_space = {d.name: d.choices[0][:1] for d in space.dimensions} | {several: choices[several][:count]}
    config.denas.num_evals = 10
    result = NAS(config).search()
    assert len(result) == count and all(trial.ok for trial in result)


def dead_ones(monkeypatch, chosen):
    """Let the chosen architectures carry nothing of their outputs."""
    original = UntrainedTerms.__call__

    def call(self, architecture):
        terms = original(self, architecture)
        return {**terms, "saliency": [0.0] * len(terms["saliency"])} if chosen(architecture) else terms

    monkeypatch.setattr(UntrainedTerms, "__call__", call)


def test_dead_networks_of_the_sample_leave_the_scale_as_it_is(config, monkeypatch):
    net = supernets.get("digits_vit")(seed=0)
    sample = net.space.sample(np.random.default_rng(0), 12)
    weights = {"diversity": 1.0, "saliency": 1.0}
    terms = UntrainedTerms(net, list(weights), seeds=1, batch=2)
    expected = DEScore(terms, weights, lambda: sample[1:], {}).measure(None, sample[1]).value
    dead_ones(monkeypatch, lambda architecture: architecture == sample[0])
    score = DEScore(terms, weights, lambda: sample, {})
    assert score.measure(None, sample[1]).value == expected
    with pytest.raises(EvaluationError, match="saliency is 0"):
        score.measure(None, sample[0])


@pytest.mark.parametrize("engine", ["EvolutionarySearchEngine", "RandomSearchEngine"])
def test_a_search_goes_on_past_dead_networks_and_never_chooses_one(config, monkeypatch, engine):
    def dead(architecture):
        return architecture.to_dict()["embed_dim"] == [48]

    config.denas.search_engine, config.denas.score_reference = engine, 16
    dead_ones(monkeypatch, dead)
    result = NAS(config).search()
    assert len(result.trials) == 15 and any(dead(t.architecture) for t in result.trials)
    assert all(t.ok != dead(t.architecture) for t in result.trials)
    assert not any(dead(t.architecture) for t in result.front())


def test_global_generators_stay_as_they_are(config):
    torch.manual_seed(0)
    before = torch.get_rng_state().tolist()
    NAS(config).search()
    assert torch.get_rng_state().tolist() == before
