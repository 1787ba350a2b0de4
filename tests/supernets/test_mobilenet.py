import copy
import csv
import gzip
import random

import numpy as np
import onnxruntime
import pytest
import torch
from fvcore.nn import FlopCountAnalysis

from nas_compress import NAS, NASConfig
from nas_compress.errors import ArchitectureError, CheckpointError, ConfigError
from nas_compress.space import Architecture
from nas_compress.supernets import supernets
from nas_compress.supernets.checkpoint import load_checkpoint
from nas_compress.supernets.mobilenet import MobileNetSupernet
from nas_compress.supernets.mobilenet_config import MOBILENETS, MobileNetConfig
from nas_compress.weights import write_state

digits_mbv3 = supernets.get("digits_mbv3")
ofa_mbv3_w1_0 = supernets.get("ofa_mbv3_d234_e346_k357_w1.0")
ofa_proxyless = supernets.get("ofa_proxyless_d234_e346_k357_w1.3")
compofa = supernets.get("compofa_mbv3_w1.0")

MAC_OPERATORS = ("conv", "linear")


def randomize(net, seed=0):
    """Give every tensor a value of its own, statistics and kernel transforms included."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in net.state_dict().items():
        if name.endswith("running_var") or ("norm" in name and name.endswith("weight")):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.is_floating_point():
            tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.05)
    return net.eval()


@pytest.fixture(scope="module")
def digits():
    return randomize(digits_mbv3(seed=1))


@pytest.fixture(scope="module")
def ofa_net():
    return randomize(ofa_mbv3_w1_0(seed=1))


def fvcore_macs(module, example):
    analysis = FlopCountAnalysis(module, example).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return sum(int(n) for op, n in analysis.by_operator().items() if op in MAC_OPERATORS)


def check_extraction(net, architectures):
    for architecture in architectures:
        x = net.example_input(2, architecture)
        subnet = net.extract(architecture)
        with torch.no_grad(), net.activate(architecture):
            torch.testing.assert_close(subnet(x), net(x), atol=1e-5, rtol=1e-5)
        assert sum(p.numel() for p in subnet.parameters()) == net.params(architecture)
        assert fvcore_macs(subnet, net.example_input(1, architecture)) == net.macs(architecture)
        plain = {torch.nn.Conv2d, torch.nn.BatchNorm2d, torch.nn.Linear}
        weighted = {type(m) for m in subnet.modules() if next(m.parameters(recurse=False), None) is not None}
        assert weighted <= plain


def test_extraction_equals_the_active_subnet_small_net(digits):
    corners = [digits.space.smallest(), digits.space.largest()]
    check_extraction(digits, corners + digits.space.sample(np.random.default_rng(0), 40))


def test_extraction_equals_the_active_subnet_published_net(ofa_net):
    check_extraction(ofa_net, ofa_net.space.sample(np.random.default_rng(0), 6))


def test_extraction_equals_the_active_subnet_single_stage_and_plain_head():
    net = randomize(ofa_proxyless(seed=1))
    check_extraction(net, net.space.sample(np.random.default_rng(0), 4))


@pytest.mark.parametrize("name", MOBILENETS)
def test_every_registered_net_builds_and_extracts(name):
    net = supernets.get(name)(seed=0).eval()
    assert net.name == name
    check_extraction(net, [net.space.smallest()])


def test_activate_restores_the_state_even_after_an_error(digits):
    x = digits.example_input(1)
    with torch.no_grad():
        before = digits(x)
        with pytest.raises(KeyError), digits.activate(digits.space.smallest()):
            with digits.activate(digits.space.sample(np.random.default_rng(3), 1)[0]):
                pass
            raise KeyError
        assert torch.equal(before, digits(x))


def test_an_illegal_architecture_names_the_gene(digits):
    wrong = Architecture({**digits.space.largest(), "e": (5, *digits.space.largest()["e"][1:])})
    for use in (digits.extract, lambda a: digits.activate(a).__enter__()):
        with pytest.raises(ArchitectureError, match=r"e\[0\] = 5.*2, 3, 4"):
            use(wrong)


def test_unused_genes_change_neither_output_nor_cost(digits):
    space = digits.space
    rng = np.random.default_rng(5)
    for canonical in space.sample(rng, 10):
        filled = Architecture(
            {
                d.name: [
                    v if v else random.Random(1).choice(c) for v, c in zip(canonical[d.name], d.choices, strict=True)
                ]
                for d in space.dimensions
            }
        )
        assert space.canonicalize(filled) == canonical
        assert digits.macs(filled) == digits.macs(canonical)
        x = digits.example_input(1, canonical)
        with torch.no_grad():
            assert torch.equal(digits.extract(filled)(x), digits.extract(canonical)(x))


def test_extraction_is_independent_of_the_supernet(digits):
    net = copy.deepcopy(digits)
    subnet = net.extract(net.space.smallest())
    with torch.no_grad():
        for p in subnet.parameters():
            p.zero_()
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), digits.state_dict().values(), strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_extraction_gives_a_net_on_the_cpu_wherever_the_supernet_is(digits):
    net = copy.deepcopy(digits).to("cuda")
    subnet = net.extract(net.space.smallest())
    assert {t.device.type for t in net.state_dict().values()} == {"cuda"}
    assert {t.device.type for t in subnet.state_dict().values()} == {"cpu"}
    x = net.example_input(2, net.space.smallest())
    with torch.no_grad():
        torch.testing.assert_close(subnet(x), digits.extract(digits.space.smallest())(x))


def test_importance_sorting_keeps_the_largest_subnet_and_orders_channels(digits):
    net = copy.deepcopy(digits)
    x = net.example_input(4)
    with torch.no_grad():
        before = net(x)
        net.sort_by_importance()
        torch.testing.assert_close(net(x), before, atol=1e-4, rtol=1e-4)
    for stage in net.stages:
        for block in stage:
            norms = block.project_conv.weight.abs().sum((0, 2, 3))
            assert torch.all(norms[:-1] >= norms[1:] - 1e-6)


def test_published_table_of_costs_is_matched_on_every_row(shared_data):
    net = ofa_mbv3_w1_0(seed=0)
    with gzip.open(shared_data / "ofa" / "ofa_mbv3_w1.0_imagenet_measured.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2162
    for row in rows:
        genes = {name: [int(v) for v in row[name].split()] for name in ("ks", "e", "d")}
        architecture = net.space.canonicalize(Architecture({**genes, "r": int(row["r"])}))
        assert net.macs(architecture) == int(row["macs"])
        assert net.params(architecture) == int(row["params"])


def test_published_space_has_the_published_size():
    space = ofa_mbv3_w1_0().space.restrict({"r": 224})
    assert f"{space.size():.2e}" == "2.18e+19"


def test_proxyless_space_has_21_blocks_and_five_depths():
    space = ofa_proxyless().space.restrict({"r": 224})
    assert {d.name: d.slots for d in space.dimensions} == {"ks": 21, "e": 21, "d": 5, "r": 1}
    assert space.size() == (9**2 + 9**3 + 9**4) ** 5 * 9
    assert space.smallest()["ks"][-1] == 3


def test_a_coupled_name_searches_the_coupled_part_of_the_same_network():
    net, whole = compofa(seed=3), ofa_mbv3_w1_0(seed=3)
    assert net.space.restrict({"r": 224}).size() == 243
    for architecture in net.space.sample(np.random.default_rng(0), 20):
        assert whole.macs(architecture) == net.macs(architecture)
        assert whole.params(architecture) == net.params(architecture)
    x = net.example_input(1, architecture)
    with torch.no_grad():
        assert torch.equal(net.eval().extract(architecture)(x), whole.eval().extract(architecture)(x))
    part = net.space.restrict({"d": (2, 4), "r": 160})
    encoded = part.encode(part.sample(np.random.default_rng(1), 9))
    assert net.encoded_cost("macs", part, encoded).tolist() == [net.macs(a) for a in part.decode(encoded)]


@pytest.mark.parametrize("approach", ["dynas", "full"])
def test_a_search_stays_in_the_coupled_space(approach, tmp_path):
    config = NASConfig(approach=approach, search_space={"r": [128], "d": [2, 4]})
    section = getattr(config, approach)
    section.supernet, section.metrics = "compofa_mbv3_w1.0", ["params", "macs"]
    section.results_csv_path = tmp_path / "results.csv"
    if approach == "dynas":
        section.population, section.num_evals = 8, 16
    trials = NAS(config).search().trials
    assert len(trials) == (32 if approach == "full" else 16)
    for trial in trials:
        assert trial.architecture["e"][::4] == tuple({2: 3, 4: 6}[d] for d in trial.architecture["d"])


@pytest.mark.parametrize("name", ["digits_mbv3", "ofa_proxyless_d234_e346_k357_w1.3", "compofa_mbv3_w1.2"])
def test_blocks_chained_are_the_network(name):
    net = supernets.get(name)(seed=0).eval()
    for architecture in net.space.sample(np.random.default_rng(2), 2):
        x, macs, params = net.example_input(1, architecture), 0, 0
        blocks, subnet = net.blocks(architecture), net.extract(architecture)
        with torch.no_grad():
            expected = subnet(x)
            for block in blocks:
                example = block.example(1)
                assert example.shape == x.shape
                module = block.build()
                assert not any(m.training for m in module.modules())
                macs, params = macs + fvcore_macs(module, example), params + sum(p.numel() for p in module.parameters())
                x = module(x)
        torch.testing.assert_close(x, expected)
        assert (macs, params) == (net.macs(architecture), net.params(architecture))
        assert len(blocks) == 2 + sum(architecture["d"]) + net.config.single_stages


def test_blocks_of_one_key_are_alike_and_others_differ(digits):
    shapes = {}
    for architecture in digits.space.sample(np.random.default_rng(3), 25):
        for block in digits.blocks(architecture):
            layers = [str(m) for m in block.build().modules() if not list(m.children())]
            shape = [*layers, block.example(1).shape]
            assert shapes.setdefault(block.key, shape) == shape
    assert len(shapes) == len({str(shape) for shape in shapes.values()})


@pytest.mark.parametrize("name", ["digits_mbv3", "ofa_proxyless_d234_e346_k357_w1.3"])
def test_onnx_export_computes_the_same(name, tmp_path):
    net = randomize(supernets.get(name)(seed=0))
    path, architecture = tmp_path / "net.onnx", net.space.sample(np.random.default_rng(4), 1)[0]
    subnet, x = net.extract(architecture), net.example_input(3, architecture)
    names = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": {"x": {0: "n"}, "y": {0: "n"}}}
    torch.onnx.export(subnet, (x[:2],), str(path), dynamo=False, opset_version=17, **names)
    (y,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.as_tensor(y), subnet(x), atol=1e-4, rtol=1e-4)


def check_proxyless(ofa_networks, count, size):
    reference = ofa_networks.OFAProxylessNASNets(
        width_mult=1.3, ks_list=[3, 5, 7], expand_ratio_list=[3, 4, 6], depth_list=[2, 3, 4]
    )
    randomize(reference)
    net = ofa_proxyless(seed=3).eval()
    net.load_state_dict(net.from_published(reference.state_dict()))
    for architecture in net.space.sample(np.random.default_rng(0), count):
        ks, e = ([value or 3 for value in architecture[name]] for name in ("ks", "e"))
        reference.set_active_subnet(ks=ks, e=e, d=list(architecture["d"]))
        x = net.example_input(1, architecture)[:, :, :size, :size]
        with torch.no_grad(), net.activate(architecture):
            expected = reference(x)
            assert 0.1 < expected.abs().max() < 100
            torch.testing.assert_close(net(x), expected, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(net.extract(architecture)(x), expected, atol=1e-4, rtol=1e-4)


def test_proxyless_outputs_equal_the_reference_implementation(ofa_networks):
    check_proxyless(ofa_networks, 30, 64)


@pytest.mark.slow
def test_proxyless_outputs_equal_the_reference_implementation_at_their_resolutions(ofa_networks):
    check_proxyless(ofa_networks, 30, None)


def test_outputs_equal_the_reference_implementation(ofa_networks):
    reference = ofa_networks.OFAMobileNetV3(ks_list=[3, 5, 7], expand_ratio_list=[3, 4, 6], depth_list=[2, 3, 4])
    randomize(reference)
    net = ofa_mbv3_w1_0(seed=3).eval()
    state = net.from_published(reference.state_dict())
    net.load_state_dict(state)
    sizes = net.space.restrict({"r": [128, 160]})
    for architecture in sizes.sample(np.random.default_rng(0), 30):
        reference.set_active_subnet(
            ks=[k or 3 for k in architecture["ks"]], e=[e or 3 for e in architecture["e"]], d=list(architecture["d"])
        )
        x = net.example_input(1, architecture)
        with torch.no_grad(), net.activate(architecture):
            expected = reference(x)
            torch.testing.assert_close(net(x), expected, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(net.extract(architecture)(x), expected, atol=1e-4, rtol=1e-4)


def test_reference_checkpoint_loads_from_a_torch_file(ofa_networks, tmp_path):
    reference = ofa_networks.OFAMobileNetV3(
        ks_list=[3, 5, 7], expand_ratio_list=[3, 4, 6], depth_list=[2, 3, 4], width_mult=1.2
    )
    old_names = {k.replace(".conv.", ".mobile_inverted_conv.", 1) if k.startswith("blocks") else k: v
                 for k, v in reference.state_dict().items()}  # fmt: skip
    for names in (reference.state_dict(), old_names):
        path = tmp_path / "published.pth"
        torch.save({"state_dict": names}, path)
        net = supernets.get("ofa_mbv3_d234_e346_k357_w1.2")()
        load_checkpoint(net, path)
        key = "stages.4.3.depthwise_conv.transforms.to3"
        assert torch.equal(net.state_dict()[key], names[next(k for k in names if "blocks.20." in k and "5to3" in k)])
        with pytest.raises(CheckpointError, match=r"another network: .* shape"):
            load_checkpoint(ofa_mbv3_w1_0(), path)


def test_proxyless_reference_checkpoint_loads_from_a_torch_file(ofa_networks, tmp_path):
    reference = ofa_networks.OFAProxylessNASNets(
        width_mult=1.3, ks_list=[3, 5, 7], expand_ratio_list=[3, 4, 6], depth_list=[2, 3, 4]
    )
    state, path = reference.state_dict(), tmp_path / "published.pth"
    torch.save({"state_dict": state}, path)
    net = ofa_proxyless()
    load_checkpoint(net, path)
    ours = net.state_dict()
    assert torch.equal(ours["stages.5.0.depthwise_conv.weight"], state["blocks.21.conv.depth_conv.conv.conv.weight"])
    assert torch.equal(ours["final_expand.0.weight"], state["feature_mix_layer.conv.weight"])
    with pytest.raises(CheckpointError, match=r"another network: stem.0.weight .* has shape \(40, .* wants \(16, "):
        load_checkpoint(ofa_mbv3_w1_0(), path)


def test_records_made_before_later_values_existed_are_recognised(digits):
    assert "norm_eps" not in digits.describe()
    assert ofa_proxyless().describe()["norm_eps"] == 1e-3
    assert ofa_mbv3_w1_0(seed=3).fingerprint() == "8bb186cc9dddf83a"


def test_own_checkpoint_round_trip_and_mismatch(digits, tmp_path):
    path = tmp_path / "net.safetensors"
    write_state(path, digits.state_dict())
    other = digits_mbv3(seed=2)
    assert other.fingerprint() != digits.fingerprint()
    load_checkpoint(other, path)
    assert other.fingerprint() == digits.fingerprint()
    with pytest.raises(CheckpointError, match=r"classifier.*\(10.*\(7"):
        load_checkpoint(digits_mbv3(num_classes=7), path)


def test_a_seed_makes_the_same_net_and_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    nets = [digits_mbv3(seed=4), digits_mbv3(seed=4), digits_mbv3(seed=5)]
    assert torch.equal(torch.rand(1), expected)
    prints = [net.fingerprint() for net in nets]
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strides": (1, 2)}, "strides has 2 entries; 5 stages want 5"),
        ({"activations": ("relu",) * 5 + ("gelu",)}, "unknown activation 'gelu'; known: relu, relu6, hswish"),
        ({"outer_activation": "gelu"}, "unknown activation 'gelu'; known: relu, relu6, hswish"),
        ({"single_stages": 5}, "single_stages = 5; wants 0 to 4 of 5 stages"),
        ({"norm_eps": 0.0}, "norm_eps = 0.0; wants more than 0"),
        ({"feature_width": 0}, "feature_width = 0; wants at least 1"),
        ({"kernel_sizes": (3, 4)}, "odd"),
        ({"kernel_sizes": (7, 5, 3)}, r"kernel_sizes = \(7, 5, 3\); wants ascending, distinct values"),
        ({"expand_ratios": (3, 4, 4)}, "expand_ratios = .*; wants ascending, distinct values"),
        ({"depths": (4, 2)}, "depths = .*; wants ascending, distinct values"),
        ({"kernel_sizes": (-1, 3)}, "kernel_sizes holds -1; wants at least 1"),
        ({"resolutions": (0, 128)}, "resolutions holds 0; wants at least 1"),
        ({"expand_ratios": (0, 3)}, "expand_ratios holds 0; wants more than 0"),
        ({"depths": (0, 2)}, "depths holds 0; wants at least 1"),
        ({"widths": (24, 40, 0, 112, 160)}, "widths holds 0; wants at least 1"),
        ({"strides": (2, 2, 0, 1, 2)}, "strides holds 0; wants at least 1"),
        ({"resolutions": ()}, "resolutions is empty"),
        ({"stem_stride": 0}, "stem_stride = 0; wants at least 1"),
        ({"num_classes": 0}, "num_classes = 0; wants at least 1"),
        ({"width_mult": 0.0}, "width_mult = 0.0; wants more than 0"),
        ({"dropout": 1.5}, "dropout = 1.5; wants at least 0 and less than 1"),
    ],
)
def test_wrong_configuration(change, message):
    with pytest.raises(ConfigError, match=message):
        MobileNetSupernet("wrong", MobileNetConfig(**change))
