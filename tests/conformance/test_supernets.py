"""What every registered super-network must do, whatever it is.

Nets that are small enough take part with several architectures, published ones with two; most of these are slow.
No weight is left at its initial 0 or 1, so that none can be mistaken for another.
"""

from __future__ import annotations

import copy
import json
import pickle
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas_compress.backends.onnx import to_onnx
from nas_compress.backends.onnxruntime import OnnxSession
from nas_compress.data import data_sources
from nas_compress.errors import ArchitectureError
from nas_compress.objectives import objectives
from nas_compress.objectives.cost import count_macs
from nas_compress.space import Architecture
from nas_compress.supernets import load_supernet, supernets
from nas_compress.supernets.base import Block, ImageSupernet, Inputs, Supernet
from nas_compress.supernets.conv_chain import ConvChainSupernet
from nas_compress.weights import write_state

NETWORKS = [name for name in supernets if "replay" not in supernets.entry(name).info]
SMALL = ("digits_", "fashion_mnist_", "cifar10_", "tiny_", "fsdd_", "multi30k_")
"""How names of nets begin that are cheap enough for several architectures."""
QUICK = (*(name for name in NETWORKS if name.startswith(SMALL)), "compofa_mbv3_w1.0", "denas_cnn")
"""All others are published nets of 7 to 110 million parameters: seconds a test, and so marked slow."""
SHARED_TABLES = ("multi30k_hat", "transformer_lt_wmt_en_de")
"""Nets whose parts share a table of embeddings, of which each block has one of its own; see `hat_blocks`."""


@pytest.fixture(scope="module", params=[pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in NETWORKS])
def net(request: pytest.FixtureRequest) -> Supernet:
    """Each registered network in evaluation mode, its weights changed; tests leave it as it is."""
    net: Supernet = supernets.get(request.param)(seed=0).eval()
    change(net)
    return net


@pytest.fixture(scope="module")
def architectures(net: Supernet) -> list[Architecture]:
    most = 3 if net.name.startswith(SMALL) else 1
    ends = [net.space.smallest(), net.space.largest()] if net.name.startswith(SMALL) else [net.space.smallest()]
    return [*ends, *net.space.sample(np.random.default_rng(1), most)]


@torch.no_grad()
def change(net: nn.Module) -> None:
    """Add noise to all weights and statistics."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in net.state_dict().items():
        if name.endswith("running_var"):
            tensor.mul_(0.5 + torch.rand(tensor.shape, generator=generator))
        elif tensor.is_floating_point():
            tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=0.1 if tensor.ndim == 1 else 0.01)


def as_tuple(values: Inputs) -> tuple[Tensor, ...]:
    return (values,) if isinstance(values, Tensor) else values


@torch.no_grad()
def outputs(module: Callable[..., Inputs], inputs: Inputs) -> tuple[Tensor, ...]:
    return as_tuple(module(*as_tuple(inputs)))


def assert_same(got: Inputs, expected: Inputs, tolerance: float) -> None:
    """Compare outputs, relative to the largest of each."""
    for one, other in zip(as_tuple(got), as_tuple(expected), strict=True):
        scale = max(1.0, float(other.abs().max())) if other.is_floating_point() else 1
        torch.testing.assert_close(one / scale, other / scale, atol=tolerance, rtol=tolerance)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def equal_states(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


# -- the registry ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_the_registry_tells_all_without_building(name: str) -> None:
    entry = supernets.entry(name)
    assert entry.summary and "\n" not in entry.summary
    info = entry.info
    assert {"metrics", "dataset", "space", "weights", "channels"} <= info.keys()
    assert set(info["metrics"]) <= set(objectives)
    assert info["dataset"] is None or info["dataset"] in data_sources
    assert info["weights"] is None or info["weights"].startswith("https://") or Path(info["weights"]).is_file()
    assert info["space"]().name == name


def test_name_space_and_channels_are_the_registrys(net: Supernet) -> None:
    info = supernets.entry(net.name).info
    assert net.space.describe() == info["space"]().describe()
    assert info["channels"] == (net.in_channels if isinstance(net, ImageSupernet) else None)


def test_description_is_plain_data(net: Supernet) -> None:
    def check(value: object) -> None:
        if isinstance(value, dict):
            assert all(isinstance(key, str) for key in value)
            check(list(value.values()))
        elif isinstance(value, list | tuple):
            for item in value:
                check(item)
        else:
            assert value is None or type(value) in (str, int, float, bool)

    description = net.describe()
    check(description)
    assert json.loads(json.dumps(description, allow_nan=False))["name"] == net.name
    assert description == net.describe()


# -- sub-networks ------------------------------------------------------------------------------------------


def test_active_subnet_equals_extraction(net: Supernet, architectures: list[Architecture]) -> None:
    for architecture in architectures:
        x = net.example_input(2, architecture)
        with net.activate(architecture):
            active = outputs(net, x)
        assert all(torch.isfinite(each).all() and each.std() > 0 for each in active)
        assert_same(outputs(net.extract(architecture), x), active, 1e-5)


LAYERS = ("InvertedResidual", "Bottleneck", "PreNormLayer", "BertLayer", "EncoderLayer", "DecoderLayer")
"""Classes of what counts as a layer, where that is a module of its own."""


def test_layers_are_those_of_the_extraction(net: Supernet, architectures: list[Architecture]) -> None:
    counts = net.encoded_layers(net.space, net.space.encode(architectures))
    assert counts.shape == (len(architectures),) and counts.dtype == np.float64
    for count, architecture in zip(counts, architectures, strict=True):
        if isinstance(net, ConvChainSupernet):
            expected = sum(block.layers for block in net.space.chain(architecture))
        else:
            expected = sum(type(module).__name__ in LAYERS for module in net.extract(architecture).modules())
        assert count == expected


def test_without_activation_it_is_the_largest_subnet(net: Supernet) -> None:
    x, largest = net.example_input(1), net.space.largest()
    assert_same(outputs(net, x), outputs(net.extract(largest), x), 1e-5)
    assert_same(x, net.example_input(1, largest), 0)


def test_a_new_one_is_the_largest_subnet(net: Supernet) -> None:
    x, new = net.example_input(1), supernets.get(net.name)(seed=0).eval()
    new.load_state_dict(net.state_dict())
    assert_same(outputs(new, x), outputs(net.extract(net.space.largest()), x), 1e-5)


def test_extraction_consists_of_plain_layers(net: Supernet, architectures: list[Architecture]) -> None:
    for architecture in architectures:
        subnet = net.extract(architecture)
        assert not any(module.training for module in subnet.modules())
        for tensor in tensors(subnet):
            assert tensor.device.type == "cpu"
            assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size(), "a view of more"
        assert all(p.requires_grad and p.is_leaf for p in subnet.parameters())
        pickled = pickle.dumps(subnet)
        assert not re.findall(rb"Elastic\w*|\w*Supernet", pickled)
        assert_same(outputs(pickle.loads(pickled), x := net.example_input(1, architecture)), outputs(subnet, x), 0)


def test_extraction_is_independent(net: Supernet, architectures: list[Architecture]) -> None:
    spare = copy.deepcopy(net)
    subnet, x = spare.extract(architectures[-1]), net.example_input(1, architectures[-1])
    before = outputs(subnet, x)
    change(spare)
    assert_same(outputs(subnet, x), before, 0)
    change(subnet)
    assert_same(outputs(net.extract(architectures[-1]), x), before, 1e-6)


def test_activation_ends_with_its_block_and_with_an_error(net: Supernet, architectures: list[Architecture]) -> None:
    x, (first, *_, last) = net.example_input(1, architectures[-1]), architectures
    with net.activate(last):
        before = outputs(net, x)
        with pytest.raises(KeyError), net.activate(first):
            raise KeyError
        net.extract(first)
        assert_same(outputs(net, x), before, 0)
    assert net._active == net.space.largest()


def test_wrong_architectures_are_named(net: Supernet) -> None:
    def active(architecture: Architecture) -> None:
        with net.activate(architecture):
            pytest.fail(f"activated {architecture}")

    legal = net.space.largest().to_dict()
    for gene, values in legal.items():
        wrong = Architecture({**legal, gene: [-7, *values[1:]]})
        for method in (active, net.extract, net.blocks, net.macs, net.params):
            with pytest.raises(ArchitectureError, match=re.escape(f"{gene}[0]")):
                method(wrong)
        fewer = Architecture({key: value for key, value in legal.items() if key != gene})
        with pytest.raises(ArchitectureError, match=gene):
            net.extract(fewer)
    assert net._active == net.space.largest()


def test_example_input_is_the_same_at_every_call(net: Supernet, architectures: list[Architecture]) -> None:
    for architecture in architectures:
        x = net.example_input(3, architecture)
        assert type(x) is type(net.example_input(1))
        assert all(len(each) == 3 for each in as_tuple(x))
        assert_same(x, net.example_input(3, architecture), 0)


@pytest.mark.parametrize("batch", [1, 3])
def test_onnx_computes_the_same(net: Supernet, onnx: tuple[nn.Module, OnnxSession], batch: int) -> None:
    subnet, session = onnx
    x = net.example_input(batch, net.space.smallest())
    assert_same(session(*as_tuple(x)), outputs(subnet, x), 1e-4)


@pytest.fixture(scope="module")
def onnx(net: Supernet) -> tuple[nn.Module, OnnxSession]:
    smallest = net.space.smallest()
    subnet = net.extract(smallest)
    return subnet, OnnxSession(to_onnx(subnet, net.example_input(2, smallest)))


# -- cost --------------------------------------------------------------------------------------------------


def test_costs_are_those_of_the_extraction(net: Supernet, architectures: list[Architecture]) -> None:
    for architecture in architectures:
        subnet = net.extract(architecture)
        assert net.params(architecture) == parameters(subnet)
        assert net.macs(architecture) == count_macs(subnet, net.example_input(1, architecture))


@pytest.mark.parametrize("restricted", [False, True])
def test_costs_of_many_are_those_of_each(net: Supernet, restricted: bool) -> None:
    space = net.space
    if restricted:
        slots = {f"{d.name}[{i}]": c for d in space.dimensions for i, c in enumerate(d.choices)}
        space = space.restrict({gene: choices[(len(choices) - 1) // 2 :] for gene, choices in slots.items()})
    rows = space.encode(space.sample(np.random.default_rng(2), 20))
    for cost, count in (("macs", net.macs), ("params", net.params)):
        costs = net.encoded_cost(cost, space, rows)
        assert costs.shape == (20,) and costs.dtype == np.float64
        assert costs.tolist() == [count(architecture) for architecture in space.decode(rows)]
        assert net.encoded_cost(cost, space, rows[:0]).shape == (0,)


def test_blocks_add_up_to_the_subnet(net: Supernet, architectures: list[Architecture]) -> None:
    seen: dict[str, tuple[int, int]] = {}
    for architecture in architectures:
        blocks = net.blocks(architecture)
        costs = [cost_of(block) for block in blocks]
        for block, cost in zip(blocks, costs, strict=True):
            assert isinstance(block.key, str) and seen.setdefault(block.key, cost) == cost, block.key
        macs, params = map(sum, zip(*costs, strict=True))
        assert macs == net.macs(architecture)
        assert params == net.params(architecture) or (params > net.params(architecture) and net.name in SHARED_TABLES)
    assert len(set(seen.values())) > 1


def cost_of(block: Block) -> tuple[int, int]:
    """Return MACs and parameters of a block, which runs on its examples."""
    module, x = block.build(), block.example(2)
    assert not any(part.training for part in module.modules())
    assert not re.findall(rb"Elastic\w*|\w*Supernet", pickle.dumps(module))
    assert_same(x, block.example(2), 0)
    assert all(len(each) == 2 for each in (*as_tuple(x), *outputs(module, x)))
    return count_macs(module, x), parameters(module)


# -- weights -----------------------------------------------------------------------------------------------


def test_fingerprint_follows_from_weights_and_configuration(net: Supernet) -> None:
    fingerprint, spare = net.fingerprint(), copy.deepcopy(net)
    assert spare.fingerprint() == fingerprint
    if not tensors(net):
        assert supernets.get(net.name)(seed=1).fingerprint() != fingerprint
        return
    with torch.no_grad():
        next(spare.parameters()).view(-1)[-1] += 1e-3
    assert spare.fingerprint() != fingerprint


def test_the_seed_decides(net: Supernet) -> None:
    build = supernets.get(net.name)
    one, again, other = build(seed=0), build(seed=0), build(seed=1)
    assert equal_states(one, again)
    assert one.fingerprint() == again.fingerprint() != other.fingerprint()
    with torch.random.fork_rng(devices=[]):
        prints = []
        for _ in range(2):
            torch.manual_seed(5)
            prints.append(build().fingerprint())
    assert prints[0] == prints[1]


def test_global_generators_stay_as_they_are(net: Supernet, architectures: list[Architecture]) -> None:
    def states() -> tuple[object, ...]:
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]

    before = states()
    supernets.get(net.name)(seed=3)
    assert states() == before
    net.extract(architectures[0])
    net.example_input(2, architectures[0])
    assert states() == before
    for block in net.blocks(architectures[0]):
        block.build(), block.example(1)
    assert states() == before


def test_weights_are_loaded_from_a_file(net: Supernet, tmp_path: Path) -> None:
    own = net.state_dict()
    assert [*net.from_published(own)] == [*own]
    write_state(tmp_path / "weights.safetensors", own)
    assert equal_states(load_supernet(net.name, tmp_path / "weights.safetensors", seed=1), net)


def test_importance_sorting_keeps_the_largest_subnet(net: Supernet) -> None:
    spare, x = copy.deepcopy(net), net.example_input(2)
    spare.sort_by_importance()
    assert_same(outputs(spare, x), outputs(net, x), 1e-4)
    if tensors(net):
        assert not equal_states(spare, net)
