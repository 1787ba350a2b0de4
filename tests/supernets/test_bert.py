"""The BERT super-network: extraction, costs, blocks, importance, export, training."""

import copy
import csv
import gzip
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnxruntime import InferenceSession

from nas_compress.backends.onnx import to_onnx
from nas_compress.data.text import TextData, TextSplit
from nas_compress.errors import ArchitectureError, ConfigError
from nas_compress.objectives.cost import count_macs
from nas_compress.objectives.text import text_accuracy
from nas_compress.space import Architecture, CoupledSpace, Coupling
from nas_compress.space.catalog import bert_base_sst2
from nas_compress.supernets import supernets
from nas_compress.supernets.bert import BertSupernet, build
from nas_compress.supernets.bert_config import BERT_BASE_DENAS, BERT_BASE_SST2, TINY_BERT, BertConfig
from nas_compress.training.config import SupernetTrainConfig
from nas_compress.training.trainer import train_supernet

SMALL = {
    "per layer": TINY_BERT,
    "alike": BertConfig(
        layers=(2, 3),
        heads=(2, 3, 4),
        intermediate=(32, 64, 96),
        hidden=(32, 40, 48, 64),
        per_layer=False,
        head_size=16,
        length=24,
        vocabulary=500,
        positions=32,
        activation="relu",
        num_classes=5,
    ),
    "answering": BertConfig(
        layers=(1, 2),
        heads=(3, 4),
        intermediate=(64, 128),
        hidden=(48, 64),
        head_size=16,
        task="answering",
        length=20,
        vocabulary=500,
        positions=32,
    ),
}


def randomize(net, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * 0.1)
    return net.eval()


def batch_of(config, n=3, seed=0):
    """Sequences of several lengths, of two token types."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, config.vocabulary, (n, config.length), generator=generator)
    places = torch.arange(config.length)
    lengths = torch.randint(config.length // 3, config.length + 1, (n, 1), generator=generator)
    mask = (places < lengths).long()
    return ids * mask, mask, ((places > config.length // 4) & (places < lengths)).long()


@pytest.fixture(scope="module", params=SMALL)
def net(request):
    return randomize(build(request.param, SMALL[request.param], seed=1))


def random_architectures(net, n, seed=0):
    return [net.space.smallest(), net.space.largest(), *net.space.sample(np.random.default_rng(seed), n)]


def test_extraction_equals_the_active_subnet(net):
    x = batch_of(net.config)
    plain = {torch.nn.Linear, torch.nn.LayerNorm, torch.nn.Embedding}
    for architecture in random_architectures(net, 20):
        subnet = net.extract(architecture)
        with torch.no_grad(), net.activate(architecture):
            torch.testing.assert_close(subnet(*x), net(*x), atol=1e-5, rtol=1e-5)
        assert sum(p.numel() for p in subnet.parameters()) == net.params(architecture)
        assert {type(m) for m in subnet.modules() if next(m.parameters(recurse=False), None) is not None} <= plain


def test_macs_are_fvcores(net):
    for architecture in random_architectures(net, 5):
        assert count_macs(net.extract(architecture), net.example_input(2)) == net.macs(architecture)


def test_encoded_costs_in_a_part_of_the_space(net):
    part = net.space.restrict({"num_layers": 2, "num_attention_heads": net.config.heads[1:]})
    architectures = part.sample(np.random.default_rng(0), 20)
    for cost, count in (("macs", net.macs), ("params", net.params)):
        assert net.encoded_cost(cost, part, part.encode(architectures)).tolist() == [count(a) for a in architectures]


def test_encoded_costs_where_sizes_follow_from_the_depth():
    config = replace(TINY_BERT, per_layer=False)
    net = build("net", config, seed=0)
    space = CoupledSpace(
        "coupled", net.space, [Coupling("intermediate_size", "num_layers", (0,), ((1, 64), (2, 128), (3, 256)))]
    )
    rows = np.array(list(space.enumerate()))
    for cost in ("macs", "params"):
        expected = [getattr(net, cost)(architecture) for architecture in space.decode(rows)]
        assert net.encoded_cost(cost, space, rows).tolist() == expected


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_costs_at_published_sizes(seed):
    """Sizes that the closed form gives are those of the shapes, without building 100M parameters each time."""
    for config in (BERT_BASE_SST2, BERT_BASE_DENAS):
        with torch.device("meta"):
            net = _META.setdefault(config, BertSupernet("published", config))
        architecture = net.space.sample(np.random.default_rng(seed), 1)[0]
        hidden = architecture["hidden_size"][0] if "hidden_size" in architecture else 768
        with net.activate(architecture):
            count = 30522 * hidden + 514 * hidden + 2 * hidden + (hidden + 1) * (hidden + 2)
            for layer in net.layers[: architecture["num_layers"][0]]:
                for linear in (*layer.readers(), layer.heads.out, layer.neurons.down):
                    count += linear.active_out * (linear.active_in + 1)
                count += 4 * hidden
        assert net.params(architecture) == count


_META: dict[BertConfig, BertSupernet] = {}


def test_blocks_are_the_subnet_in_parts(net):
    for architecture in random_architectures(net, 4):
        blocks, subnet = net.blocks(architecture), net.extract(architecture)
        built = [block.build() for block in blocks]
        ids, mask, types = net.example_input(2)
        bias = blocks[1].example(2)[1]
        x = built[0](ids, types)
        with torch.no_grad():
            for block, module in zip(blocks[1:], built[1:], strict=True):
                example = block.example(2)
                example = example if isinstance(example, tuple) else (example,)
                assert x.shape == example[0].shape
                x = module(x, bias) if len(example) > 1 else module(x)
            torch.testing.assert_close(x, subnet(ids, mask, types), atol=1e-5, rtol=1e-5)
        macs = sum(count_macs(m, b.example(1)) for m, b in zip(built, blocks, strict=True))
        params = sum(p.numel() for m in built for p in m.parameters())
        assert (macs, params) == (net.macs(architecture), net.params(architecture))


def test_block_keys_tell_sizes_apart(net):
    shapes = {}
    for architecture in random_architectures(net, 10):
        for block in net.blocks(architecture):
            shape = [tuple(p.shape) for p in block.build().parameters()]
            assert shapes.setdefault(block.key, shape) == shape
    assert len({str(shape) for shape in shapes.values()}) == len(shapes)


def test_importance_sorting_keeps_the_largest_subnet_and_orders_heads_and_neurons(net):
    net, x = copy.deepcopy(net), batch_of(net.config)
    with torch.no_grad():
        largest, smallest = net(*x), net.extract(net.space.smallest())(*x)
        net.sort_by_importance()
        torch.testing.assert_close(net(*x), largest, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(net.extract(net.space.smallest())(*x), smallest, atol=1e-3)
    for layer in net.layers:
        heads = layer.heads.out.weight.abs().sum(0).view(-1, net.config.head_size).sum(1)
        neurons = layer.neurons.down.weight.abs().sum(0)
        assert torch.all(heads[:-1] >= heads[1:] - 1e-4) and torch.all(neurons[:-1] >= neurons[1:] - 1e-4)
    if len(net.config.hidden) > 1:
        readers = [linear.weight for layer in net.layers for linear in layer.readers()] + [net.head.reader().weight]
        features = torch.cat(readers).abs().sum(0)
        assert torch.all(features[:-1] >= features[1:] - 1e-3)


def test_sorting_by_sensitivity_puts_first_what_the_loss_depends_on(net):
    """Where the loss looks at one head and one feature alone, they come first; the largest subnet stays the same."""
    net, x = copy.deepcopy(net), batch_of(net.config)
    head, neuron, size = 2, 7, net.config.head_size
    with torch.no_grad():
        for layer in net.layers:  # what reads all the others is minute
            layer.neurons.up.bias[neuron] = 3.0  # ReLU lets it through
            scale = torch.full((layer.heads.out.in_features,), 1e-6)
            scale[head * size : (head + 1) * size] = 1.0
            layer.heads.out.weight.mul_(scale)
            layer.neurons.down.weight.mul_(
                torch.where(torch.arange(layer.neurons.down.in_features) == neuron, 1.0, 1e-6)
            )
        kept = [
            (layer.heads.out.weight[:, head * size].clone(), layer.neurons.down.weight[:, neuron].clone())
            for layer in net.layers
        ]
        before = net(*x)
    net.sort_by_sensitivity(net(*batch_of(net.config, seed=seed)).square().mean() for seed in range(3))
    for layer, (of_head, of_neuron) in zip(net.layers, kept, strict=True):
        assert torch.equal(layer.heads.out.weight[:, 0], of_head)
        assert torch.equal(layer.neurons.down.weight[:, 0], of_neuron)
    with torch.no_grad():
        torch.testing.assert_close(net(*x), before, atol=1e-5, rtol=1e-5)
    assert all(p.grad is None for p in net.parameters())
    with pytest.raises(ConfigError, match="wants losses"):
        net.sort_by_sensitivity([])


def test_sensitivity_is_weight_times_gradient():
    net = randomize(build("net", SMALL["per layer"], seed=1))
    reference, batches = copy.deepcopy(net), [batch_of(net.config, seed=seed) for seed in range(2)]
    net.sort_by_sensitivity(net(*x).logsumexp(1).sum() for x in batches)
    for number, layer in enumerate(reference.layers):
        sums = torch.zeros_like(layer.neurons.down.weight)
        for x in batches:
            reference.zero_grad()
            reference(*x).logsumexp(1).sum().backward()
            sums += (layer.neurons.down.weight * layer.neurons.down.weight.grad).abs()
        order = sums.sum(0).argsort(descending=True)
        assert torch.equal(net.layers[number].neurons.down.weight, layer.neurons.down.weight[:, order])


def test_export_gives_the_same_outputs_at_other_batch_sizes_and_lengths(net):
    names = ["input_ids", "attention_mask", "token_type_ids"]
    for architecture in random_architectures(net, 1)[1:]:
        subnet = net.extract(architecture)
        content = to_onnx(subnet, net.example_input(2), {name: {1: "length"} for name in names})
        session = InferenceSession(content, providers=["CPUExecutionProvider"])
        assert [each.name for each in session.get_inputs()] == names
        for count, length in ((5, net.config.length), (1, net.config.length - 6)):
            x = [each[:, :length] for each in batch_of(net.config, n=count)]
            (got,) = session.run(None, {name: each.numpy() for name, each in zip(names, x, strict=True)})
            with torch.no_grad():
                np.testing.assert_allclose(got, subnet(*x).numpy(), atol=1e-4, rtol=1e-4)


def test_padding_changes_nothing(net):
    ids, mask, types = batch_of(net.config)
    shorter = net.config.length - 4
    mask[:, shorter:] = 0
    ids = ids * mask
    with torch.no_grad():
        padded = net(ids, mask, types)
        cut = net(ids[:, :shorter], mask[:, :shorter], types[:, :shorter])
    if net.config.task == "answering":
        used = mask[:, :shorter].bool()
        padded, cut = padded[:, :shorter][used], cut[used]
    torch.testing.assert_close(padded, cut, atol=1e-5, rtol=1e-5)


def test_activation_is_restored_and_illegal_architectures_name_the_gene():
    net, x = build("tiny", TINY_BERT, seed=0).eval(), batch_of(TINY_BERT)
    with torch.no_grad():
        before = net(*x)
        with net.activate(net.space.smallest()):
            assert not torch.equal(net(*x), before)
        assert torch.equal(net(*x), before)
    wrong = Architecture({**net.space.largest(), "num_attention_heads": (4, 3, 4)})
    for use in (net.extract, net.blocks, lambda a: net.activate(a).__enter__()):
        with pytest.raises(ArchitectureError, match=r"num_attention_heads\[1\] = 3 is not legal; allowed: 1, 2, 4"):
            use(wrong)


def test_spaces_are_the_published_ones():
    assert BERT_BASE_SST2.space("bert_base_sst2").describe() == bert_base_sst2().describe()
    assert BERT_BASE_DENAS.space("bert_base_denas").size() == 171_585


def test_macs_are_those_of_incs_published_results(shared_data):
    """INC's table counts LayerNorm, one operation per element, and one more per token, on 128 tokens."""
    net = _META.setdefault(BERT_BASE_SST2, _meta(BERT_BASE_SST2))
    with gzip.open(shared_data / "inc" / "results_bertbase_sst2_macs.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2000
    architectures = [Architecture.parse(row["Sub-network"]) for row in rows]
    counted = net.encoded_cost("macs", net.space, net.space.encode(architectures))
    for row, architecture, macs in zip(rows, architectures, counted, strict=True):
        norms = (2 * architecture["num_layers"][0] + 1) * 128 * 768
        assert int(row["MACS"]) == macs + norms + 128


def _meta(config):
    with torch.device("meta"):
        return BertSupernet("published", config)


def test_registered_nets():
    expected = dict.fromkeys(("bert_base_sst2", "bert_base_denas", "tiny_bert"), "text") | {
        "bert_base_squad": "questions"
    }
    for name, task in expected.items():
        info = supernets.entry(name).info
        assert info["task"] == task and info["space"]().name == name
        assert info["metrics"] == (("acc",) if task == "text" else ("f1", "exact_match"))
    assert supernets.get("tiny_bert")(num_classes=7, seed=0).head.out.out_features == 7
    assert supernets.get("tiny_bert")(seed=3).fingerprint() == supernets.get("tiny_bert")(seed=3).fingerprint()


def test_a_small_net_trains():
    """The sandwich rule makes largest and smallest sub-network tell two word pieces apart, wherever they stand."""
    net = supernets.get("tiny_bert")(seed=0)
    generator = torch.Generator().manual_seed(0)

    def split(n):
        ids = torch.randint(10, 200, (n, 12), generator=generator)
        labels = torch.randint(2, (n,), generator=generator)
        ids[torch.arange(n), torch.randint(1, 12, (n,), generator=generator)] = 2 + labels
        return TextSplit((ids, torch.ones_like(ids), torch.zeros_like(ids)), labels)

    data = TextData("two words", split(960), split(20), split(200), ("a", "b"), 12, 200, "0")
    options = {"optimizer": "adamw", "lr": 1e-3, "label_smoothing": 0.0, "warmup_epochs": 0.5, "curve": 0}
    train_supernet(net, data, SupernetTrainConfig(epochs=3, batch_size=32, subnets_per_step=3, **options))
    for architecture in (net.space.largest(), net.space.smallest()):
        assert text_accuracy(net.extract(architecture), data.test).value > 95


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": ()}, "layers is empty"),
        ({"heads": (0, 2)}, "heads holds 0; wants at least 1"),
        ({"head_size": 0}, "head_size = 0; wants at least 1"),
        ({"length": 600}, "length = 600; there are 512 positions"),
        ({"padding": 30522}, "padding = 30522; wants a word piece"),
        ({"dropout": 1.0}, "dropout = 1.0; wants at least 0 and less than 1"),
        ({"eps": -1.0}, "eps = -1.0; wants more than 0"),
        ({"activation": "swish"}, "unknown activation 'swish'; known: gelu, relu"),
        ({"task": "translation"}, "unknown task 'translation'"),
        ({"task": "answering", "num_classes": 3}, "num_classes = 3; answering wants 2"),
    ],
)
def test_wrong_configuration(change, message):
    with pytest.raises(ConfigError, match=message):
        BertConfig(**change)
