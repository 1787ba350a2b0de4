"""MACs of every family against fvcore's count, on a hundred random sub-networks each."""

from __future__ import annotations

import numpy as np
import pytest

from nas_compress.objectives.cost import count_macs
from nas_compress.supernets import supernets

FAMILIES = (
    "digits_mbv3", "ofa_proxyless_d234_e346_k357_w1.3", "digits_resnet", "digits_vit", "tiny_bert", "multi30k_hat",
    "fsdd_asr", "denas_cnn",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_macs_are_fvcores_on_a_hundred_random_subnets(name: str) -> None:
    net = supernets.get(name)(seed=0).eval()
    architectures = net.space.sample(np.random.default_rng(7), 100)
    counted = net.encoded_cost("macs", net.space, net.space.encode(architectures))
    for architecture, macs in zip(architectures, counted, strict=True):
        subnet = net.extract(architecture)
        assert count_macs(subnet, net.example_input(1, architecture)) == macs
