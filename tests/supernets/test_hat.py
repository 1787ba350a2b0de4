import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hat_reference import SMALL, UNSHARED, sentences, small
from torch import nn

from nas_compress.data.vocabulary import PAD
from nas_compress.objectives.cost import count_macs
from nas_compress.space import Architecture
from nas_compress.supernets import supernets
from nas_compress.supernets.hat import build
from nas_compress.supernets.hat_config import WMT_EN_DE


@pytest.fixture(scope="module")
def net():
    return small()


@pytest.mark.parametrize("config", [SMALL, UNSHARED, replace(SMALL, sharing="output", source_vocabulary=44)])
def test_extraction_equals_the_active_subnet_and_its_costs(config):
    net = small(config)
    corners = [net.space.smallest(), net.space.largest()]
    for architecture in corners + net.space.sample(np.random.default_rng(0), 12):
        source, previous = sentences(net)
        subnet = net.extract(architecture)
        with torch.no_grad(), net.activate(architecture):
            torch.testing.assert_close(subnet(source, previous), net(source, previous), atol=1e-5, rtol=1e-5)
        assert sum(p.numel() for p in subnet.parameters()) == net.params(architecture)
        assert count_macs(subnet, net.example_input(1, architecture)) == net.macs(architecture)
        weighted = {type(m) for m in subnet.modules() if next(m.parameters(recurse=False), None) is not None}
        assert weighted <= {nn.Linear, nn.LayerNorm, nn.Embedding}
        assert not any(t.is_set_to(p) for t in subnet.parameters() for p in net.parameters())


def test_costs_at_the_published_size():
    net = build("wmt", WMT_EN_DE, seed=0)
    for architecture in net.space.sample(np.random.default_rng(2), 2):
        subnet = net.extract(architecture)
        assert sum(p.numel() for p in subnet.parameters()) == net.params(architecture)
        assert count_macs(subnet, net.example_input(1, architecture)) == net.macs(architecture)


def test_costs_of_rows_of_a_part_of_the_space(net):
    part = net.space.restrict({"decoder_arbitrary_ende_attn": (-1, 2), "decoder_layer_num": (2, 3)})
    architectures = part.sample(np.random.default_rng(0), 50)
    rows = part.encode(architectures)
    assert net.encoded_cost("macs", part, rows).tolist() == [net.macs(a) for a in architectures]
    assert net.encoded_cost("params", part, rows).tolist() == [net.params(a) for a in architectures]


def test_activate_restores_the_state(net):
    source, previous = sentences(net)
    with torch.no_grad():
        before = net(source, previous)
        with pytest.raises(KeyError), net.activate(net.space.smallest()):
            assert net(source, previous).shape == before.shape
            raise KeyError
        assert torch.equal(net(source, previous), before)


def test_padding_changes_nothing(net):
    source, previous = sentences(net)
    for architecture in net.space.sample(np.random.default_rng(4), 5):
        subnet = net.extract(architecture)
        with torch.no_grad():
            together = subnet(source, previous)
            for row in range(len(source)):
                s, p = source[row][source[row] != PAD][None], previous[row][previous[row] != PAD][None]
                torch.testing.assert_close(subnet(s, p)[0], together[row, : p.shape[1]], atol=1e-5, rtol=1e-5)


def test_later_target_tokens_are_not_seen(net):
    source, previous = net.example_input(2)
    changed = previous.clone()
    changed[:, 4:] = 7
    with torch.no_grad():
        a, b = net(source, previous), net(source, changed)
    torch.testing.assert_close(a[:, :4], b[:, :4])
    assert not torch.allclose(a[:, 4:], b[:, 4:])


def test_importance_sorting_keeps_the_largest_subnet_and_orders_hidden_features(net):
    net = copy.deepcopy(net)
    source, previous = sentences(net)
    with torch.no_grad():
        before = net(source, previous)
        smaller = net.extract(net.space.smallest())(source, previous)
        net.sort_by_importance()
        torch.testing.assert_close(net(source, previous), before, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(net.extract(net.space.smallest())(source, previous), smaller)
    for layer in (*net.net.encoder, *net.net.decoder):
        norms = layer.feed_forward.down.weight.abs().sum(0)
        assert torch.all(norms[:-1] >= norms[1:] - 1e-6)


def test_dropout_is_smaller_in_narrower_nets(net):
    assert net.extract(net.space.largest()).encoder[0].dropout.p == pytest.approx(0.3)
    narrow = net.extract(net.space.smallest())
    assert narrow.encoder[0].dropout.p == pytest.approx(0.3 * 24 / 32)
    assert narrow.decoder[0].dropout.p == narrow.target.dropout.p == pytest.approx(0.3 * 16 / 32)


def test_blocks_chain_to_the_whole(net):
    for architecture in net.space.sample(np.random.default_rng(7), 6):
        subnet, blocks = net.extract(architecture), net.blocks(architecture)
        built = [block.build() for block in blocks]
        source, previous = net.example_input(2, architecture)
        mask, outputs = torch.ones(2, 1, 1, source.shape[1], dtype=torch.bool), []
        with torch.no_grad():
            x = built[0](source)
            for layer in built[1:4]:
                x = layer(x, mask)
                outputs.insert(0, x)
            x = built[4](previous)
            for layer in built[5:-1]:
                x = layer(x, mask, *outputs[: layer.memories])
            torch.testing.assert_close(built[-1](x), subnet(source, previous), atol=1e-5, rtol=1e-5)
            for block, module in zip(blocks, built, strict=True):
                example = block.example(3)
                module(*example) if isinstance(example, tuple) else module(example)
        macs = sum(count_macs(module, block.example(1)) for block, module in zip(blocks, built, strict=True))
        assert macs == net.macs(architecture)
        tables = [b.table.weight.numel() for b in (built[0], built[4], built[-1])]
        assert sum(p.numel() for b in built for p in b.parameters()) == net.params(architecture) - (
            60 * max(architecture["encoder_embed_dim"][0], architecture["decoder_embed_dim"][0])
        ) + sum(tables)


def test_blocks_of_one_key_are_alike_and_others_differ(net):
    sizes = {}
    for architecture in net.space.sample(np.random.default_rng(8), 20):
        for block in net.blocks(architecture):
            module = block.build()
            shapes = [tuple(p.shape) for p in module.parameters()]
            assert sizes.setdefault(block.key, shapes) == shapes
    assert len({key for key in sizes if key.startswith("hat_decoder_layer")}) > 20


def test_onnx_gives_the_same_logits_for_other_batches_and_lengths(net, tmp_path):
    ort = pytest.importorskip("onnxruntime")
    for number, architecture in enumerate(net.space.sample(np.random.default_rng(9), 3)):
        subnet, path = net.extract(architecture), tmp_path / f"{number}.onnx"
        axes = {"source": {0: "batch", 1: "s"}, "previous": {0: "batch", 1: "t"}, "logits": {0: "batch", 1: "t"}}
        torch.onnx.export(
            subnet,
            net.example_input(1, architecture),
            path,
            dynamo=False,
            opset_version=17,
            input_names=["source", "previous"],
            output_names=["logits"],
            dynamic_axes=axes,
        )
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        for source, previous in (sentences(net), tuple(t[:2, :5] for t in sentences(net))):
            got = session.run(None, {"source": source.numpy(), "previous": previous.numpy()})[0]
            with torch.no_grad():
                np.testing.assert_allclose(got, subnet(source, previous).numpy(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["transformer_lt_wmt_en_de", "hat_iwslt_de_en", "multi30k_hat"])
def test_registered_nets(name):
    entry = supernets.entry(name)
    assert entry.info["metrics"] == ("bleu",)
    if name == "transformer_lt_wmt_en_de":
        return  # built above
    net = supernets.get(name)(seed=0).eval()
    architecture = net.space.smallest()
    with torch.no_grad():
        logits = net.extract(architecture)(*net.example_input(1, architecture))
    assert logits.shape == (1, net.config.target_length, net.config.target_vocabulary)


def test_a_seed_makes_the_same_net_and_the_number_of_tokens_is_free():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    nets = [build("net", SMALL, seed=seed) for seed in (4, 4, 5)]
    assert torch.equal(torch.rand(1), expected)
    prints = [net.fingerprint() for net in nets]
    assert prints[0] == prints[1] != prints[2]
    assert build("net", SMALL, num_classes=77).config.source_vocabulary == 77
    assert build("net", UNSHARED, num_classes=77).config.source_vocabulary == 60


def test_unused_genes_change_neither_output_nor_cost(net):
    canonical = net.space.smallest()
    genes = canonical.to_dict()
    for name in ("decoder_ffn_embed_dim", "decoder_self_attention_heads", "decoder_ende_attention_heads"):
        genes[name][1:] = [max(getattr(SMALL, name))] * 2
    genes["decoder_arbitrary_ende_attn"][1:] = [2, 2]
    filled = Architecture(genes)
    assert net.space.canonicalize(filled) == canonical
    assert net.macs(filled) == net.macs(canonical) and net.params(filled) == net.params(canonical)
    with torch.no_grad():
        a, b = (net.extract(a)(*net.example_input(1)) for a in (canonical, filled))
    assert torch.equal(a, b)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_extraction_gives_a_net_on_the_cpu_wherever_the_supernet_is(net):
    on_gpu = copy.deepcopy(net).to("cuda")
    subnet = on_gpu.extract(net.space.smallest())
    assert {t.device.type for t in (*subnet.parameters(), *subnet.buffers())} == {"cpu"}
    with torch.no_grad():
        expected = net.extract(net.space.smallest())(*net.example_input(2))
        torch.testing.assert_close(subnet(*net.example_input(2)), expected)
