import numpy as np
import pytest

from nas_compress.replay.mobilenet_cost import MobileNetCost, divisible
from nas_compress.supernets import mobilenet_config
from nas_compress.supernets.mobilenet import build_mobilenet


@pytest.mark.parametrize(("name", "resolution"), [("OFA_MBV3_W1_0", 224), ("OFA_MBV3_W1_2", 188), ("DIGITS_MBV3", 12)])
def test_costs_are_those_of_the_super_network(name, resolution):
    config = getattr(mobilenet_config, name)
    net = build_mobilenet(name, config, seed=0)
    space = net.space.restrict({"r": resolution})
    architectures = [space.smallest(), space.largest(), *space.sample(np.random.default_rng(1), 100)]
    genes, slots = space.encode(architectures), len(config.widths) * max(config.depths)
    arguments = genes[:, :slots], genes[:, slots : 2 * slots], space.active(genes)[:, :slots]
    cost = MobileNetCost(config, resolution)
    np.testing.assert_array_equal(cost.macs(*arguments), [net.macs(a) for a in architectures])
    np.testing.assert_array_equal(cost.params(*arguments), [net.params(a) for a in architectures])


def test_divisible_is_that_of_the_layers():
    from nas_compress.elastic import make_divisible

    widths = np.arange(1, 2000) / 3
    assert [divisible(w) for w in widths] == [make_divisible(w) for w in widths]
