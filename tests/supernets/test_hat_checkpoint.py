import sys
import types
from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest
import torch
from hat_reference import SMALL, UNSHARED, fairseq_state, hat_logits, sentences, small
from torch import nn

from nas_compress.data.vocabulary import PAD
from nas_compress.errors import CheckpointError
from nas_compress.supernets.checkpoint import load_checkpoint
from nas_compress.supernets.hat import build
from nas_compress.weights import write_state


@pytest.fixture(scope="module")
def net():
    return small()


@pytest.mark.parametrize("config", [SMALL, UNSHARED])
def test_outputs_equal_a_plain_computation_from_the_published_names(config):
    state = fairseq_state(config)
    net = build("net", config, seed=5).eval()
    net.load_state_dict(net.from_published(state))
    for architecture in net.space.sample(np.random.default_rng(0), 30):
        source, previous = sentences(net)
        expected = hat_logits(state, config, architecture, source, previous)
        with torch.no_grad(), net.activate(architecture):
            for row in range(len(source)):
                real = previous[row] != PAD
                torch.testing.assert_close(net(source, previous)[row][real], expected[row][real], atol=1e-4, rtol=1e-4)


def _copy_attention(ours, theirs):
    theirs.in_proj_weight.copy_(torch.cat([m.weight for m in (ours.query, ours.key, ours.value)]))
    theirs.in_proj_bias.copy_(torch.cat([m.bias for m in (ours.query, ours.key, ours.value)]))
    theirs.out_proj.load_state_dict(ours.out.state_dict())


def _copy_rest(ours, theirs, norms):
    theirs.linear1.load_state_dict(ours.feed_forward.up.state_dict())
    theirs.linear2.load_state_dict(ours.feed_forward.down.state_dict())
    for number, norm in enumerate(norms, start=1):
        getattr(theirs, f"norm{number}").load_state_dict(norm.state_dict())


def test_layers_equal_those_of_torch():
    net = small(replace(SMALL, encoder_embed_dim=(24,), decoder_embed_dim=(24,)))
    source, _ = sentences(net)
    for architecture in net.space.sample(np.random.default_rng(1), 30):
        subnet = net.extract(architecture)
        with torch.no_grad():
            mask, *outputs = subnet.encode(source)
            layer, heads = subnet.encoder[-1], architecture["encoder_self_attention_heads"][-1]
            hidden = architecture["encoder_ffn_embed_dim"][-1]
            reference = nn.TransformerEncoderLayer(24, heads, hidden, batch_first=True).eval()
            _copy_attention(layer.attention, reference.self_attn)
            _copy_rest(layer, reference, (layer.attention_norm, layer.feed_forward_norm))
            expected = reference(outputs[1], src_key_padding_mask=source == PAD)
            real = source != PAD
            torch.testing.assert_close(outputs[0][real], expected[real], atol=1e-4, rtol=1e-4)

            layer, heads = subnet.decoder[0], architecture["decoder_self_attention_heads"][0]
            hidden = architecture["decoder_ffn_embed_dim"][0]
            reference = nn.TransformerDecoderLayer(24, heads, hidden, batch_first=True).eval()
            crossing = architecture["decoder_ende_attention_heads"][0]
            reference.multihead_attn = nn.MultiheadAttention(24, crossing, batch_first=True).eval()
            _copy_attention(layer.attention, reference.self_attn)
            _copy_attention(layer.crossing, reference.multihead_attn)
            _copy_rest(layer, reference, (layer.attention_norm, layer.crossing_norm, layer.feed_forward_norm))
            x = torch.randn(4, 7, 24, generator=torch.Generator().manual_seed(3))
            memory = torch.cat(outputs[: layer.memories], 1)
            expected = reference(
                x,
                memory,
                tgt_mask=nn.Transformer.generate_square_subsequent_mask(7),
                tgt_is_causal=True,
                memory_key_padding_mask=(source == PAD).repeat(1, layer.memories),
            )
            torch.testing.assert_close(layer(x, mask, *outputs), expected, atol=1e-4, rtol=1e-4)


def _meters(monkeypatch):
    """A module with the names of fairseq's meters, whose objects lie in its checkpoints."""
    module = types.ModuleType("fairseq.meters")
    for name in ("AverageMeter", "TimeMeter", "StopwatchMeter"):
        setattr(module, name, type(name, (), {"__module__": "fairseq.meters"}))
    monkeypatch.setitem(sys.modules, "fairseq", types.ModuleType("fairseq"))
    monkeypatch.setitem(sys.modules, "fairseq.meters", module)
    meter = module.AverageMeter()
    meter.sum = 3.0
    return {"train_loss": meter, "wall": module.TimeMeter(), "train_wall": module.StopwatchMeter()}


@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_of_fairseq_loads(tmp_path, monkeypatch, legacy):
    path, state = tmp_path / "HAT_super.pt", fairseq_state(SMALL)
    with monkeypatch.context() as patch:
        content = {
            "args": Namespace(arch="transformersuper_wmt_en_de", encoder_embed_choice=[640, 512]),
            "model": {key: tensor.half() for key, tensor in state.items()},
            "optimizer_history": [{"num_updates": 40000, "lr_scheduler_state": {"best": None}}],
            "extra_state": {"train_iterator": {"epoch": 3}, "val_loss": 4.1, "train_meters": _meters(patch)},
        }
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    net = build("net", SMALL, seed=0).eval()
    load_checkpoint(net, path)
    source, previous = net.example_input(2)
    half = {key: tensor.half().float() for key, tensor in state.items()}
    expected = hat_logits(half, SMALL, net.space.largest(), source, previous)
    with torch.no_grad():
        torch.testing.assert_close(net(source, previous), expected, atol=1e-4, rtol=1e-4)


def test_newer_names_of_fairseq_load():
    state, newer = fairseq_state(SMALL), {}
    for key, tensor in state.items():
        if "in_proj_" in key:
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                newer[key.replace("in_proj_", f"{part}_proj.")] = piece
        else:
            newer[key] = tensor
    newer["decoder.output_projection.weight"] = state["decoder.embed_tokens.weight"]
    net = build("net", SMALL, seed=0)
    ours, older = net.from_published(newer), net.from_published(state)
    assert ours.keys() == older.keys() == net.state_dict().keys()
    assert all(torch.equal(ours[key], older[key]) for key in ours)
    assert all(torch.equal(tensor, net.from_published(ours)[key]) for key, tensor in ours.items())


def test_wrong_checkpoints_are_refused(tmp_path):
    net = build("net", SMALL, seed=0)
    path = tmp_path / "other.pt"
    torch.save({"model": fairseq_state(replace(SMALL, qkv_dim=16))}, path)
    with pytest.raises(CheckpointError, match=r"net.encoder.0.attention.query.weight has shape \(16, 32\).*\(24, 32\)"):
        load_checkpoint(net, path)
    torch.save({"model": fairseq_state(UNSHARED)}, path)
    with pytest.raises(CheckpointError, match="another network"):
        load_checkpoint(net, path)
    torch.save({"model": fairseq_state(SMALL) | {"decoder.embed_tokens.weight": torch.zeros(60, 32)}}, path)
    with pytest.raises(CheckpointError, match="it has decoder.embed_tokens.weight"):
        load_checkpoint(net, path)


class Unknown:
    """An object that a checkpoint must not hold."""


def test_other_objects_in_a_checkpoint_are_refused(tmp_path):
    path = tmp_path / "wrong.pt"
    torch.save({"model": fairseq_state(SMALL), "extra": Unknown()}, path)
    with pytest.raises(CheckpointError, match="not plain tensors"):
        load_checkpoint(build("net", SMALL, seed=0), path)


def test_own_checkpoint_round_trip(net, tmp_path):
    path = tmp_path / "net.safetensors"
    write_state(path, net.state_dict())
    other = build("small", SMALL, seed=9)
    assert other.fingerprint() != net.fingerprint()
    load_checkpoint(other, path)
    assert other.fingerprint() == net.fingerprint()
    assert sum(t.numel() for t in net.state_dict().values()) == sum(p.numel() for p in net.parameters())
