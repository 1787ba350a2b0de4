import copy

import numpy as np
import onnxruntime
import pytest
import torch

from nas_compress.errors import ArchitectureError, CheckpointError, ConfigError
from nas_compress.objectives.cost import count_macs
from nas_compress.space import Architecture
from nas_compress.supernets import supernets
from nas_compress.supernets.checkpoint import load_checkpoint
from nas_compress.supernets.resnet import ResNetSupernet
from nas_compress.supernets.resnet_config import RESNETS, ResNetConfig
from nas_compress.weights import write_state

digits_resnet = supernets.get("digits_resnet")
ofa_resnet50 = supernets.get("ofa_resnet50")


def settle(net, size, channels=3):
    """Give every tensor a value of its own, with statistics that keep activations near 1."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point() and ("norm." in name or "bn." in name):
            low, high = (0.5, 1.5) if name.endswith(".weight") else (-0.3, 0.3)
            tensor.uniform_(low, high, generator=generator)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
            module.running_var.fill_(1.0)
    with torch.no_grad():
        net.train()(torch.randn(4, channels, size, size, generator=generator))
    return net.eval()


@pytest.fixture(scope="module")
def digits():
    return settle(digits_resnet(seed=1), 16, 1)


@pytest.fixture(scope="module")
def ofa_net():
    return settle(ofa_resnet50(seed=1), 64)


def check_extraction(net, architectures):
    for architecture in architectures:
        x = net.example_input(2, architecture)
        subnet = net.extract(architecture)
        with torch.no_grad(), net.activate(architecture):
            torch.testing.assert_close(subnet(x), net(x), atol=1e-5, rtol=1e-5)
        assert sum(p.numel() for p in subnet.parameters()) == net.params(architecture)
        assert count_macs(subnet, x) == net.macs(architecture)
        plain = {torch.nn.Conv2d, torch.nn.BatchNorm2d, torch.nn.Linear}
        weighted = {type(m) for m in subnet.modules() if next(m.parameters(recurse=False), None) is not None}
        assert weighted <= plain
        assert not subnet.training


def test_extraction_equals_the_active_subnet_small_net(digits):
    corners = [digits.space.smallest(), digits.space.largest()]
    check_extraction(digits, corners + digits.space.sample(np.random.default_rng(0), 20))


def test_extraction_equals_the_active_subnet_published_net(ofa_net):
    check_extraction(ofa_net, ofa_net.space.restrict({"r": (128, 132)}).sample(np.random.default_rng(0), 3))


@pytest.mark.parametrize("name", RESNETS)
def test_every_registered_net_builds_and_extracts(name):
    net = supernets.get(name)(seed=0).eval()
    assert net.name == name
    check_extraction(net, [net.space.smallest()])


def test_published_space_has_the_published_size():
    space = ofa_resnet50().space.restrict({"r": 224})
    assert space.size() == 2 * 117**3 * 1053 * 3**6
    assert f"{space.size():.2e}" == "2.46e+12"
    assert len(ofa_resnet50().space.largest()["e"]) == 18


def test_the_stem_block_is_used_at_the_largest_depth_alone(digits):
    largest = digits.space.largest()
    without = Architecture({**largest, "d": (0, *largest["d"][1:])})
    saved = digits.params(largest) - digits.params(without)
    half = digits.config.outputs[0][-1]
    assert saved == 9 * half**2 + 2 * half
    with pytest.raises(ArchitectureError, match=r"d\[0\] = 1 is not legal; allowed: 0, 2"):
        digits.space.validate(Architecture({**largest, "d": (1, *largest["d"][1:])}))


def test_activate_restores_the_state(digits):
    x = digits.example_input(1)
    with torch.no_grad():
        before = digits(x)
        with digits.activate(digits.space.smallest()):
            assert not torch.equal(digits(digits.example_input(1)), before)
        assert torch.equal(digits(x), before)


def test_unused_genes_change_neither_output_nor_cost(digits):
    for canonical in digits.space.sample(np.random.default_rng(5), 10):
        filled = Architecture({**canonical, "e": tuple(v or 0.5 for v in canonical["e"])})
        assert digits.space.canonicalize(filled) == canonical
        assert digits.macs(filled) == digits.macs(canonical)
        x = digits.example_input(1, canonical)
        with torch.no_grad():
            assert torch.equal(digits.extract(filled)(x), digits.extract(canonical)(x))


def test_importance_sorting_keeps_the_largest_subnet_and_orders_channels(digits):
    net = copy.deepcopy(digits)
    x = net.example_input(4)
    net.sort_by_importance()
    with torch.no_grad():
        torch.testing.assert_close(net(x), digits(x), atol=1e-5, rtol=1e-5)
    for stage in net.stages:
        for block in stage:
            norms = block.restore.conv.weight.abs().sum((0, 2, 3))
            assert torch.all(norms[:-1] >= norms[1:] - 1e-5)
    readers = [block.reduce.conv.weight for block in net.stages[1][1:]] + [net.classifier.weight[:, :, None, None]]
    norms = sum(weight.abs().sum((0, 2, 3)) for weight in readers)
    assert torch.all(norms[:-1] >= norms[1:] - 1e-5)
    assert not torch.equal(net.classifier.weight, digits.classifier.weight)


def test_importance_sorting_leaves_out_what_hardly_counts():
    """Half of all channels are hardly read: the leading ones, until they are sorted."""
    net = settle(digits_resnet(seed=2), 16, 1)
    inner = [layer.conv.weight for block in net._all_blocks() for layer in (block.spatial, block.restore)]
    with torch.no_grad():
        for weight in (*inner, *(weight for _, readers in net._shared_channels() for weight in readers)):
            weight[:, : weight.shape[1] // 2] *= 1e-4
    narrow = Architecture({**net.space.largest(), "w": (0, 0, 0, 0)})
    x = net.example_input(16)
    with torch.no_grad():
        expected = net(x)
        assert (net.extract(narrow)(x) - expected).abs().max() > 0.1
        net.sort_by_importance()
        torch.testing.assert_close(net.extract(narrow)(x), expected, atol=1e-2, rtol=0)


@pytest.mark.parametrize("name", ["digits_resnet", "cifar10_resnet"])
def test_blocks_chained_are_the_network(name):
    net = supernets.get(name)(seed=0).eval()
    for architecture in [net.space.largest(), *net.space.sample(np.random.default_rng(2), 5)]:
        x, macs, params = net.example_input(2, architecture), 0, 0
        blocks = net.blocks(architecture)
        with torch.no_grad():
            expected = net.extract(architecture)(x)
            for block in blocks:
                example = block.example(2)
                assert example.shape == x.shape
                module = block.build()
                assert not any(m.training for m in module.modules())
                macs, params = macs + count_macs(module, example), params + sum(p.numel() for p in module.parameters())
                x = module(x)
        torch.testing.assert_close(x, expected)
        assert (macs, params) == (net.macs(architecture), net.params(architecture))
        assert len(blocks) == len(net.extract(architecture)) - 3


def test_blocks_of_one_key_are_alike_and_others_differ():
    net = digits_resnet(seed=0)
    shapes: dict[str, list] = {}
    for architecture in net.space.sample(np.random.default_rng(3), 20):
        for block in net.blocks(architecture):
            layers = [str(m) for m in block.build().modules() if not list(m.children())]
            shape = [*layers, block.example(1).shape]
            assert shapes.setdefault(block.key, shape) == shape
    assert len(shapes) == len({str(shape) for shape in shapes.values()})


@pytest.mark.parametrize(("name", "resolution"), [("digits_resnet", 12), ("cifar10_resnet", 28), ("ofa_resnet50", 132)])
def test_onnx_export_computes_the_same(name, resolution, tmp_path):
    net = supernets.get(name)(seed=0)
    settle(net, resolution, net.in_channels)
    path, part = tmp_path / "net.onnx", net.space.restrict({"r": resolution})
    architecture = part.sample(np.random.default_rng(4), 1)[0]
    subnet, x = net.extract(architecture), net.example_input(3, architecture)
    names = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": {"x": {0: "n"}, "y": {0: "n"}}}
    torch.onnx.export(subnet, (x[:2],), str(path), dynamo=False, opset_version=17, **names)
    (y,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.as_tensor(y), subnet(x), atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def reference(ofa_networks):
    net = ofa_networks.OFAResNets(
        dropout_rate=0, depth_list=[0, 1, 2], expand_ratio_list=[0.2, 0.25, 0.35], width_mult_list=[0.65, 0.8, 1.0]
    )
    return settle(net, 64)


def check_outputs(reference, net, architectures, size=None):
    net.load_state_dict(net.from_published(reference.state_dict()))
    for architecture in architectures:
        d, e, w = (list(architecture[name]) for name in "dew")
        reference.set_active_subnet(d=d, e=[ratio or 0.2 for ratio in e], w=w)
        x = net.example_input(1, architecture)[:, :, :size, :size]
        with torch.no_grad(), net.activate(architecture):
            expected = reference(x)
            assert 0.1 < expected.abs().max() < 100
            torch.testing.assert_close(net(x), expected, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(net.extract(architecture)(x), expected, atol=1e-4, rtol=1e-4)


def test_outputs_equal_the_reference_implementation(reference):
    net = ofa_resnet50(seed=3).eval()
    check_outputs(reference, net, net.space.sample(np.random.default_rng(0), 30), size=36)


@pytest.mark.slow
def test_outputs_equal_the_reference_implementation_at_their_resolutions(reference):
    net = ofa_resnet50(seed=3).eval()
    check_outputs(reference, net, net.space.sample(np.random.default_rng(1), 30))


def test_reference_checkpoint_loads_from_a_torch_file(reference, tmp_path):
    state = reference.state_dict()
    plain = {k.replace("bn.bn.", "bn.").replace("linear.linear.", "linear."): v for k, v in state.items()}
    path = tmp_path / "published.pth"
    for names in (state, plain):
        torch.save({"state_dict": names, "best_acc": 0.0}, path)
        net = ofa_resnet50()
        load_checkpoint(net, path)
        ours = net.state_dict()
        assert torch.equal(ours["stages.2.5.spatial.conv.weight"], state["blocks.13.conv2.conv.conv.weight"])
        assert torch.equal(ours["stages.3.0.project.norm.bias"], state["blocks.14.downsample.bn.bn.bias"])
        assert torch.equal(ours["stem.1.conv.weight"], state["input_stem.1.conv.conv.conv.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"blocks.3.conv2.conv.conv.weight": torch.zeros(1, 2)},
            r"stages.0.3.spatial.conv.weight .* has shape \(1, 2\)",
        ),
        ({"blocks.18.conv1.conv.conv.weight": torch.zeros(1)}, r"it has stages.3.4.reduce.conv.weight"),
        ({"input_stem.1.conv.conv.conv.weight": None}, r"it lacks stem.1.conv.weight of shape \(32, 32, 3, 3\)"),
    ],
)
def test_checkpoint_of_another_network_is_refused(reference, ofa_net, tmp_path, change, message):
    state = {**reference.state_dict(), **change}
    torch.save({key: tensor for key, tensor in state.items() if tensor is not None}, tmp_path / "other.pth")
    before = ofa_net.classifier.bias.clone()
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(ofa_net, tmp_path / "other.pth")
    assert torch.equal(ofa_net.classifier.bias, before)


def test_checkpoint_of_another_family_is_refused(tmp_path):
    write_state(tmp_path / "other.safetensors", supernets.get("digits_mbv3")(seed=0).state_dict())
    with pytest.raises(CheckpointError, match=r"it lacks stem.0.conv.weight"):
        load_checkpoint(digits_resnet(), tmp_path / "other.safetensors")


def test_own_checkpoint_round_trip(digits, tmp_path):
    write_state(tmp_path / "net.safetensors", digits.state_dict())
    other = digits_resnet(seed=2)
    assert other.fingerprint() != digits.fingerprint()
    load_checkpoint(other, tmp_path / "net.safetensors")
    assert other.fingerprint() == digits.fingerprint()


def test_a_seed_makes_the_same_net():
    prints = [digits_resnet(seed=seed).fingerprint() for seed in (4, 4, 5)]
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strides": (1, 2)}, "strides has 2 entries; 4 stages want 4"),
        ({"base_depths": (2, 2)}, "base_depths has 2 entries; 4 stages want 4"),
        ({"base_depths": (2, 0, 2, 2)}, "base_depths holds 0; wants at least 1"),
        ({"depths": (-1, 2)}, "depths holds -1; wants at least 0"),
        ({"depths": (2, 0)}, r"depths holds \(2, 0\); wants ascending, distinct values"),
        ({"width_mults": (0, 1.0)}, "width_mults holds 0; wants more than 0"),
        ({"expand_ratios": ()}, "expand_ratios is empty; wants at least one entry"),
        ({"resolutions": (0, 128)}, "resolutions holds 0; wants at least 1"),
        ({"stem_stride": 0}, "stem_stride = 0; wants at least 1"),
        ({"dropout": 1.0}, "dropout = 1.0; wants at least 0 and less than 1"),
    ],
)
def test_wrong_configuration(change, message):
    with pytest.raises(ConfigError, match=message):
        ResNetSupernet("wrong", ResNetConfig(**change))
