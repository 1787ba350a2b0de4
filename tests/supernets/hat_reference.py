"""Small HAT transformers, and the same computed from fairseq's names with plain tensor products, as a reference."""

import math
from dataclasses import replace

import torch
from torch.nn import functional as F

from nas_compress.data.vocabulary import EOS, PAD
from nas_compress.supernets.hat import build
from nas_compress.supernets.hat_config import HATConfig

SMALL = HATConfig(
    encoder_embed_dim=(24, 32),
    decoder_embed_dim=(16, 32),
    encoder_ffn_embed_dim=(8, 40, 48),
    decoder_ffn_embed_dim=(8, 40, 48),
    encoder_layer_num=3,
    decoder_layer_num=(1, 2, 3),
    encoder_self_attention_heads=(2, 4),
    decoder_self_attention_heads=(2, 4),
    decoder_ende_attention_heads=(2, 4),
    qkv_dim=24,
    source_vocabulary=60,
    target_vocabulary=60,
    max_positions=40,
    source_length=9,
    target_length=7,
)
UNSHARED = replace(SMALL, decoder_embed_dim=(16, 28), target_vocabulary=50, sharing="none")


def small(config=SMALL, seed=1):
    net = build("small", config, seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * 0.05)
    return net


def sentences(net, rows=4, seed=0):
    """Tokens with padding at the end of all sentences but the first."""
    source, previous = net.example_input(rows)
    for row in range(1, rows):
        source[row, -2 * row :] = PAD
        source[row, -2 * row - 1] = EOS
        previous[row, len(previous[row]) - row :] = PAD
    return source, previous


def fairseq_state(config, seed=0):
    """Random weights of the largest net under the names of HAT's checkpoints."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape, scale=0.08, shift=0.0):
        return torch.randn(*shape, generator=generator) * scale + shift

    state = {}
    sides = {
        "encoder": (config.encoder_layer_num, max(config.encoder_embed_dim), max(config.encoder_ffn_embed_dim)),
        "decoder": (config.decoder_layers, max(config.decoder_embed_dim), max(config.decoder_ffn_embed_dim)),
    }
    memory = sides["encoder"][1]
    for side, (layers, width, hidden) in sides.items():
        state[f"{side}.version"] = torch.tensor([3.0])
        state[f"{side}.embed_positions._float_tensor"] = torch.zeros(1)
        for i in range(layers):
            prefix = f"{side}.layers.{i}"
            for name in ("self_attn", *(["encoder_attn"] if side == "decoder" else [])):
                if name == "encoder_attn" and memory != width:
                    for part, size in (("q", width), ("k", memory), ("v", memory)):
                        state[f"{prefix}.{name}.{part}_proj_weight"] = draw(config.qkv_dim, size)
                else:
                    state[f"{prefix}.{name}.in_proj_weight"] = draw(3 * config.qkv_dim, width)
                state[f"{prefix}.{name}.in_proj_bias"] = draw(3 * config.qkv_dim)
                state[f"{prefix}.{name}.out_proj.weight"] = draw(width, config.qkv_dim)
                state[f"{prefix}.{name}.out_proj.bias"] = draw(width)
                state[f"{prefix}.{name}_layer_norm.weight"] = draw(width, shift=1.0)
                state[f"{prefix}.{name}_layer_norm.bias"] = draw(width)
            state[f"{prefix}.final_layer_norm.weight"] = draw(width, shift=1.0)
            state[f"{prefix}.final_layer_norm.bias"] = draw(width)
            state[f"{prefix}.fc1.weight"], state[f"{prefix}.fc1.bias"] = draw(hidden, width), draw(hidden)
            state[f"{prefix}.fc2.weight"], state[f"{prefix}.fc2.bias"] = draw(width, hidden), draw(width)
    state["encoder.embed_tokens.weight"] = draw(config.source_vocabulary, memory)
    if config.sharing == "all":
        state["decoder.embed_tokens.weight"] = state["encoder.embed_tokens.weight"]
    else:
        state["decoder.embed_tokens.weight"] = draw(config.target_vocabulary, sides["decoder"][1])
    if config.sharing == "none":
        state["decoder.embed_out"] = draw(config.target_vocabulary, sides["decoder"][1])
    return state


def position(index, width, largest):
    """The position of the token of this number (from 1; 0 for padding) in a net that is narrower than the largest."""
    if index == 0:
        return torch.zeros(width)
    half = largest // 2
    rates = [math.exp(-math.log(10000) * i / (half - 1)) for i in range(half)]
    row = [math.sin((index + 1) * r) for r in rates] + [math.cos((index + 1) * r) for r in rates]
    return torch.tensor(row)[:width]


def embed(table, tokens, width, largest):
    rows = []
    for sentence in tokens.tolist():
        count, row = 0, []
        for token in sentence:
            count += token != 1
            row.append(table[token, :width] * math.sqrt(width) + position(count if token != 1 else 0, width, largest))
        rows.append(torch.stack(row))
    return torch.stack(rows)


def attention(state, prefix, x, memory, heads, allowed):
    """Attention of x (N, L, w) to memory (N, S, m); `allowed` (N, L, S) is True where one may look."""
    qkv = state[f"{prefix}.out_proj.weight"].shape[1]
    if f"{prefix}.in_proj_weight" in state:
        weights = state[f"{prefix}.in_proj_weight"].split(qkv)
    else:
        weights = [state[f"{prefix}.{part}_proj_weight"] for part in "qkv"]
    biases = state[f"{prefix}.in_proj_bias"].split(qkv)
    q, k, v = (
        (y @ w[:, : y.shape[-1]].T + b).unflatten(-1, (heads, qkv // heads))
        for y, w, b in zip((x, memory, memory), weights, biases, strict=True)
    )
    scores = torch.einsum("nlhd,nshd->nhls", q, k) / math.sqrt(qkv // heads)
    shares = scores.masked_fill(~allowed.unsqueeze(1), -torch.inf).softmax(-1)
    mixed = torch.einsum("nhls,nshd->nlhd", shares, v).flatten(2)
    width = x.shape[-1]
    return mixed @ state[f"{prefix}.out_proj.weight"][:width].T + state[f"{prefix}.out_proj.bias"][:width]


def norm(state, prefix, x):
    width = x.shape[-1]
    return F.layer_norm(x, (width,), state[f"{prefix}.weight"][:width], state[f"{prefix}.bias"][:width])


def feed_forward(state, prefix, x, hidden):
    width = x.shape[-1]
    y = (x @ state[f"{prefix}.fc1.weight"][:hidden, :width].T + state[f"{prefix}.fc1.bias"][:hidden]).clamp(min=0)
    y = y @ state[f"{prefix}.fc2.weight"][:width, :hidden].T + state[f"{prefix}.fc2.bias"][:width]
    return norm(state, f"{prefix}.final_layer_norm", x + y)


def hat_logits(state, config, a, source, previous):
    """The logits of the sub-network `a`, shape (N, T, tokens)."""
    there = source != 1
    x = embed(state["encoder.embed_tokens.weight"], source, a["encoder_embed_dim"][0], max(config.encoder_embed_dim))
    outputs = []
    for i in range(config.encoder_layer_num):
        prefix = f"encoder.layers.{i}"
        allowed = there[:, None, :].expand(-1, x.shape[1], -1)
        y = attention(state, f"{prefix}.self_attn", x, x, a["encoder_self_attention_heads"][i], allowed)
        x = norm(state, f"{prefix}.self_attn_layer_norm", x + y)
        x = feed_forward(state, prefix, x, a["encoder_ffn_embed_dim"][i])
        outputs.append(x)
    width = a["decoder_embed_dim"][0]
    x = embed(state["decoder.embed_tokens.weight"], previous, width, max(config.decoder_embed_dim))
    steps = x.shape[1]
    past = torch.arange(steps)[:, None] >= torch.arange(steps)
    for i in range(a["decoder_layer_num"][0]):
        prefix = f"decoder.layers.{i}"
        y = attention(
            state, f"{prefix}.self_attn", x, x, a["decoder_self_attention_heads"][i], past.expand(len(x), -1, -1)
        )
        x = norm(state, f"{prefix}.self_attn_layer_norm", x + y)
        count = {-1: 1, 1: 2, 2: 3}[a["decoder_arbitrary_ende_attn"][i]]
        memory = torch.cat(outputs[-count:], 1)
        allowed = there.repeat(1, count)[:, None, :].expand(-1, steps, -1)
        y = attention(state, f"{prefix}.encoder_attn", x, memory, a["decoder_ende_attention_heads"][i], allowed)
        x = norm(state, f"{prefix}.encoder_attn_layer_norm", x + y)
        x = feed_forward(state, prefix, x, a["decoder_ffn_embed_dim"][i])
    table = state["decoder.embed_out"] if config.sharing == "none" else state["decoder.embed_tokens.weight"]
    return x @ table[:, :width].T
