"""The names of fairseq's transformers, in which HAT's checkpoints were published, and ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from torch import Tensor

from nas_compress.supernets.hat_config import Sharing

_PARTS = {
    "self_attn": "attention",
    "self_attn_layer_norm": "attention_norm",
    "encoder_attn": "crossing",
    "encoder_attn_layer_norm": "crossing_norm",
    "fc1": "feed_forward.up",
    "fc2": "feed_forward.down",
    "final_layer_norm": "feed_forward_norm",
}
_PROJECTIONS = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "out"}
_LEFT_OUT = re.compile(r"(encoder|decoder)\.(version|embed_positions\..*)")
_LAYER = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.(\w+)\.(.+)")
_TABLES: Mapping[Sharing, Mapping[str, int]] = {
    "all": {"encoder.embed_tokens.weight": 0},
    "output": {"encoder.embed_tokens.weight": 0, "decoder.embed_tokens.weight": 1},
    "none": {
        "encoder.embed_tokens.weight": 0,
        "decoder.embed_tokens.weight": 1,
        "decoder.embed_out": 2,
        "decoder.output_projection.weight": 2,
    },
}
_COPIES = ("decoder.embed_tokens.weight", "decoder.output_projection.weight")
"""Under these names fairseq stores once more what the net's parts share."""


def our_names(state: Mapping[str, Tensor], sharing: Sharing) -> dict[str, Tensor]:
    """Return a state dictionary of fairseq's under our names; other names stay as they are.

    Queries, keys and values, which fairseq stacks, are taken apart. Sines and versions, which are not weights, are left
    out, and so are copies of tables that are shared.

    Args:
        state: Tensors by name, as in HAT's checkpoints or in those of newer versions of fairseq.
        sharing: See `HATConfig`.
    """
    ours: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if key in _TABLES[sharing]:
            ours[f"net.tables.{_TABLES[sharing][key]}.weight"] = tensor
        elif match := _LAYER.fullmatch(key):
            ours.update(_layer(match, tensor))
        elif not _LEFT_OUT.fullmatch(key) and not _is_copy(key, state, sharing):
            ours[key] = tensor
    return ours


def _is_copy(key: str, state: Mapping[str, Tensor], sharing: Sharing) -> bool:
    """Return whether a tensor is the very table that is taken already: another one must not be lost silently."""
    if key not in _COPIES or key in _TABLES[sharing]:
        return False
    kept = state.get("encoder.embed_tokens.weight" if sharing == "all" else "decoder.embed_tokens.weight")
    return kept is not None and kept.shape == state[key].shape and bool((kept == state[key]).all())


def _layer(key: re.Match[str], tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield our names and tensors of a tensor of a layer."""
    side, number, part, rest = key.groups()
    if part not in _PARTS:
        yield key.string, tensor
        return
    prefix = f"net.{side}.{number}.{_PARTS[part]}"
    if (stacked := re.fullmatch(r"in_proj_(weight|bias)", rest)) and len(tensor) % 3 == 0:
        for name, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
            yield f"{prefix}.{name}.{stacked[1]}", piece
    elif single := re.fullmatch(r"([qkv]_proj|out_proj)[._](weight|bias)", rest):
        yield f"{prefix}.{_PROJECTIONS[single[1]]}.{single[2]}", tensor
    else:
        yield f"{prefix}.{rest}", tensor
