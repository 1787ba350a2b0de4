import numpy as np
import pytest

from nas_compress.objectives.cost import count_macs
from nas_compress.supernets import mobilenet_config
from nas_compress.supernets.mobilenet import build
from nas_compress.supernets.mobilenet_cost import MobileNetCost


@pytest.mark.parametrize(
    ("name", "resolution"),
    [("OFA_MBV3_W1_0", 224), ("OFA_MBV3_W1_2", 188), ("OFA_PROXYLESS_W1_3", 132), ("DIGITS_MBV3", 12)],
)
def test_costs_are_those_of_the_extracted_networks(name, resolution):
    config = getattr(mobilenet_config, name)
    net = build(name, config, seed=0)
    space = net.space.restrict({"r": resolution})
    architectures = [space.smallest(), space.largest(), *space.sample(np.random.default_rng(1), 2)]
    genes, slots = space.encode(architectures), sum(config.blocks)
    arguments = genes[:, :slots], genes[:, slots : 2 * slots], space.active(genes)[:, :slots]
    cost, subnets = MobileNetCost(config, resolution), [net.extract(a) for a in architectures]
    example = net.example_input(1, architectures[0])
    assert cost.macs(*arguments).tolist() == [count_macs(subnet, example) for subnet in subnets]
    assert cost.params(*arguments).tolist() == [sum(p.numel() for p in subnet.parameters()) for subnet in subnets]


def test_costs_in_a_part_of_the_space_and_at_several_resolutions():
    net = build("net", mobilenet_config.OFA_MBV3_W1_0, seed=0)
    part = net.space.restrict({"ks": (5, 7), "e[3]": (3, 6), "d[1]": (3, 4), "r": (128, 192)})
    architectures = part.sample(np.random.default_rng(0), 30)
    assert len({a["r"] for a in architectures}) == 2
    for cost, count in (("macs", net.macs), ("params", net.params)):
        assert net.encoded_cost(cost, part, part.encode(architectures)).tolist() == [count(a) for a in architectures]
