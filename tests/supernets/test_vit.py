import copy
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_vits import SMALL_AUTOFORMER, SMALL_VIT_BASE, randomize
from torch import nn

from nas_compress.errors import ArchitectureError, CheckpointError, ConfigError
from nas_compress.objectives.cost import count_macs
from nas_compress.space import Architecture
from nas_compress.supernets import supernets
from nas_compress.supernets.checkpoint import load_checkpoint
from nas_compress.supernets.vit import build
from nas_compress.supernets.vit_config import DIGITS_VIT, ViTConfig
from nas_compress.weights import write_state

PLAIN = {nn.Conv2d, nn.Linear, nn.LayerNorm}


@pytest.fixture(scope="module")
def digits():
    return randomize(supernets.get("digits_vit")(seed=1))


@pytest.fixture(scope="module")
def small_autoformer():
    return randomize(build("small", SMALL_AUTOFORMER, seed=1))


@pytest.fixture(scope="module")
def small_vit_base():
    return randomize(build("small", SMALL_VIT_BASE, seed=1))


def samples(net, n, seed=0):
    return net.space.sample(np.random.default_rng(seed), n)


def corners_and_samples(net, n):
    return [net.space.smallest(), net.space.largest(), *samples(net, n)]


def check_extraction(net, architectures):
    for architecture in architectures:
        x = net.example_input(2, architecture)
        subnet = net.extract(architecture)
        with torch.no_grad(), net.activate(architecture):
            torch.testing.assert_close(subnet(x), net(x), atol=1e-5, rtol=1e-5)
        assert sum(p.numel() for p in subnet.parameters()) == net.params(architecture)
        assert count_macs(subnet, net.example_input(1, architecture)) == net.macs(architecture)


# -- sub-networks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits", "small_autoformer", "small_vit_base"])
def test_extraction_equals_the_active_subnet(name, request):
    net = request.getfixturevalue(name)
    check_extraction(net, corners_and_samples(net, 14))


@pytest.mark.parametrize("name", ["autoformer_tiny", "cifar10_vit", "vit_base_imagenet"])
def test_extraction_equals_the_active_subnet_registered_nets(name):
    net = supernets.get(name)(seed=0).eval()
    assert net.name == name
    check_extraction(net, samples(net, 1))


def test_an_extracted_subnet_is_made_of_plain_layers(digits):
    subnet = digits.extract(digits.space.smallest())
    layers = {type(m) for m in subnet.modules() if next(iter(m.children()), None) is None}
    assert {kind for kind in layers if kind.__module__.startswith("torch.")} == PLAIN | {nn.GELU, nn.Dropout}
    assert not any("Elastic" in type(m).__name__ for m in subnet.modules())
    assert not subnet.training
    with torch.no_grad():
        for parameter in subnet.parameters():
            parameter.zero_()
    assert all(torch.any(p != 0) for p in digits.parameters())


def test_activate_restores_the_state(digits):
    x = digits.example_input(1)
    with torch.no_grad():
        before = digits(x)
        with digits.activate(digits.space.smallest()):
            with digits.activate(samples(digits, 1)[0]):
                pass
            assert not torch.equal(digits(x), before)
        assert torch.equal(digits(x), before)


def test_unused_genes_change_neither_output_nor_cost(digits):
    choices = {d.name: d.choices for d in digits.space.dimensions}
    for canonical in samples(digits, 8):
        filled = Architecture(
            {
                name: [v or random.Random(1).choice(c) for v, c in zip(canonical[name], choices[name], strict=True)]
                for name in canonical
            }
        )
        assert digits.space.canonicalize(filled) == canonical
        assert digits.macs(filled) == digits.macs(canonical)
        x = digits.example_input(1)
        with torch.no_grad():
            assert torch.equal(digits.extract(filled)(x), digits.extract(canonical)(x))


def test_an_illegal_architecture_names_the_gene(digits):
    largest = digits.space.largest()
    wrong = Architecture({**largest, "num_heads": (5, *largest["num_heads"][1:])})
    for use in (digits.extract, digits.blocks, digits.params, lambda a: digits.activate(a).__enter__()):
        with pytest.raises(ArchitectureError, match=r"num_heads\[0\] = 5.*1, 2, 3"):
            use(wrong)


def test_images_have_one_size(digits, small_vit_base):
    for net, shape in ((digits, (3, 1, 8, 8)), (small_vit_base, (3, 3, 32, 32))):
        for architecture in corners_and_samples(net, 1):
            assert net.example_input(3, architecture).shape == shape
            assert net.resolution(architecture) == shape[-1]
        assert torch.equal(net.example_input(3), net.example_input(3))


def test_a_seed_makes_the_same_net_and_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    nets = [supernets.get("digits_vit")(seed=seed) for seed in (4, 4, 5)]
    assert torch.equal(torch.rand(1), expected)
    prints = [net.fingerprint() for net in nets]
    assert prints[0] == prints[1] != prints[2]


def test_every_weight_in_use_learns(small_autoformer):
    net = copy.deepcopy(small_autoformer).train()
    net(net.example_input(2)).square().sum().backward()
    assert all(p.grad is not None and torch.any(p.grad != 0) for n, p in net.named_parameters() if "key.bias" not in n)
    largest = net.config.embed_dim(net.space.largest())
    assert torch.all(net.head.classifier.weight.grad[:, largest:] == 0)


@pytest.mark.filterwarnings("ignore:You are using the legacy", "ignore:The feature", "ignore:Constant folding")
@pytest.mark.parametrize("name", ["digits", "small_autoformer", "small_vit_base"])
def test_onnx_gives_the_same_outputs_for_every_batch(name, request, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    net = request.getfixturevalue(name)
    for number, architecture in enumerate(corners_and_samples(net, 1)):
        subnet, path = net.extract(architecture), tmp_path / f"{number}.onnx"
        torch.onnx.export(
            subnet, (net.example_input(2, architecture),), path, dynamo=False, opset_version=17,
            input_names=["input"], output_names=["output"], dynamic_axes={"input": {0: "n"}, "output": {0: "n"}},
        )  # fmt: skip
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        for batch in (1, 5):
            x = net.example_input(batch, architecture)
            with torch.no_grad():
                expected = subnet(x)
            output = torch.from_numpy(session.run(None, {"input": x.numpy()})[0])
            torch.testing.assert_close(output, expected, atol=1e-4, rtol=1e-4)


def test_own_checkpoints_load(digits, tmp_path):
    write_state(tmp_path / "net.safetensors", digits.state_dict())
    other = supernets.get("digits_vit")(seed=2)
    assert other.fingerprint() != digits.fingerprint()
    load_checkpoint(other, tmp_path / "net.safetensors")
    assert other.fingerprint() == digits.fingerprint()
    with pytest.raises(CheckpointError, match=r"head.classifier.*\(10.*\(7"):
        load_checkpoint(supernets.get("digits_vit")(num_classes=7), tmp_path / "net.safetensors")


# -- importance --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits", "small_autoformer", "small_vit_base"])
def test_importance_sorting_keeps_the_largest_subnet_and_orders_channels(name, request):
    net = copy.deepcopy(request.getfixturevalue(name))
    x, state = net.example_input(4), copy.deepcopy(net.state_dict())
    with torch.no_grad():
        before = net(x)
        net.sort_by_importance()
        torch.testing.assert_close(net(x), before, atol=1e-4, rtol=1e-4)
    assert any(not torch.equal(tensor, state[key]) for key, tensor in net.state_dict().items())
    features = net.config.embed_dim(net.space.largest())
    for layer in net.layers:
        reads = layer.feed_forward.down.active_weight().abs().sum(0)
        assert torch.all(reads[:-1] >= reads[1:] - 1e-5)
        heads = layer.attention.out.active_weight().abs().sum(0).view(-1, net.config.head_size).sum(1)
        assert torch.all(heads[:-1] >= heads[1:] - 1e-5)
    if len(net.config.embed_dims) > 1:
        readers = [net.head.classifier.weight]
        for layer in net.layers:
            attention = layer.attention
            readers += [m.weight for m in (attention.query, attention.key, attention.value, layer.feed_forward.up)]
        importance = sum(weight[:, :features].abs().sum(0) for weight in readers)
        assert torch.all(importance[:-1] >= importance[1:] - 1e-4)


# -- cost, blocks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "part"),
    [("digits", {"num_heads": (1, 3), "depth": (2, 4)}), ("small_vit_base", {"vit_intermediate_sizes[1]": (64,)})],
)
def test_costs_of_many_architectures_in_a_part_of_the_space(name, part, request):
    net = request.getfixturevalue(name)
    space = net.space.restrict(part)
    architectures = space.sample(np.random.default_rng(0), 50)
    for cost, count in (("macs", net.macs), ("params", net.params)):
        assert net.encoded_cost(cost, space, space.encode(architectures)).tolist() == [count(a) for a in architectures]


@pytest.mark.parametrize("name", ["digits", "small_autoformer", "small_vit_base"])
def test_blocks_run_one_after_the_other_are_the_subnet(name, request):
    net = request.getfixturevalue(name)
    for architecture in corners_and_samples(net, 4):
        blocks = net.blocks(architecture)
        x, macs, params = net.example_input(2, architecture), 0, 0
        expected = net.extract(architecture)(x)
        for block in blocks:
            module, example = block.build(), block.example(2)
            assert x.shape == example.shape and torch.equal(example, block.example(2))
            assert not module.training
            macs += count_macs(module, example)
            params += sum(p.numel() for p in module.parameters())
            x = module(x)
        torch.testing.assert_close(x, expected)
        assert (macs, params) == (net.macs(architecture), net.params(architecture))


def test_blocks_have_one_key_for_each_size(digits):
    largest, smallest = digits.blocks(digits.space.largest()), digits.blocks(digits.space.smallest())
    assert [b.key for b in largest] == [
        "vit_embed in=1 patch=2 r=8 dim=48",
        *["vit_layer dim=48 tokens=17 heads=3x16 mlp=144 relative=3"] * 4,
        "vit_head dim=48 tokens=17 pool=mean classes=10",
    ]
    assert not {b.key for b in largest} & {b.key for b in smallest}


def test_more_weights_than_are_taken_out_count_for_nothing():
    config = replace(DIGITS_VIT, form="widths", mlp=(32, 64), embed_dims=(48,), stored_embed=64)
    check_extraction(net := build("wide", config, seed=0), corners_and_samples(net, 3))


# -- configurations ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depths": ()}, "depths is empty"),
        ({"heads": (0, 3)}, "heads holds 0; wants at least 1"),
        ({"mlp": (0, 4)}, "mlp holds 0; wants more than 0"),
        ({"mlp": (0.001,)}, "mlp holds 0.001: no hidden features of embed_dims 192"),
        ({"image_size": 230}, "image_size = 230 is no multiple of patch_size = 16"),
        ({"stored_embed": 200}, "stored_embed = 200; embed_dims goes up to 240"),
        ({"relative_positions": 0}, "relative_positions = 0; wants at least 1"),
        ({"num_classes": 0}, "num_classes = 0; wants at least 1"),
        ({"eps": 0.0}, "eps = 0.0; wants more than 0"),
        ({"pool": "max"}, "unknown pool 'max'; known: class, mean"),
        ({"form": "rows"}, "unknown form 'rows'; known: ratios, widths"),
        ({"form": "widths"}, "embed_dims has 3 entries; the form 'widths' wants one"),
    ],
)
def test_wrong_configuration(change, message):
    with pytest.raises(ConfigError, match=message):
        ViTConfig(**change)
