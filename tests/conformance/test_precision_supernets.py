"""A super-network with precisions in its space does what every super-network must do.

Left out: what the registry says, and loading weights, which belong to the super-network inside; and that every
dimension must be given, for an architecture without precisions is the one in fp32.
"""

from __future__ import annotations

import numpy as np
import pytest
from test_supernets import (  # noqa: F401  # tests and fixtures, run here on other networks
    change,
    onnx,
    test_activation_ends_with_its_block_and_with_an_error,
    test_active_subnet_equals_extraction,
    test_blocks_add_up_to_the_subnet,
    test_costs_are_those_of_the_extraction,
    test_costs_of_many_are_those_of_each,
    test_description_is_plain_data,
    test_example_input_is_the_same_at_every_call,
    test_extraction_consists_of_plain_layers,
    test_extraction_is_independent,
    test_fingerprint_follows_from_weights_and_configuration,
    test_global_generators_stay_as_they_are,
    test_importance_sorting_keeps_the_largest_subnet,
    test_layers_are_those_of_the_extraction,
    test_onnx_computes_the_same,
    test_without_activation_it_is_the_largest_subnet,
)

from nas_compress.space import Architecture
from nas_compress.supernets import supernets
from nas_compress.supernets.base import Supernet
from nas_compress.supernets.precision import PrecisionSupernet
from nas_compress.supernets.precision_config import PrecisionConfig


@pytest.fixture(scope="module", params=["digits_resnet", "digits_mbv3", "digits_vit"])
def net(request: pytest.FixtureRequest) -> Supernet:
    base = supernets.get(request.param)(seed=0).eval()
    change(base)
    return PrecisionSupernet(base, PrecisionConfig(by="block"))


@pytest.fixture(scope="module")
def architectures(net: Supernet) -> list[Architecture]:
    return [net.space.smallest(), net.space.largest(), *net.space.sample(np.random.default_rng(1), 1)]
