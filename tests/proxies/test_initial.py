"""Networks at initialisation."""

import pytest
import torch
from networks import CASES, cnn
from torch import nn

from nas_compress.errors import ConfigError
from nas_compress.proxies.initial import initialised


def values(module: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


@pytest.mark.parametrize("kind", list(CASES))
@pytest.mark.parametrize("scheme", ["default", "kaiming", "xavier"])
def test_the_seed_decides_and_the_network_stays_as_it_is(kind: str, scheme: str) -> None:
    module = CASES[kind]().module
    before, generator = values(module), torch.get_rng_state()
    first, second, other = (initialised(module, seed, scheme) for seed in (0, 0, 1))
    assert torch.equal(values(first), values(second)) and not torch.equal(values(first), values(other))
    assert torch.equal(values(module), before) and torch.equal(torch.get_rng_state(), generator)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert torch.equal(values(initialised(module, 0, scheme)), values(first)), "old weights do not matter"


def test_default_is_what_building_from_the_seed_gives() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        built = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(4, 5))
    assert torch.equal(values(initialised(built, 3)), values(built))


def test_running_statistics_start_anew() -> None:
    module = cnn()
    module(torch.ones(4, 3, 8, 8))
    assert not initialised(module, 0)[1].running_mean.any()


def test_kaiming_keeps_the_variance_of_rectified_inputs() -> None:
    layer = initialised(nn.Linear(1000, 800), 0, "kaiming")
    assert layer.weight.std().item() == pytest.approx((2 / 1000) ** 0.5, rel=0.01)
    assert not layer.bias.any()


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown scheme 'he' of initialisation; known: default, kaiming, xavier"):
        initialised(cnn(), 0, "he")
