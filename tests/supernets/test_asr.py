import copy
import io
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from nas_compress.errors import ArchitectureError, CheckpointError, ConfigError
from nas_compress.objectives.cost import count_macs
from nas_compress.space import Architecture
from nas_compress.supernets.asr import build, encoded_lengths
from nas_compress.supernets.asr_config import DENAS_ASR, FSDD_ASR, AsrConfig
from nas_compress.supernets.asr_layers import positions
from nas_compress.supernets.checkpoint import load_checkpoint
from nas_compress.weights import write_state

SMALL = AsrConfig(
    mels=10,
    vocabulary=7,
    conv_channels=3,
    conv_kernel=3,
    depths=(1, 2, 3),
    mlp_ratios=(1, 1.5, 2),
    heads=(2, 3, 4),
    widths=(12, 24, 36),
    decoder_layers=2,
    decoder_heads=4,
    decoder_hidden=20,
    frames=23,
    tokens=5,
)


def randomize(net, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for tensor in net.state_dict().values():
        tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.1)
    return net.eval()


@pytest.fixture(scope="module")
def small():
    return randomize(build("small", SMALL, seed=1))


class Bound(nn.Module):
    """A module with all inputs but the first one given, as fvcore's count wants a single one here."""

    def __init__(self, module, rest):
        super().__init__()
        self.module, self.rest = module, rest

    def forward(self, x):
        return self.module(x, *self.rest)


def macs_of(module, inputs):
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    return count_macs(Bound(module, inputs[1:]), inputs[0])


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def same(left, right, **tolerance):
    for a, b in zip(left, right, strict=True):
        torch.testing.assert_close(a, b, **tolerance)


def check_subnet(net, architecture):
    inputs, subnet = net.example_input(2, architecture), net.extract(architecture)
    inputs[2][0] -= 6
    with torch.no_grad(), net.activate(architecture):
        same(subnet(*inputs), net(*inputs), atol=1e-5, rtol=1e-5)
        same(subnet(*inputs[:2]), net(*inputs[:2]), atol=1e-5, rtol=1e-5)
    assert parameters(subnet) == net.params(architecture)
    assert macs_of(subnet, net.example_input(1, architecture)) == net.macs(architecture)
    weighted = {type(m) for m in subnet.modules() if next(m.parameters(recurse=False), None) is not None}
    assert weighted <= {nn.Conv2d, nn.LayerNorm, nn.Linear, nn.Embedding}


def test_extraction_equals_the_active_subnet(small):
    corners = [small.space.smallest(), small.space.largest()]
    for architecture in corners + small.space.sample(np.random.default_rng(0), 30):
        check_subnet(small, architecture)


def test_published_size():
    net = build("denas_asr", DENAS_ASR, seed=0).eval()
    for architecture in net.space.sample(np.random.default_rng(0), 2):
        check_subnet(net, architecture)
    assert net.space.size() == 6 * sum(15**depth for depth in range(5, 13))


def test_outputs_have_the_documented_shapes(small):
    features, tokens, lengths = small.example_input(3)
    log_probabilities, logits = small(features, tokens, lengths)
    assert log_probabilities.shape == (3, 6, 7) and logits.shape == (3, 5, 7)
    torch.testing.assert_close(log_probabilities.exp().sum(2), torch.ones(3, 6))


def test_costs_of_many_rows_and_of_a_part_of_the_space(small):
    part = small.space.restrict({"mlp_ratio": (1, 2), "num_heads[1]": 3, "depth": (1, 3), "embed_dim": (12, 36)})
    architectures = part.sample(np.random.default_rng(0), 40)
    rows = part.encode(architectures)
    assert small.encoded_cost("macs", part, rows).tolist() == [small.macs(a) for a in architectures]
    assert small.encoded_cost("params", part, rows).tolist() == [small.params(a) for a in architectures]


@pytest.mark.parametrize("frames", [20, 21, 22, 23])
def test_padding_changes_nothing(small, frames):
    """An utterance gives the same alone and in a batch, whatever stands in the padding."""
    generator = torch.Generator().manual_seed(frames)
    features = torch.randn(2, 37, 10, generator=generator)
    tokens = torch.tensor([[1, 3, 4, 5], [1, 6, 0, 0]])
    lengths = torch.tensor([37, frames])
    with torch.no_grad():
        batch = small(features, tokens, lengths)
        alone = small(features[1:, :frames], tokens[1:, :2])
        count = int(encoded_lengths(lengths)[1])
        assert alone[0].shape[1] == count
        torch.testing.assert_close(batch[0][1:, :count], alone[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(batch[1][1:, :2], alone[1], atol=1e-5, rtol=1e-5)
        changed = features.clone()
        changed[1, frames:] += 100
        torch.testing.assert_close(small(changed, tokens, lengths)[1], batch[1])
        assert not torch.allclose(small(changed, tokens)[1], small(features, tokens)[1])


def test_the_decoder_sees_no_later_token(small):
    features, tokens, lengths = small.example_input(1)
    later = tokens.clone()
    later[0, 3] = (later[0, 3] + 1) % 7
    with torch.no_grad():
        before, after = small(features, tokens, lengths)[1], small(features, later, lengths)[1]
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3:], after[:, 3:])


def test_layers_are_those_of_torch(small):
    """The same weights in torch's own pre-norm Transformer layers give the same outputs."""
    architecture = small.space.largest()
    subnet, width, heads = small.extract(architecture), 36, 4

    def copy_attention(ours, theirs):
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())

    def copy_rest(ours, theirs):
        theirs.linear1.load_state_dict(ours.feed_forward.up.state_dict())
        theirs.linear2.load_state_dict(ours.feed_forward.down.state_dict())
        norms = (layer for layer in ours.modules() if isinstance(layer, nn.LayerNorm))
        for number, norm in enumerate(norms, 1):
            getattr(theirs, f"norm{number}").load_state_dict(norm.state_dict())

    options = {"activation": "gelu", "batch_first": True, "norm_first": True}
    x, y = torch.randn(2, 9, width), torch.randn(2, 4, width)
    mask = torch.arange(9) < torch.tensor([[9], [5]])
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoder = nn.TransformerEncoderLayer(width, heads, 72, **options).eval()
        copy_attention(subnet.layers[0].attention, encoder.self_attn)
        copy_rest(subnet.layers[0], encoder)
        got = subnet.layers[0](x, mask[:, None, None])
        torch.testing.assert_close(got[mask], encoder(x, src_key_padding_mask=~mask)[mask], atol=1e-5, rtol=1e-5)
        decoder = nn.TransformerDecoderLayer(width, heads, 20, **options).eval()
        copy_attention(subnet.decoder_layers[0].attention, decoder.self_attn)
        copy_attention(subnet.decoder_layers[0].cross, decoder.multihead_attn)
        copy_rest(subnet.decoder_layers[0], decoder)
        causal = nn.Transformer.generate_square_subsequent_mask(4)
        expected = decoder(y, x, tgt_mask=causal, memory_key_padding_mask=~mask)
        torch.testing.assert_close(subnet.decoder_layers[0](y, x, mask[:, None, None]), expected, atol=1e-5, rtol=1e-5)


def test_positions_are_the_papers():
    expected = [[np.sin(p / 1e4 ** (i / 36)) if i % 2 == 0 else np.cos(p / 1e4 ** ((i - 1) / 36)) for i in range(36)]
                for p in range(50)]  # fmt: skip
    table = positions(50, 36, 36, torch.zeros(0, dtype=torch.float64))
    torch.testing.assert_close(table, torch.tensor(expected, dtype=torch.float64))
    assert torch.equal(positions(50, 12, 36, torch.zeros(0)), positions(50, 36, 36, torch.zeros(0))[:, :12])
    # In bf16, whole numbers above 256 are not exact: the angles must not be computed in it.
    halves = positions(500, 36, 36, torch.zeros(0, dtype=torch.bfloat16))
    assert torch.equal(halves, positions(500, 36, 36, torch.zeros(0)).bfloat16())


def test_importance_sorting_keeps_the_largest_subnet(small):
    net, inputs = copy.deepcopy(small), small.example_input(2)
    with torch.no_grad():
        net.sort_by_importance()
        same(net(*inputs), small(*inputs), atol=1e-4, rtol=1e-4)
    for layer in net.recognizer.layers:
        norms = layer.feed_forward.down.weight.abs().sum(0)
        assert torch.all(norms[:-1] >= norms[1:] - 1e-6)
    smallest = net.space.smallest()
    with torch.no_grad():
        assert not torch.allclose(net.extract(smallest)(*inputs)[0], small.extract(smallest)(*inputs)[0])


def test_blocks_chain_and_cover_the_subnet(small):
    for architecture in [small.space.largest(), *small.space.sample(np.random.default_rng(1), 4)]:
        blocks = small.blocks(architecture)
        modules, examples = [b.build() for b in blocks], [b.example(2) for b in blocks]
        assert sum(map(parameters, modules)) == small.params(architecture)
        ones = [b.example(1) for b in blocks]
        assert sum(macs_of(m, x) for m, x in zip(modules, ones, strict=True)) == small.macs(architecture)
        depth = int(architecture["depth"][0])
        inputs = small.example_input(2)
        x, given = modules[0](inputs[0], inputs[2]), examples[1][0]
        for module, example in zip(modules[1 : depth + 1], examples[1:], strict=False):
            assert x.shape == given.shape == example[0].shape
            x = module(x, example[1])
        memory = modules[depth + 1](x)
        assert modules[depth + 2](memory).shape == (2, 6, 7)
        y = modules[depth + 3](inputs[1])
        for module, example in zip(modules[depth + 4 : -1], examples[depth + 4 :], strict=False):
            assert [t.shape for t in example[:2]] == [y.shape, memory.shape]
            y = module(y, memory, example[2])
        assert examples[-1].shape == y.shape and modules[-1](y).shape == (2, 5, 7)
        assert not any(m.training for m in modules)
        keys = {b.key for b in blocks}
        assert len(keys) == 6 + len({(r, h) for r, h in zip(architecture["mlp_ratio"][:depth],
                                                             architecture["num_heads"], strict=False)})  # fmt: skip


def test_onnx_gives_the_same_outputs_for_any_batch(small):
    ort = pytest.importorskip("onnxruntime")
    for architecture in small.space.sample(np.random.default_rng(2), 2):
        subnet, file = small.extract(architecture), io.BytesIO()
        names = ["features", "tokens", "lengths"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                subnet,
                small.example_input(2),
                file,
                dynamo=False,
                opset_version=17,
                input_names=names,
                output_names=["ctc", "logits"],
                dynamic_axes={
                    "features": {0: "batch", 1: "frames"},
                    "tokens": {0: "batch", 1: "length"},
                    "lengths": {0: "batch"},
                    "ctc": {0: "batch", 1: "outputs"},
                    "logits": {0: "batch", 1: "length"},
                },
            )
        session = ort.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
        inputs = torch.randn(3, 41, 10), torch.randint(7, (3, 8)), torch.tensor([41, 40, 17])
        outputs = session.run(None, dict(zip(names, (t.numpy() for t in inputs), strict=True)))
        with torch.no_grad():
            same(map(torch.from_numpy, outputs), subnet(*inputs), atol=1e-4, rtol=1e-4)


def test_activate_restores_the_state(small):
    inputs = small.example_input(1)
    with torch.no_grad():
        before = small(*inputs)
        with small.activate(small.space.smallest()):
            assert not torch.allclose(small(*inputs)[0], before[0])
        assert all(torch.equal(a, b) for a, b in zip(small(*inputs), before, strict=True))
    with pytest.raises(ArchitectureError, match=r"embed_dim\[0\] = 13 is not legal; allowed: 12, 24, 36"):
        small.extract(Architecture({**small.space.largest(), "embed_dim": 13}))


def test_checkpoints_and_seeds(small, tmp_path):
    path = tmp_path / "net.safetensors"
    write_state(path, small.state_dict())
    other = build("small", SMALL, seed=2)
    assert other.fingerprint() != small.fingerprint()
    load_checkpoint(other, path)
    assert other.fingerprint() == small.fingerprint()
    with pytest.raises(CheckpointError, match=r"ctc.weight has shape \(7, 36\), this network wants \(9, 36\)"):
        load_checkpoint(build("small", SMALL, num_classes=9, seed=0), path)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    assert build("a", SMALL, seed=3).fingerprint() == build("a", SMALL, seed=3).fingerprint()
    small.blocks(small.space.smallest())[0].build()
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": (192, 200)}, "widths holds 200, which is not a multiple of 3 heads"),
        ({"decoder_heads": 5}, "not a multiple of 5 heads"),
        ({"depths": ()}, "depths is empty"),
        ({"heads": (0, 2)}, "heads holds 0"),
        ({"mlp_ratios": (0.0,)}, "mlp_ratios holds 0.0"),
        ({"conv_kernel": 4}, "conv_kernel = 4; wants an odd number"),
        ({"vocabulary": 3}, "vocabulary = 3; wants at least 4"),
        ({"frames": 0}, "frames = 0"),
        ({"dropout": 1.0}, "dropout = 1.0"),
    ],
)
def test_wrong_configuration(change, message):
    with pytest.raises(ConfigError, match=message):
        AsrConfig(**change)


def test_the_small_registered_net():
    net = randomize(build("fsdd_asr", FSDD_ASR, seed=0))
    for architecture in net.space.sample(np.random.default_rng(0), 3):
        check_subnet(net, architecture)
