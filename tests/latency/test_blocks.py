"""All distinct blocks of a space are found, by looking at few of its architectures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_compress.errors import ConfigError
from nas_compress.latency import blocks
from nas_compress.latency.blocks import distinct_blocks
from nas_compress.space import Dimension, SearchSpace
from nas_compress.supernets import load_supernet
from nas_compress.supernets.base import Block


def exhaustive(net, space):
    rows = np.array(list(space.enumerate()))
    return {block.key for architecture in space.decode(rows) for block in net.blocks(architecture)}


def found(net, space, samples=200):
    return set(distinct_blocks(net, space, np.random.default_rng(0), samples))


def test_all_blocks_of_a_chain_whose_length_changes(chain):
    assert found(chain, chain.space) == exhaustive(chain, chain.space)


@pytest.mark.parametrize("allowed", [{"w": (2, 8), "d": (3,)}, {"w[0]": 4, "d": (1, 3)}, {"d": 1, "w": 2}])
def test_all_blocks_of_a_part_of_the_space_and_no_others(chain, allowed):
    space = chain.space.restrict(allowed)
    assert found(chain, space) == exhaustive(chain, space)


def test_all_blocks_of_a_real_network():
    net = load_supernet("digits_mbv3", trained=False, seed=0)
    space = net.space.restrict({"r": (8, 16), "ks": (3, 5), "e": 3})
    assert space.size() < 30_000
    assert found(net, space) == exhaustive(net, space)


class Drawn:
    """Blocks that depend on the genes in some arbitrary way."""

    name = "drawn"

    def __init__(self, groups, seed):
        self.groups = groups
        self.space = SearchSpace("drawn", (Dimension.uniform("g", (0, 1, 2), 6),))
        self.lengths = np.random.default_rng(seed).integers(0, 2, 3)

    def blocks(self, architecture):
        g = architecture["g"]
        keys = [f"{i}: {[g[j] for j in group]}" for i, group in enumerate(self.groups)]
        return [Block(key, None, None) for key in keys[: len(keys) - self.lengths[g[0]]]]


@settings(max_examples=30)
@given(
    groups=st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True), min_size=2, max_size=5),
    seed=st.integers(0, 99),
)
def test_all_blocks_whatever_they_depend_on(groups, seed):
    net = Drawn(groups, seed)
    assert found(net, net.space) == exhaustive(net, net.space)


def test_what_shows_only_where_two_genes_change_is_found_by_the_sample():
    class Both(Drawn):
        def blocks(self, architecture):
            first, second, third = architecture["g"][:3]
            middle = first == 1 and second == 1
            return [Block(f"rare {third}" if middle else "common", None, None)]

    net = Both([[0]], 0)
    assert found(net, net.space, samples=0) == {"common"}
    assert found(net, net.space) == {"common", "rare 0", "rare 1", "rare 2"}


def test_too_many_combinations_are_refused(monkeypatch, chain):
    monkeypatch.setattr(blocks, "MOST_COMBINATIONS", 8)
    with pytest.raises(ConfigError, match=r"depends on w\[\d\], w\[\d\]: 9 combinations are too many for a table"):
        found(chain, chain.space)
