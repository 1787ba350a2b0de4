"""The commands that measure DE-NAS: what they keep, what they compare."""

import importlib.util
import json
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from nas_compress.objectives.config import ScoreOptions
from nas_compress.objectives.de_score import UntrainedTerms
from nas_compress.proxies.ntk import ntk_condition_number
from nas_compress.proxies.nuclear_norm import nuclear_norm_diversity

FOLDER = Path(__file__).parents[1] / "benchmarks"


def script(name, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def searches(monkeypatch):
    """The script as a module; terms are the depth of a network, and the settings under which it was scored."""
    scored = []

    def call(self, architecture):
        scored.append(architecture)
        return {name: [architecture["depth"][0] + self._batch] * self._seeds for name in self._names}

    monkeypatch.setattr(UntrainedTerms, "__call__", call)
    module = script("denas_search", monkeypatch)
    module.scored = scored
    return module


def options(**given):
    settings = {"published": False, "searches": ["denas", "random"], "seeds": 1, "budget": 6, "json": None}
    return Namespace(**{**settings, "score_seeds": 1, "batch": 2, **given})


def test_scores_of_other_settings_are_not_taken(searches):
    kept = {}
    list(searches.run("vit", options(), kept))
    first = len(searches.scored)
    list(searches.run("vit", options(), kept))
    assert len(searches.scored) == first, "the same settings: nothing is scored again"
    list(searches.run("vit", options(batch=4), kept))
    list(searches.run("vit", options(score_seeds=2), kept))
    assert len([name for name in kept if name.startswith("scores ")]) == 3
    assert len([name for name in kept if name.startswith("runs ")]) == 3
    json.dumps(kept)


def test_a_limit_is_a_setting(searches, monkeypatch):
    kept, (build, _) = {}, searches.SMALL["vit"]
    for most in (None, 40e3, 50e3):
        monkeypatch.setitem(searches.SMALL, "vit", (build, most))
        list(searches.run("vit", options(searches=["random"]), kept))
    assert len([name for name in kept if name.startswith("scores ")]) == 3


@pytest.mark.parametrize("names", [["random"], ["denas"], ["denas", "random", "nsga2"]])
def test_any_strategies(searches, names):
    (line,) = searches.run("vit", options(searches=names), {})
    assert all(f"{name} " in line for name in names)
    assert ("denas beats random in" in line) == ({"denas", "random"} <= set(names))
    assert ("nsga2 beats random in" in line) == ("nsga2" in names)


def test_the_defaults_are_the_products(searches, monkeypatch):
    seen = []
    monkeypatch.setattr(searches, "run", lambda domain, args, kept: iter(seen.append(args) or []))
    monkeypatch.setattr("sys.argv", ["denas_search.py", "--domains", "vit"])
    searches.main()
    assert (seen[0].score_seeds, seen[0].batch) == (ScoreOptions().score_seeds, ScoreOptions().score_batch)


@pytest.fixture
def costs(monkeypatch):
    module = script("denas_score", monkeypatch)
    monkeypatch.setattr(module, "PUBLISHED", script("denas_search", monkeypatch).SMALL)
    return module


def test_the_slow_side_is_as_published(costs):
    (build, _) = costs.PUBLISHED["cnn"]
    net = build()
    network, x = net.extract(net.space.smallest()), net.example_input(4)
    assert costs.exact_term(network, x, "complexity", 0) == ntk_condition_number(network, x, coupled=True)
    assert costs.exact_term(network, x, "complexity", 0) != costs.fast_term(network, x, "complexity", 0)
    (build, _) = costs.PUBLISHED["vit"]
    net = build()
    network, x = net.extract(net.space.smallest()), net.example_input(4)
    assert costs.exact_term(network, x, "diversity", 0) == nuclear_norm_diversity(network, x, norm="nuclear")
    assert costs.exact_term(network, x, "diversity", 0) > costs.fast_term(network, x, "diversity", 0)


def test_costs_are_compared_on_like_networks(costs):
    (build, _) = costs.PUBLISHED["cnn"]
    net = build()
    assert net.space.to_string(costs.comparable("cnn", net, [])) == net.config.seed
    (build, _) = costs.PUBLISHED["vit"]
    net = build()
    sample = [net.space.smallest(), net.space.largest()]
    assert costs.comparable("vit", net, sample) == net.space.largest(), "the nearest to 26M parameters"


def test_the_lines_of_a_domain(costs, capsys, monkeypatch):
    class Predictor:
        def predict(self, architectures):
            return [1.0] * len(architectures)

    monkeypatch.setattr(costs, "predictor", lambda *_: Predictor())
    costs.run("vit", 4, 1, Path("tables"))
    lines = capsys.readouterr().out.splitlines()
    assert "with latency from a table" in lines[3] and "the original 60" in lines[3]
    for line in lines[-3:]:
        assert all(-1 <= float(value) <= 1 for value in line.split()[1:]) and len(line.split()) == 4


def test_other_seeds_are_other_weights_of_every_term(costs):
    (build, _) = costs.PUBLISHED["cnn"]
    net = build()
    names, some = ["expressivity", "saliency"], [net.space.smallest()]
    first, second = (costs.terms({s: costs.small_twin(net, s)}, some, names, 2, costs.fast_term)[0] for s in (0, 50))
    assert all(first[name] != second[name] for name in names)
