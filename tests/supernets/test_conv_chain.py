import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_compress.backends.onnxruntime import to_onnx
from nas_compress.errors import ArchitectureError, CheckpointError, ConfigError
from nas_compress.objectives.cost import Macs, Params, count_macs
from nas_compress.space.conv_chain import ChainBlock, parse_chain
from nas_compress.supernets import conv_chain_config
from nas_compress.supernets.checkpoint import load_checkpoint
from nas_compress.supernets.conv_chain import ResidualUnit, build, build_chain
from nas_compress.supernets.conv_chain_config import DENAS_SEED, ConvChainConfig
from nas_compress.weights import write_state

SMALL = ConvChainConfig(max_layers=3, widening=2, resolution=9)


@pytest.fixture(scope="module")
def small():
    return build("small", SMALL, seed=1)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), resolution=st.integers(4, 17))
def test_costs_are_those_of_the_networks(seed, resolution):
    net = build("net", ConvChainConfig(max_layers=3, widening=2, resolution=resolution), num_classes=7, seed=0)
    rng = np.random.default_rng(seed)
    architecture = net.space.sample(rng, 1)[0]
    for point in (architecture, net.space.mutate(net.space.seed_architecture(), rng)):
        subnet = net.extract(point)
        assert parameters(subnet) == net.params(point)
        assert count_macs(subnet, net.example_input(1, point)) == net.macs(point)


def test_costs_of_the_published_seed():
    """The numbers are counted by hand, layer after layer."""
    net = build("net", conv_chain_config.DENAS_CNN, seed=0)
    point = net.space.seed_architecture()
    stem = 27 * 8
    one = 9 * (8 * 8 + 8 * 16) + 8 * 16
    two = 9 * (16 * 16 + 16 * 32) + 16 * 32
    three = 9 * (32 * 32 + 32 * 64) + 32 * 64
    four = 9 * (64 * 32 + 32 * 64) + 64 * 64
    last, head = 64 * 128, 128 * 10
    norms = 2 * (8 + (8 + 32) + (16 + 64) + (32 + 128) + (32 + 128) + 128)
    assert net.params(point) == stem + one + two + three + four + last + norms + head + 10
    assert net.macs(point) == 32**2 * (stem + one) + 16**2 * two + 8**2 * three + 4**2 * (four + last) + head


def test_costs_of_many_rows_and_of_a_part_of_the_space(small):
    part = small.space.restrict({"type": ("SuperResK3K3", "SuperResK1K7K1"), "out[1]": (16, 32), "layers": (1, 3)})
    architectures = part.sample(np.random.default_rng(0), 40)
    rows = part.encode(architectures)
    assert small.encoded_cost("macs", part, rows).tolist() == [small.macs(a) for a in architectures]
    assert small.encoded_cost("params", part, rows).tolist() == [small.params(a) for a in architectures]
    assert Macs(small).compute(architectures).tolist() == [small.macs(a) for a in architectures]
    assert Params(small).compute(architectures).tolist() == [small.params(a) for a in architectures]


def test_extraction_equals_the_active_network_and_is_repeatable(small):
    for architecture in [small.space.smallest(), *small.space.sample(np.random.default_rng(0), 5)]:
        x = small.example_input(2, architecture)
        subnet = small.extract(architecture)
        assert not subnet.training
        with torch.no_grad(), small.activate(architecture):
            assert torch.equal(subnet(x), small(x))
            assert subnet(x).shape == (2, 10)
    other = build("small", SMALL, seed=2)
    assert other.fingerprint() != small.fingerprint() == build("small", SMALL, seed=1).fingerprint()
    assert other.describe() == small.describe()  # tables of latencies are for every seed
    with torch.no_grad():
        assert not torch.equal(other.extract(architecture)(x), subnet(x))


def test_activation_is_undone(small):
    x = small.example_input(1)
    with torch.no_grad():
        before = small(x)
        with small.activate(small.space.smallest()):
            assert not torch.equal(small(x), before)
        assert torch.equal(small(x), before)


def test_the_global_generator_is_left_alone(small):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    small.extract(small.space.smallest())
    small.blocks(small.space.smallest())[0].build()
    assert torch.equal(torch.rand(1), expected)


def test_blocks_chain_and_cover_the_network(small):
    for architecture in [small.space.largest(), *small.space.sample(np.random.default_rng(2), 4)]:
        blocks = small.blocks(architecture)
        x = small.example_input(2, architecture)
        macs = params = 0
        for block in blocks:
            module, example = block.build(), block.example(2)
            assert example.shape == x.shape and not module.training
            macs, params = macs + count_macs(module, example), params + parameters(module)
            with torch.no_grad():
                x = module(x)
        assert x.shape == (2, 10)
        assert (macs, params) == (small.macs(architecture), small.params(architecture))
    keys = {block.key for a in small.space.sample(np.random.default_rng(3), 20) for block in small.blocks(a)}
    assert any(key.startswith("chain_bottleneck in=") for key in keys)
    assert len(keys) > 100


def test_a_residual_block_computes_what_the_paper_draws():
    """Two convolutions with batch norm, a ReLU between them and one after the sum."""
    unit = ChainBlock("SuperResK3K3", 8, 8, 1, 16, 1).units()[0]
    module = ResidualUnit(unit).eval()
    x = torch.randn(2, 8, 5, 5, generator=torch.Generator().manual_seed(0))
    first, _, _, second, _ = module.body
    with torch.no_grad():
        scale = (1 + 1e-5) ** -0.5
        middle = torch.relu(torch.nn.functional.conv2d(x, first.weight, padding=1) * scale)
        expected = torch.relu(torch.nn.functional.conv2d(middle, second.weight, padding=1) * scale + x)
        torch.testing.assert_close(module(x), expected)


def test_sublayers_stride_once_and_bottlenecks_come_in_pairs():
    text = "SuperConvK3BNRELU(3,8,2,2)SuperResK1K5K1(8,16,2,24,2)SuperResK7K7(16,16,1,8,3)"
    counts = [len(block.units()) for block in parse_chain(text)]
    assert counts == [2, 4, 3]
    net = build_chain(text, 4).eval()
    units = list(net)[:-1]
    with torch.no_grad():
        x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        sizes = [(x := unit(x)).shape[-1] for unit in units]
    assert sizes == [16, 16, 8, 8, 8, 8, 8, 8, 8]
    projected = [isinstance(unit.shortcut, torch.nn.Sequential) for unit in units[2:]]
    assert projected == [True] + [False] * 6


def test_onnx_gives_the_same_output_for_any_batch(small):
    ort = pytest.importorskip("onnxruntime")
    for architecture in small.space.sample(np.random.default_rng(4), 2):
        subnet = small.extract(architecture)
        session = ort.InferenceSession(to_onnx(subnet, small.example_input(1)), providers=["CPUExecutionProvider"])
        x = small.example_input(3)
        with torch.no_grad():
            np.testing.assert_allclose(session.run(None, {"input": x.numpy()})[0], subnet(x).numpy(), atol=1e-4)


def test_networks_train_from_scratch(small):
    subnet = small.extract(small.space.seed_architecture()).train()
    x, labels = small.example_input(16), torch.arange(16) % 10
    optimizer = torch.optim.SGD(subnet.parameters(), lr=0.1)
    losses = []
    for _ in range(15):
        loss = torch.nn.functional.cross_entropy(subnet(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_wrong_uses(small, tmp_path):
    with pytest.raises(ArchitectureError, match=r"out\[0\] = 12 is not legal"):
        small.extract(type(small.space.smallest())({**small.space.smallest(), "out": (12, *[8] * 5)}))
    path = tmp_path / "weights.safetensors"
    write_state(path, small.extract(small.space.smallest()).state_dict())
    with pytest.raises(CheckpointError, match="this network lacks"):
        load_checkpoint(small, path)
    with pytest.raises(ConfigError, match="resolution = 0"):
        ConvChainConfig(resolution=0)
    with pytest.raises(ConfigError, match="seed: block 0: cannot read"):
        ConvChainConfig(seed="nothing")
    assert ConvChainConfig(seed=DENAS_SEED.replace("(3,8", "(1,8")).in_channels == 1
