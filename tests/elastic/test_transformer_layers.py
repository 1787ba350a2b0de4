import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nas_compress.elastic import (
    Attention,
    ElasticAttention,
    ElasticConv2d,
    ElasticEmbedding,
    ElasticFeedForward,
    ElasticJointBiasLinear,
    ElasticLayerNorm,
    ElasticLinear,
    ElasticPatchEmbedding,
    ElasticPreNormLayer,
    ElasticTokenClassifier,
    RelativeDotProduct,
)
from nas_compress.errors import ConfigError

PLAIN = {nn.Linear, nn.LayerNorm, nn.Embedding, nn.Conv2d}


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def randomized(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return module.eval()


def explicit_attention(layer, x, memory, allowed):
    """Attention of plain layers, position by position and head by head."""
    query, key, value = layer.query(x), layer.key(memory), layer.value(memory)
    width = query.shape[-1] // layer.heads
    mixed = torch.zeros_like(query)
    for n in range(len(x)):
        for head in range(layer.heads):
            part = slice(head * width, (head + 1) * width)
            for i in range(x.shape[1]):
                seen = [j for j in range(memory.shape[1]) if allowed[n, i, j]]
                logits = torch.stack([query[n, i, part] @ key[n, j, part] / math.sqrt(width) for j in seen])
                weights = logits.exp() / logits.exp().sum()
                mixed[n, i, part] = sum(w * value[n, j, part] for w, j in zip(weights, seen, strict=True))
    return layer.out(mixed)


# -- linear layers, embeddings, norms ----------------------------------------------------------------------


@given(st.integers(1, 6), st.integers(1, 8), st.booleans())
@settings(max_examples=20)
def test_linear_uses_the_leading_features_and_exports_a_plain_layer(inside, out, bias):
    layer = randomized(ElasticLinear(6, 8, bias=bias))
    layer.active_in, layer.active_out = inside, out
    x = noise(3, 2, inside)
    plain = layer.extract()
    assert type(plain) is nn.Linear and (plain.bias is not None) == bias
    torch.testing.assert_close(plain(x), layer(x))
    layer.active_in, layer.active_out = 6, 8
    padded = nn.functional.pad(x, (0, 6 - inside))
    torch.testing.assert_close(layer(padded)[..., :out], plain(x))


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_joint_bias_is_the_last_third_of_the_leading_part(heads):
    layer = randomized(ElasticJointBiasLinear(6, 12))
    joint = layer.bias.detach().clone()
    width = 4 * heads
    layer.active_in, layer.active_out = 5, width
    x = noise(2, 5)
    expected = x @ layer.weight[:width, :5].T + joint[: 3 * width].chunk(3)[2]
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.extract()(x), expected)


@pytest.mark.parametrize("features", [1, 3, 6])
def test_embedding_and_norm_use_the_leading_features(features):
    embedding = randomized(ElasticEmbedding(10, 6, padding_idx=1))
    embedding.active_dim = features
    indices = torch.tensor([[0, 1, 9]])
    plain = embedding.extract()
    assert type(plain) is nn.Embedding and plain.padding_idx == 1
    assert torch.equal(plain(indices), embedding(indices)) and plain(indices).shape == (1, 3, features)

    norm = randomized(ElasticLayerNorm(6, eps=0.1))
    norm.active_features = features
    x = noise(2, 3, features)
    plain = norm.extract()
    assert type(plain) is nn.LayerNorm
    torch.testing.assert_close(plain(x), norm(x))
    scaled = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 0.1).sqrt()
    torch.testing.assert_close(norm(x), scaled * norm.weight[:features] + norm.bias[:features])


# -- attention ---------------------------------------------------------------------------------------------


@given(
    st.sampled_from([4, 8, 12]), st.sampled_from([(1, 4), (2, 4), (3, 4), (2, 6), (4, 3)]), st.sampled_from([3, 5, 7])
)
@settings(max_examples=20)
def test_attention_of_every_size_is_the_explicit_one(features, heads_width, memory_features):
    heads, width = heads_width
    layer = randomized(ElasticAttention(12, 12, 4, memory_features=7))
    layer.set_active(features, heads * width, heads, memory_features=memory_features)
    x, memory = noise(2, 3, features), noise(2, 5, memory_features, seed=1)
    plain = layer.extract()
    assert type(plain) is Attention
    assert {type(m) for m in plain.modules() if list(m.parameters(recurse=False))} <= PLAIN
    torch.testing.assert_close(plain(x, memory), layer(x, memory))
    allowed = torch.ones(2, 3, 5, dtype=torch.bool)
    torch.testing.assert_close(plain(x, memory), explicit_attention(plain, x, memory, allowed), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("additive", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_looks_where_mask_and_order_allow(masked, causal, additive):
    layer = randomized(ElasticAttention(8, 8, 2))
    x = noise(2, 5, 8)
    allowed = torch.ones(2, 5, 5, dtype=torch.bool)
    mask = None
    if masked:
        allowed &= torch.tensor([[1, 1, 1, 0, 0], [1, 0, 1, 1, 1]], dtype=torch.bool)[:, None, :]
        mask = allowed[:, None].clone()
        mask = torch.zeros(mask.shape).masked_fill(~mask, -torch.inf) if additive else mask
    if causal:
        allowed = allowed.tril()
    expected = explicit_attention(layer, x, x, allowed)
    torch.testing.assert_close(layer(x, mask=mask, causal=causal), expected, atol=1e-5, rtol=1e-4)


def test_attention_is_that_of_torch():
    theirs = nn.MultiheadAttention(12, 3, batch_first=True)
    ours = ElasticAttention(12, 12, 3)
    with torch.no_grad():
        for part, weight, bias in zip(
            (ours.query, ours.key, ours.value),
            theirs.in_proj_weight.chunk(3),
            theirs.in_proj_bias.chunk(3),
            strict=True,
        ):
            part.weight.copy_(weight)
            part.bias.copy_(bias)
    ours.out.load_state_dict(theirs.out_proj.state_dict())
    x = noise(2, 4, 12)
    torch.testing.assert_close(ours(x), theirs(x, x, x, need_weights=False)[0], atol=1e-5, rtol=1e-5)


def test_keys_and_values_may_be_kept():
    layer = randomized(ElasticAttention(8, 8, 2))
    x = noise(2, 5, 8)
    keys, values = layer.keys_values(x)
    last = layer.attend(x[:, 4:], keys, values)
    torch.testing.assert_close(last, layer(x, causal=True)[:, 4:])


@pytest.mark.parametrize("bias", [False, True])
def test_sorting_heads_keeps_the_output_and_puts_the_most_important_first(bias):
    layer = randomized(ElasticAttention(8, 12, 4, bias=bias))
    x = noise(2, 5, 8)
    before = layer(x)
    norms = layer.out.weight.abs().sum(0).view(4, 3).sum(1)
    layer.sort_heads(3)
    torch.testing.assert_close(layer(x), before, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(layer.out.weight.abs().sum(0).view(4, 3).sum(1), norms.sort(descending=True).values)


def test_sorting_heads_leaves_those_that_are_not_in_use():
    layer = randomized(ElasticAttention(8, 12, 4))
    layer.value = randomized(ElasticJointBiasLinear(8, 12), seed=3)
    layer.set_active(8, 9, 3)
    x, unused = noise(2, 5, 8), [layer.query.weight[9:].clone(), layer.out.weight[:, 9:].clone()]
    before = layer(x)
    layer.sort_heads(3)
    torch.testing.assert_close(layer(x), before, atol=1e-5, rtol=1e-5)
    assert torch.equal(layer.query.weight[9:], unused[0]) and torch.equal(layer.out.weight[:, 9:], unused[1])
    norms = layer.out.weight[:, :9].abs().sum(0).view(3, 3).sum(1)
    assert torch.all(norms[:-1] >= norms[1:])


# -- feed-forward, pre-norm layer --------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize(("features", "hidden"), [(3, 5), (6, 9), (6, 4)])
def test_feed_forward_uses_the_leading_features(activation, features, hidden):
    layer = randomized(ElasticFeedForward(6, 9, activation))
    layer.set_active(features, hidden)
    x = noise(2, 3, features)
    plain = layer.extract()
    torch.testing.assert_close(plain(x), layer(x))
    inner = x @ layer.up.weight[:hidden, :features].T + layer.up.bias[:hidden]
    inner = inner.clamp(min=0) if activation == "relu" else inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
    torch.testing.assert_close(layer(x), inner @ layer.down.weight[:features, :hidden].T + layer.down.bias[:features])


@pytest.mark.parametrize("hidden", [9, 7])
def test_sorting_hidden_features_keeps_the_output(hidden):
    layer = randomized(ElasticFeedForward(6, 9, "gelu"))
    layer.set_active(6, hidden)
    x, unused = noise(2, 3, 6), layer.up.weight[hidden:].clone()
    before = layer(x)
    layer.sort_hidden()
    torch.testing.assert_close(layer(x), before, atol=1e-5, rtol=1e-5)
    norms = layer.down.weight[:, :hidden].abs().sum(0)
    assert torch.all(norms[:-1] >= norms[1:]) and torch.equal(layer.up.weight[hidden:], unused)


def test_pre_norm_layer_is_that_of_torch():
    theirs = nn.TransformerEncoderLayer(12, 3, 20, 0.0, "gelu", batch_first=True, norm_first=True).eval()
    ours = ElasticPreNormLayer(ElasticAttention(12, 12, 3), ElasticFeedForward(12, 20, "gelu"))
    joint = theirs.self_attn
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(noise(*parameter.shape, seed=parameter.numel()))
        for part, weight, bias in zip(
            (ours.attention.query, ours.attention.key, ours.attention.value),
            joint.in_proj_weight.chunk(3), joint.in_proj_bias.chunk(3), strict=True,
        ):  # fmt: skip
            part.weight.copy_(weight)
            part.bias.copy_(bias)
    pairs = [
        (ours.attention.out, joint.out_proj),
        (ours.feed_forward.up, theirs.linear1),
        (ours.feed_forward.down, theirs.linear2),
        (ours.attention_norm, theirs.norm1),
        (ours.feed_forward_norm, theirs.norm2),
    ]
    for mine, other in pairs:
        mine.load_state_dict(other.state_dict())
    x = noise(2, 4, 12)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-4, rtol=1e-4)


# -- relative positions ------------------------------------------------------------------------------------


def explicit_relative(mixing, queries, keys, values):
    """Softmax attention with an embedding for every pair of tokens, in loops; token 0 is the class token."""
    rows, columns = mixing.grid
    most = mixing.keys.vertical.shape[0] // 2 - 1

    def embedding(table, i, j):
        if i == 0 or j == 0:
            return table.vertical[0] + table.horizontal[0]
        (row_i, column_i), (row_j, column_j) = divmod(i - 1, columns), divmod(j - 1, columns)
        down = max(-most, min(most, row_j - row_i)) + most + 1
        right = max(-most, min(most, column_j - column_i)) + most + 1
        return table.vertical[down] + table.horizontal[right]

    out = torch.zeros_like(values)
    tokens = 1 + rows * columns
    for n in range(queries.shape[0]):
        for head in range(queries.shape[1]):
            for i in range(tokens):
                query = queries[n, head, i]
                logits = torch.stack([query @ (keys[n, head, j] + embedding(mixing.keys, i, j)) for j in range(tokens)])
                weights = torch.softmax(logits / math.sqrt(queries.shape[-1]), 0)
                out[n, head, i] = sum(
                    weights[j] * (values[n, head, j] + embedding(mixing.values, i, j)) for j in range(tokens)
                )
    return out


@pytest.mark.parametrize(("grid", "most"), [((3, 3), 14), ((3, 3), 1), ((2, 4), 2), ((4, 2), 1), ((1, 1), 1)])
def test_relative_positions_are_the_explicit_ones(grid, most):
    mixing = randomized(RelativeDotProduct(grid, 4, most))
    queries, keys, values = (noise(2, 3, 1 + grid[0] * grid[1], 4, seed=seed) for seed in range(3))
    expected = explicit_relative(mixing, queries, keys, values)
    torch.testing.assert_close(mixing(queries, keys, values), expected, atol=1e-5, rtol=1e-4)


def test_relative_positions_stay_with_heads_that_are_dropped_and_take_no_mask():
    mixing = RelativeDotProduct((2, 2), 4, 1)
    layer = randomized(ElasticAttention(8, 12, 3, mixing=mixing))
    layer.set_active(8, 8, 2)
    x = noise(2, 5, 8)
    plain = layer.extract()
    torch.testing.assert_close(plain(x), layer(x))
    before = layer(x)
    layer.sort_heads(4)
    torch.testing.assert_close(layer(x), before, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.zero_()
    assert torch.any(mixing.keys.vertical != 0)
    with pytest.raises(ConfigError, match="no mask"):
        layer(x, causal=True)


# -- images to tokens, tokens to classes -------------------------------------------------------------------


@pytest.mark.parametrize("features", [2, 6])
def test_patches_become_tokens_after_the_class_token(features):
    layer = randomized(ElasticPatchEmbedding(3, 6, 4, patches=6))
    layer.set_active(features)
    images = noise(2, 3, 8, 12)
    plain = layer.extract()
    assert type(plain.patches) is nn.Conv2d and plain.patches.padding == (0, 0)
    torch.testing.assert_close(plain(images), layer(images))
    pixels = images.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(2, 6, -1)
    tokens = pixels @ layer.patches.weight[:features].flatten(1).T + layer.patches.bias[:features]
    expected = torch.cat((layer.class_token[..., :features].expand(2, 1, -1), tokens), 1)
    torch.testing.assert_close(layer(images), expected + layer.positions[..., :features], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pool", ["class", "mean"])
def test_classes_are_read_from_normalised_tokens(pool):
    layer = randomized(ElasticTokenClassifier(6, 3, pool))
    layer.set_active(4)
    x = noise(2, 5, 4)
    plain = layer.extract()
    torch.testing.assert_close(plain(x), layer(x))
    normal = nn.functional.layer_norm(x, (4,), layer.norm.weight[:4], layer.norm.bias[:4])
    read = normal[:, 0] if pool == "class" else normal[:, 1:].mean(1)
    torch.testing.assert_close(layer(x), read @ layer.classifier.weight[:, :4].T + layer.classifier.bias)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, None), (3, 2, None), (4, 4, 0), (2, 1, 0)])
def test_convolution_with_stride_and_padding(kernel, stride, padding):
    layer = ElasticConv2d(4, 6, kernel, stride=stride, padding=padding, bias=True)
    layer.active_in, layer.active_out = 3, 5
    x = noise(2, 3, 8, 8)
    around = kernel // 2 if padding is None else padding
    expected = nn.functional.conv2d(x, layer.weight[:5, :3], layer.bias[:5], stride, around)
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(copy.deepcopy(layer).extract()(x), expected)
