"""The names of tensors in Hugging Face's BERT checkpoints, and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from nas_compress.supernets.bert_config import Task

_PARTS = {
    "embeddings.word_embeddings": "embeddings.words",
    "embeddings.position_embeddings": "embeddings.positions",
    "embeddings.token_type_embeddings": "embeddings.segments",
    "embeddings.LayerNorm": "embeddings.norm",
    "pooler.dense": "head.pooler",
}
HEADS = {"classification": "classifier", "answering": "qa_outputs"}
"""The layer that gives the logits, by task."""

_LAYER_PARTS = {
    "attention.self.query": "attention.inner.query",
    "attention.self.key": "attention.inner.key",
    "attention.self.value": "attention.inner.value",
    "attention.output.dense": "attention.inner.out",
    "attention.output.LayerNorm": "attention.norm",
    "intermediate.dense": "feed_forward.inner.up",
    "output.dense": "feed_forward.inner.down",
    "output.LayerNorm": "feed_forward.norm",
}
_ENTRIES = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}
"""The oldest checkpoints, converted from TensorFlow, call LayerNorm's parameters gamma and beta."""

_ANY_HEAD = ("head.out.", "cls.", *(f"{name}." for name in HEADS.values()))


def published_key(key: str, task: Task) -> str | None:
    """Return our name of a tensor; None for what a net of this task lacks, the same name for what is unknown.

    Lacking are the numbers 0, 1, ... of positions, which older versions keep among the weights, and for question
    answering the pooler, which some checkpoints have without using it. Heads of other tasks are unknown.
    """
    bare = key.removeprefix("bert.")
    if bare == "embeddings.position_ids":
        return None
    part, _, entry = bare.rpartition(".")
    if entry not in _ENTRIES:
        return key
    if part == HEADS[task]:
        return f"head.out.{entry}"
    if part == "pooler.dense" and task == "answering":
        return None
    if part in _PARTS:
        return f"{_PARTS[part]}.{_ENTRIES[entry]}"
    match = re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)", part)
    if match is None or match[2] not in _LAYER_PARTS:
        return key
    return f"layers.{match[1]}.{_LAYER_PARTS[match[2]]}.{_ENTRIES[entry]}"


def encoder_alone(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors in our names without those of any task's head; the pooler stays."""
    return {key: tensor for key, tensor in state.items() if not key.startswith(_ANY_HEAD)}
