import numpy as np
import pytest

from nas_compress.objectives.cost import count_macs
from nas_compress.supernets import resnet_config
from nas_compress.supernets.resnet import build


@pytest.mark.parametrize(("name", "count"), [("DIGITS_RESNET", 15), ("CIFAR10_RESNET", 8), ("OFA_RESNET50", 2)])
def test_costs_are_those_of_the_extracted_networks(name, count):
    net = build("net", getattr(resnet_config, name), seed=0)
    corners = [net.space.smallest(), net.space.largest()]
    architectures = [*corners, *net.space.sample(np.random.default_rng(1), count)]
    encoded = net.space.encode(architectures)
    subnets = [net.extract(a) for a in architectures]
    expected = [count_macs(s, net.example_input(1, a)) for s, a in zip(subnets, architectures, strict=True)]
    assert net.encoded_cost("macs", net.space, encoded).tolist() == expected
    parameters = [sum(p.numel() for p in s.parameters()) for s in subnets]
    assert net.encoded_cost("params", net.space, encoded).tolist() == parameters


def test_costs_in_a_part_of_the_space():
    net = build("net", resnet_config.OFA_RESNET50, seed=0)
    part = net.space.restrict({"e": (0.25, 0.35), "d[0]": 0, "w[3]": (0, 2), "r": (128, 196)})
    architectures = part.sample(np.random.default_rng(0), 30)
    for cost, count in (("macs", net.macs), ("params", net.params)):
        assert net.encoded_cost(cost, part, part.encode(architectures)).tolist() == [count(a) for a in architectures]


def test_the_largest_published_network_has_the_published_widths():
    assert resnet_config.OFA_RESNET50.outputs == (
        (24, 24, 32),
        (40, 48, 64),
        (168, 208, 256),
        (336, 408, 512),
        (664, 816, 1024),
        (1328, 1640, 2048),
    )
