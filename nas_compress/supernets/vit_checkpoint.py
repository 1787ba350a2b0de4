"""Published checkpoints of vision transformers in our names: AutoFormer's, Hugging Face's, timm's, torchvision's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from torch import Tensor

Renames = tuple[tuple[str, str], ...]
Tensors = Iterator[tuple[str, Tensor]]

_AUTOFORMER: Renames = (
    (r"cls_token", "embedding.class_token"),
    (r"pos_embed", "embedding.positions"),
    (r"patch_embed_super\.proj\.", "embedding.patches."),
    (r"blocks\.(\d+)\.attn\.proj\.", r"layers.\1.attention.out."),
    (r"blocks\.(\d+)\.attn\.rel_pos_embed_k\.embeddings_table_v", r"layers.\1.attention.mixing.keys.vertical"),
    (r"blocks\.(\d+)\.attn\.rel_pos_embed_k\.embeddings_table_h", r"layers.\1.attention.mixing.keys.horizontal"),
    (r"blocks\.(\d+)\.attn\.rel_pos_embed_v\.embeddings_table_v", r"layers.\1.attention.mixing.values.vertical"),
    (r"blocks\.(\d+)\.attn\.rel_pos_embed_v\.embeddings_table_h", r"layers.\1.attention.mixing.values.horizontal"),
    (r"blocks\.(\d+)\.attn\.", r"layers.\1.attention."),
    (r"blocks\.(\d+)\.attn_layer_norm\.", r"layers.\1.attention_norm."),
    (r"blocks\.(\d+)\.ffn_layer_norm\.", r"layers.\1.feed_forward_norm."),
    (r"blocks\.(\d+)\.fc1\.", r"layers.\1.feed_forward.up."),
    (r"blocks\.(\d+)\.fc2\.", r"layers.\1.feed_forward.down."),
    (r"norm\.", "head.norm."),
    (r"head\.(?!norm|classifier)", "head.classifier."),
)

_HUGGING_FACE: Renames = (
    (r"vit\.embeddings\.cls_token", "embedding.class_token"),
    (r"vit\.embeddings\.position_embeddings", "embedding.positions"),
    (r"vit\.embeddings\.patch_embeddings\.projection\.", "embedding.patches."),
    (r"vit\.encoder\.layer\.(\d+)\.layernorm_before\.", r"layers.\1.attention_norm."),
    (r"vit\.encoder\.layer\.(\d+)\.layernorm_after\.", r"layers.\1.feed_forward_norm."),
    (r"vit\.encoder\.layer\.(\d+)\.attention\.attention\.", r"layers.\1.attention."),
    (r"vit\.encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"layers.\1.attention.out."),
    (r"vit\.encoder\.layer\.(\d+)\.intermediate\.dense\.", r"layers.\1.feed_forward.up."),
    (r"vit\.encoder\.layer\.(\d+)\.output\.dense\.", r"layers.\1.feed_forward.down."),
    (r"vit\.layernorm\.", "head.norm."),
    (r"classifier\.", "head.classifier."),
)

_TIMM: Renames = (
    (r"cls_token", "embedding.class_token"),
    (r"pos_embed", "embedding.positions"),
    (r"patch_embed\.proj\.", "embedding.patches."),
    (r"blocks\.(\d+)\.norm1\.", r"layers.\1.attention_norm."),
    (r"blocks\.(\d+)\.norm2\.", r"layers.\1.feed_forward_norm."),
    (r"blocks\.(\d+)\.attn\.proj\.", r"layers.\1.attention.out."),
    (r"blocks\.(\d+)\.attn\.", r"layers.\1.attention."),
    (r"blocks\.(\d+)\.mlp\.fc1\.", r"layers.\1.feed_forward.up."),
    (r"blocks\.(\d+)\.mlp\.fc2\.", r"layers.\1.feed_forward.down."),
    (r"norm\.", "head.norm."),
    (r"head\.(?!norm|classifier)", "head.classifier."),
)

_TORCHVISION: Renames = (
    (r"class_token", "embedding.class_token"),
    (r"conv_proj\.", "embedding.patches."),
    (r"encoder\.pos_embedding", "embedding.positions"),
    (r"encoder\.layers\.encoder_layer_(\d+)\.ln_1\.", r"layers.\1.attention_norm."),
    (r"encoder\.layers\.encoder_layer_(\d+)\.ln_2\.", r"layers.\1.feed_forward_norm."),
    (r"encoder\.layers\.encoder_layer_(\d+)\.self_attention\.in_proj_", r"layers.\1.attention.qkv."),
    (r"encoder\.layers\.encoder_layer_(\d+)\.self_attention\.out_proj\.", r"layers.\1.attention.out."),
    (r"encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:linear_1|0)\.", r"layers.\1.feed_forward.up."),
    (r"encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:linear_2|3)\.", r"layers.\1.feed_forward.down."),
    (r"encoder\.ln\.", "head.norm."),
    (r"heads\.head\.", "head.classifier."),
)

_PARTS = ("query", "key", "value")


def renamed(state: Mapping[str, Tensor], joint_bias: bool) -> dict[str, Tensor]:
    """Return a state dictionary in our names; those that no publisher uses stay as they are.

    Args:
        state: Of AutoFormer, Hugging Face's `ViTForImageClassification`, timm, torchvision, or in our own names.
        joint_bias: Whether the values' biases are parts of one joint with queries and keys, in our net.
    """
    if "patch_embed_super.proj.weight" in state:
        tensors = _split(_rename(state, _AUTOFORMER), joint_bias, _interleaved)
    elif "vit.embeddings.cls_token" in state:
        tensors = _rename(state, _HUGGING_FACE)
    elif "patch_embed.proj.weight" in state:
        tensors = _split(_rename(state, _TIMM), joint_bias, _stacked)
    elif "conv_proj.weight" in state:
        tensors = _split(_rename(state, _TORCHVISION), joint_bias, _stacked)
    else:
        tensors = iter(state.items())
    return dict(tensors)


def _rename(state: Mapping[str, Tensor], renames: Renames) -> Tensors:
    for key, tensor in state.items():
        for theirs, ours in renames:
            if match := re.match(theirs, key):
                key = match.expand(ours) + key[match.end() :]
                break
        yield key, tensor


def _split(tensors: Tensors, joint_bias: bool, split: Callable[[Tensor], tuple[Tensor, ...]]) -> Tensors:
    """Take the joint layers of queries, keys and values apart."""
    for key, tensor in tensors:
        if ".attention.qkv." not in key:
            yield key, tensor
            continue
        bias = key.endswith("bias")
        for part, piece in zip(_PARTS, _stacked(tensor) if bias else split(tensor), strict=True):
            whole = bias and part == "value" and joint_bias
            yield key.replace(".qkv.", f".{part}."), tensor if whole else piece


def _stacked(tensor: Tensor) -> tuple[Tensor, ...]:
    """Return the parts of queries, keys and values that follow each other."""
    return tensor.tensor_split(3)


def _interleaved(tensor: Tensor) -> tuple[Tensor, ...]:
    """Return the parts of queries, keys and values that take turns row by row, as AutoFormer keeps weights."""
    return tuple(tensor[part::3] for part in range(3))
