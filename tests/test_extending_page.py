"""The snippets of docs/extending.md work."""

import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from nas_compress import NAS, NASConfig
from nas_compress.objectives import objectives
from nas_compress.objectives.cost import count_macs
from nas_compress.predictors import predictors
from nas_compress.supernets import load_supernet, supernets

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"


def snippet(word):
    """Return the indented block of code that has a word."""
    blocks = PAGE.read_text(encoding="utf-8").split("\n\n    from ")[1:]
    code = next("    from " + block for block in blocks if word in block)
    lines = code.splitlines()
    end = next((i for i, line in enumerate(lines) if line and not line.startswith("    ")), len(lines))
    return textwrap.dedent("\n".join(lines[:end]))


@pytest.fixture(autouse=True)
def _own_registries(monkeypatch):
    for registry in (objectives, predictors, supernets):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))


def test_an_objective_that_is_registered_can_be_searched_for(tmp_path):
    def read_meter(subnet, images, repeats):
        return images.shape[-1] / 1000, 0.001 / repeats

    exec(snippet("energy"), {"read_meter": read_meter})
    config = NASConfig(approach="random", random={"supernet": "digits_mbv3", "metrics": ["macs", "energy"]})
    config.random.num_evals, config.random.population = 6, 3
    config.random.results_csv_path = tmp_path / "results.csv"
    result = NAS(config).search()
    assert [t.values["energy"] for t in result] == [float(t.architecture["r"][0]) for t in result]
    assert result.provenance["contexts"]["energy"]["repeats"] == 30
    assert result.best({"energy": "<= 12 mJ"}, minimize="energy").spreads["energy"] == pytest.approx(1 / 30)


def test_a_supernet_that_is_registered_can_be_named(tmp_path):
    exec(snippet("my_net"), {})
    net = load_supernet("my_net", trained=False, seed=0)
    assert net.in_channels == 1 and load_supernet("my_net", trained=False, num_classes=3).num_classes == 3
    config = NASConfig(dynas={"supernet": "my_net", "metrics": ["macs"], "population": 3, "num_evals": 3})
    config.dynas.results_csv_path = tmp_path / "results.csv"
    assert len(NAS(config).search()) == 3


def test_the_supernet_of_the_page_keeps_to_the_page():
    exec(snippet("my_net"), {})
    net = load_supernet("my_net", trained=False, seed=0)
    x = net.example_input(3)
    with torch.no_grad():
        before = net(x)
        net.sort_by_importance()
        torch.testing.assert_close(net(x), before)
        norms = net.parts[0].down.weight.abs().sum(0)
        assert torch.equal(norms, norms.sort(descending=True).values)
    for architecture in net.space.sample(np.random.default_rng(0), 5):
        subnet, blocks = net.extract(architecture), net.blocks(architecture)
        with torch.no_grad(), net.activate(architecture):
            torch.testing.assert_close(subnet(x), net(x))
            torch.testing.assert_close(torch.nn.Sequential(*(block.build() for block in blocks))(x), net(x))
        assert all(block.build()(block.example(2)).shape[0] == 2 for block in blocks)
        assert net.macs(architecture) == count_macs(subnet, x[:1])
        assert net.params(architecture) == sum(p.numel() for p in subnet.parameters())


def test_a_family_of_the_package_is_an_entry_of_its_configuration():
    names = {}
    exec(snippet("my_net"), names)
    exec(snippet("MLPS"), names)
    entry = names["MLPS"]["digits_mlp"]
    assert entry.info["space"]().size() == 3 + 3**2 + 3**3 and entry.info["dataset"] == "digits"


def test_a_predictor_that_is_registered_serves_a_search(tmp_path):
    exec(snippet("energy"), {"read_meter": lambda subnet, images, repeats: (images.shape[-1] / 1000, 0.001)})
    exec(snippet("Forest"), {})
    section = {"supernet": "digits_mbv3", "metrics": ["macs", "energy"], "predictor": "forest", "num_evals": 14}
    config = NASConfig(approach="dynas", dynas=section | {"population": 10, "results_csv_path": tmp_path / "a.csv"})
    result = NAS(config).search()
    assert len(result) == 14 and result.provenance["strategy"]["predictors"]["energy"]["predictor"] == "forest"
