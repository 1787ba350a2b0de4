"""The configurations of BERT super-networks, without torch: what a check needs to know before any work.

Sources: Devlin et al., 2019, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding";
the spaces of INC and DyNAS-T (`bert_base_sst2`) and of DE-NAS.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from nas_compress.errors import CheckpointError, ConfigError, first_line
from nas_compress.space import SearchSpace
from nas_compress.space.dimension import Dimension, depth_conditions
from nas_compress.supernets.entry import network

Task = Literal["classification", "answering"]

ACTIVATIONS = ("gelu", "relu")
_LABELS = 2
"""Labels of a Hugging Face configuration that names none."""


@dataclass(frozen=True)
class BertConfig:
    """Everything that makes one net of this family; the defaults are BERT-base in the space of INC and DyNAS-T.

    Attributes:
        layers: Elastic numbers of layers; the first ones are kept.
        heads: Elastic numbers of attention heads; the first ones are kept, and keep their size.
        intermediate: Elastic numbers of hidden features of the feed-forward parts.
        hidden: Elastic numbers of features between the layers.
        per_layer: Whether every layer has heads and intermediate features of its own, or all have the same.
        head_size: Features of one attention head.
        task: `"classification"` of sequences, or extractive question `"answering"`.
        num_classes: Number of logits: classes, or 2 (start and end of the answer).
        length: Tokens of a sequence, of which MACs are counted and examples made.
        vocabulary: Number of word pieces.
        positions: The most tokens of a sequence.
        segments: Number of token types.
        padding: The word piece that fills sequences up.
        activation: Of the feed-forward parts: `"gelu"` (exact, by the error function) or `"relu"`.
        eps: Added to variances by LayerNorm.
        dropout: Probability, in training, of dropping a feature of the embeddings or of what a layer's part adds.
        head_dropout: Probability, in training, of dropping a feature before the classifier.

    Raises:
        ConfigError: A value is out of range.
    """

    layers: tuple[int, ...] = tuple(range(6, 13))
    heads: tuple[int, ...] = (6, 8, 10, 12)
    intermediate: tuple[int, ...] = (1024, 2048, 3072)
    hidden: tuple[int, ...] = (768,)
    per_layer: bool = True
    head_size: int = 64
    task: Task = "classification"
    num_classes: int = 2
    length: int = 128
    vocabulary: int = 30522
    positions: int = 512
    segments: int = 2
    padding: int = 0
    activation: str = "gelu"
    eps: float = 1e-12
    dropout: float = 0.1
    head_dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("layers", "heads", "intermediate", "hidden"):
            values = getattr(self, name)
            if not values:
                raise ConfigError(f"{name} is empty; wants at least one entry")
            if min(values) < 1:
                raise ConfigError(f"{name} holds {min(values)}; wants at least 1")
        for name in ("head_size", "num_classes", "length", "vocabulary", "positions", "segments"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}; wants at least 1")
        if self.length > self.positions:
            raise ConfigError(f"length = {self.length}; there are {self.positions} positions")
        if not 0 <= self.padding < self.vocabulary:
            raise ConfigError(f"padding = {self.padding}; wants a word piece, 0 to {self.vocabulary - 1}")
        for name in ("dropout", "head_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}; wants at least 0 and less than 1")
        if not self.eps > 0:
            raise ConfigError(f"eps = {self.eps}; wants more than 0")
        if self.activation not in ACTIVATIONS:
            raise ConfigError(f"unknown activation {self.activation!r}; known: {', '.join(ACTIVATIONS)}")
        if self.task not in ("classification", "answering"):
            raise ConfigError(f"unknown task {self.task!r}; known: classification, answering")
        if self.task == "answering" and self.num_classes != 2:
            raise ConfigError(f"num_classes = {self.num_classes}; answering wants 2, the answer's start and end")

    def space(self, name: str) -> SearchSpace:
        """Return the search space of a net of this configuration; the hidden size is a gene if it has a choice."""
        most = max(self.layers)
        slots = most if self.per_layer else 1
        dimensions = [
            Dimension.uniform("num_layers", self.layers),
            Dimension.uniform("num_attention_heads", self.heads, slots),
            Dimension.uniform("intermediate_size", self.intermediate, slots),
        ]
        if len(self.hidden) > 1:
            dimensions.append(Dimension.uniform("hidden_size", self.hidden))
        governed = ("num_attention_heads", "intermediate_size")
        return SearchSpace(name, dimensions, depth_conditions("num_layers", governed, [most]) if self.per_layer else ())

    @classmethod
    def from_folder(cls, path: str | Path, task: Task = "classification", num_classes: int | None = None) -> Self:
        """Return the configuration of a Hugging Face BERT, elastic from half to all of its layers, heads and FFN.

        Layers and heads take every whole number of that range, the FFN's features five values, evenly spaced.

        Args:
            path: The folder that holds `config.json`, or that file.
            task: What the net is to do.
            num_classes: Number of classes; those of the file by default.

        Raises:
            CheckpointError: The file is missing, damaged, or describes something else than a BERT encoder.
        """
        file = Path(path)
        file = file / "config.json" if file.is_dir() else file
        try:
            return cls._of_published(_read(file), file, task, num_classes)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{file} holds a value of another type than a BERT's: {first_line(error)}") from error

    @classmethod
    def _of_published(cls, published: Mapping[str, Any], file: Path, task: Task, num_classes: int | None) -> Self:
        hidden, layers, heads, intermediate = (
            _whole(published, key, file)
            for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        )
        if hidden % heads:
            raise CheckpointError(f"{file}: hidden_size {hidden} is no multiple of num_attention_heads {heads}")
        dropout = float(published.get("hidden_dropout_prob", 0.1))
        head_dropout = published.get("classifier_dropout")
        labels = len(published["id2label"]) if "id2label" in published else published.get("num_labels", _LABELS)
        positions = int(published.get("max_position_embeddings", 512))
        return cls(
            layers=tuple(range(-(-layers // 2), layers + 1)),
            heads=tuple(range(-(-heads // 2), heads + 1)),
            intermediate=tuple(sorted({round(intermediate * eighths / 8) for eighths in range(4, 9)})),
            hidden=(hidden,),
            head_size=hidden // heads,
            task=task,
            num_classes=2 if task == "answering" else int(num_classes or labels),
            length=min(384 if task == "answering" else 128, positions),
            vocabulary=_whole(published, "vocab_size", file),
            positions=positions,
            segments=int(published.get("type_vocab_size", 2)),
            padding=int(published.get("pad_token_id") or 0),
            activation=str(published.get("hidden_act", "gelu")),
            eps=float(published.get("layer_norm_eps", 1e-12)),
            dropout=dropout,
            head_dropout=dropout if head_dropout is None else float(head_dropout),
        )


def _read(file: Path) -> Mapping[str, Any]:
    """Return the content of a Hugging Face `config.json` of a BERT encoder.

    Raises:
        CheckpointError: It is something else.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {file}: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds no configuration (a mapping)")
    wanted = {
        "model_type": "bert",
        "position_embedding_type": "absolute",
        "is_decoder": False,
        "add_cross_attention": False,
    }
    for key, value in wanted.items():
        if content.get(key, value) != value:
            raise CheckpointError(f"{file}: {key} is {content[key]!r}; this family wants {value!r}")
    if content.get("hidden_act", "gelu") not in ACTIVATIONS:
        raise CheckpointError(f"{file}: hidden_act is {content['hidden_act']!r}; known: {', '.join(ACTIVATIONS)}")
    return content


def _whole(published: Mapping[str, Any], key: str, file: Path) -> int:
    value = published.get(key)
    if not isinstance(value, int) or value < 1:
        raise CheckpointError(f"{file}: {key} is {value!r}; wants a whole number, at least 1")
    return value


BERT_BASE_SST2 = BertConfig()
"""BERT-base in the space of INC and DyNAS-T: heads and intermediate features per layer, hidden size 768."""

BERT_BASE_SQUAD = BertConfig(task="answering", length=384)
"""The same encoder and space for extractive question answering."""

BERT_BASE_DENAS = BertConfig(
    layers=tuple(range(4, 13)),
    heads=tuple(range(8, 13)),
    intermediate=tuple(range(128, 3073, 32)),
    hidden=tuple(range(128, 769, 16)),
    per_layer=False,
)
"""BERT-base in DE-NAS's space: 171,585 sub-networks whose layers are all alike."""

TINY_BERT = BertConfig(
    layers=(1, 2, 3),
    heads=(1, 2, 4),
    intermediate=(64, 128, 256),
    hidden=(64,),
    head_size=16,
    length=32,
    positions=64,
    dropout=0.0,
    head_dropout=0.0,
)
"""A small net that trains from nothing on a CPU, on sentences in the word pieces of the published uncased BERT."""

BERTS = dict(
    [
        network(
            "bert_base_sst2",
            BERT_BASE_SST2,
            "bert",
            "BERT-base for sentence classification, heads and FFN per layer (INC, DyNAS-T)",
            task="text",
            dataset="sentences",
        ),
        network(
            "bert_base_squad",
            BERT_BASE_SQUAD,
            "bert",
            "BERT-base for extractive question answering, heads and FFN per layer",
            task="questions",
            metrics=("f1", "exact_match"),
            dataset="questions",
        ),
        network(
            "bert_base_denas",
            BERT_BASE_DENAS,
            "bert",
            "BERT-base for sentence classification, all layers alike, elastic hidden size (DE-NAS)",
            task="text",
            dataset="sentences",
        ),
        network(
            "tiny_bert",
            TINY_BERT,
            "bert",
            "small BERT for sentence classification, trains on a CPU",
            task="text",
            dataset="sentences",
        ),
    ]
)
"""The registry's entries of this family."""
