"""Searches that begin with what a train-free score likes."""

import math

import pytest

from nas_compress import NAS, NASConfig, zero_cost
from nas_compress.errors import ArchiveError, ConfigError
from nas_compress.objectives.de_score import UntrainedTerms
from nas_compress.supernets import supernets
from nas_compress.weights import write_state


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setattr(zero_cost, "SAMPLE", 12)
    weights = tmp_path / "net.safetensors"
    write_state(weights, supernets.get("digits_mbv3")(seed=0).state_dict())
    made = NASConfig(approach="dynas", seed=3, metrics=["acc", "macs"])
    section = made.dynas
    section.supernet, section.supernet_ckpt_path = "digits_mbv3", weights
    section.population = section.num_evals = 8
    section.test_fraction, section.calibration_images = 0.2, 32
    section.results_csv_path = tmp_path / "results.csv"
    section.zero_cost = True
    return made


def message(made) -> str:
    with pytest.raises(ConfigError) as caught:
        made.check()
    return str(caught.value)


def test_the_best_scored_are_measured_after_the_largest(config):
    agent = NAS(config)
    problem = agent.problem()
    first = zero_cost.scored_first(problem, agent.supernet).first
    assert problem.first == first[: len(problem.first)]
    added = first[len(problem.first) :]
    assert 1 <= len(added) <= zero_cost.BEST
    assert [t.architecture for t in agent.search().trials][: len(first)] == list(first)


def test_they_are_the_front_of_score_and_macs(config):
    agent = NAS(config)
    problem = agent.problem()
    scored = zero_cost.scored_first(problem, agent.supernet).first[len(problem.first) :]
    terms, net = UntrainedTerms(agent.supernet, ["saliency"], seeds=1), agent.supernet
    sample = zero_cost.sample_within(problem, 12)
    values = {a: (math.log(terms(a)["saliency"][0]), net.macs(a)) for a in sample}
    for one in scored:
        assert not any(s > values[one][0] and m < values[one][1] for s, m in values.values())


def test_no_weights_and_no_seed_of_the_search_count(config, tmp_path):
    found = []
    for seed in (0, 1):
        write_state(tmp_path / f"{seed}.safetensors", supernets.get("digits_mbv3")(seed=seed).state_dict())
        config.dynas.supernet_ckpt_path, config.seed = tmp_path / f"{seed}.safetensors", seed
        agent = NAS(config)
        found.append(zero_cost.scored_first(agent.problem(), agent.supernet).first)
    assert found[0] == found[1]


def test_limits_on_computed_metrics_are_kept(config):
    agent = NAS(config)
    config.dynas.constraints = {"macs": "<= 0.4 x largest"}
    limit = 0.4 * agent.supernet.macs(agent.space.largest())
    problem = agent.problem()
    added = zero_cost.scored_first(problem, agent.supernet).first[len(problem.first) :]
    assert added and all(agent.supernet.macs(a) <= limit for a in added)


def test_a_search_goes_on_and_is_another_one_without(config):
    first = NAS(config).search()
    config.dynas.num_evals = 9
    assert NAS(config).search().trials[:8] == first.trials
    config.dynas.zero_cost = False
    with pytest.raises(ArchiveError, match="zero_cost"):
        NAS(config).search()


def test_where_there_is_nothing_to_score_or_to_stand_in_for(config):
    config.check()
    config.dynas.metrics = ["de_score", "macs"]
    assert "nas.dynas.zero_cost: wants a metric of quality, such as acc" in message(config)
    replayed = NASConfig(approach="concurrent", metrics=["acc", "macs"])
    replayed.concurrent.supernet, replayed.concurrent.zero_cost = "replay/nas_bench_201", True
    assert "zero_cost: wants networks to score" in message(replayed)
    quantized = NASConfig(approach="dynas", dynas={"supernet": "digits_resnet", "precision": {}, "zero_cost": True})
    assert "zero_cost: does not go with precision" in message(quantized)
    with pytest.raises(ConfigError, match="zero_cost"):
        NASConfig(approach="random", random={"zero_cost": True})
