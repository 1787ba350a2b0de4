"""The configurations of HAT's translation transformers, without torch.

Source: Wang et al., 2020, "HAT: Hardware-Aware Transformers for Efficient Natural Language Processing", section 3, and
its published configurations. The names of the genes are DyNAS-T's, which are HAT's with underscores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from nas_compress.errors import ArchitectureError, ConfigError
from nas_compress.space import Architecture, SearchSpace
from nas_compress.space.dimension import Dimension, depth_conditions
from nas_compress.supernets.entry import network

WIDTHS = ("encoder_embed_dim", "decoder_embed_dim")
ENCODER_GENES = ("encoder_ffn_embed_dim", "encoder_self_attention_heads")
"""Dimensions with a gene for each layer of the encoder."""

DECODER_GENES = (
    "decoder_ffn_embed_dim",
    "decoder_self_attention_heads",
    "decoder_ende_attention_heads",
    "decoder_arbitrary_ende_attn",
)
"""Dimensions with a gene for each layer of the decoder."""

_ORDER = (
    *WIDTHS,
    *("encoder_ffn_embed_dim", "decoder_ffn_embed_dim", "decoder_layer_num", "encoder_self_attention_heads"),
    *DECODER_GENES[1:],
)
"""DyNAS-T's order of the dimensions."""

Sharing = Literal["all", "output", "none"]


@dataclass(frozen=True)
class HATConfig:
    """Everything that makes one net of this family; the defaults are the published WMT'14 English-German.

    Attributes:
        encoder_embed_dim: Elastic widths of the encoder.
        decoder_embed_dim: Elastic widths of the decoder.
        encoder_ffn_embed_dim: Elastic hidden features of the encoder's feed-forward parts.
        decoder_ffn_embed_dim: The same of the decoder.
        encoder_layer_num: Layers of the encoder.
        decoder_layer_num: Elastic numbers of layers of the decoder; the first ones are kept.
        encoder_self_attention_heads: Elastic heads of the encoder.
        decoder_self_attention_heads: Elastic heads of the decoder's self-attention.
        decoder_ende_attention_heads: Elastic heads of the encoder-decoder attention.
        decoder_arbitrary_ende_attn: What encoder-decoder attention looks at: -1 is the last layer of the encoder, k
            the last k + 1 of them, one after the other.
        qkv_dim: Width of all heads' queries, keys and values, whatever the number of heads.
        source_vocabulary: Number of source tokens.
        target_vocabulary: Number of target tokens: the logits.
        sharing: `"all"`: one table of embeddings for source, target and output (a joined dictionary); `"output"`: one
            for the source, one for target and output; `"none"`: three.
        max_positions: The longest sentence in tokens.
        source_length: Source tokens of the sentence that costs and latencies are about.
        target_length: Target tokens of that sentence.
        dropout: Probability of dropping a feature in the widest net; smaller in proportion in narrower ones.

    Raises:
        ConfigError: A value is out of range, or values do not fit one another.
    """

    encoder_embed_dim: tuple[int, ...] = (512, 640)
    decoder_embed_dim: tuple[int, ...] = (512, 640)
    encoder_ffn_embed_dim: tuple[int, ...] = (1024, 2048, 3072)
    decoder_ffn_embed_dim: tuple[int, ...] = (1024, 2048, 3072)
    encoder_layer_num: int = 6
    decoder_layer_num: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    encoder_self_attention_heads: tuple[int, ...] = (4, 8)
    decoder_self_attention_heads: tuple[int, ...] = (4, 8)
    decoder_ende_attention_heads: tuple[int, ...] = (4, 8)
    decoder_arbitrary_ende_attn: tuple[int, ...] = (-1, 1, 2)
    qkv_dim: int = 512
    source_vocabulary: int = 32768
    target_vocabulary: int = 32768
    sharing: Sharing = "all"
    max_positions: int = 1024
    source_length: int = 30
    target_length: int = 30
    dropout: float = 0.3

    def __post_init__(self) -> None:
        for name in _ORDER:
            values = getattr(self, name)
            if not values:
                raise ConfigError(f"{name} is empty; wants at least one entry")
            if name != "decoder_arbitrary_ende_attn" and min(values) < 1:
                raise ConfigError(f"{name} holds {min(values)}; wants at least 1")
        for name in ("encoder_layer_num", "qkv_dim", "source_length", "target_length"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}; wants at least 1")
        for name in ("source_vocabulary", "target_vocabulary"):
            if getattr(self, name) < 5:
                raise ConfigError(f"{name} = {getattr(self, name)}; wants at least 5: four special tokens and one more")
        if self.max_positions < max(self.source_length, self.target_length):
            raise ConfigError(f"max_positions = {self.max_positions} is less than source_length or target_length")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout = {self.dropout}; wants at least 0 and less than 1")
        self._check_fit()

    def _check_fit(self) -> None:
        for name in WIDTHS:
            if odd := next((width for width in getattr(self, name) if width % 2), None):
                raise ConfigError(f"{name} holds {odd}; wants even widths: positions are sines and cosines")
        for name in (n for n in _ORDER if n.endswith("heads")):
            if wrong := next((heads for heads in getattr(self, name) if self.qkv_dim % heads), None):
                raise ConfigError(f"{name} holds {wrong}, which does not divide qkv_dim = {self.qkv_dim}")
        for value in self.decoder_arbitrary_ende_attn:
            if value == 0 or not -1 <= value < self.encoder_layer_num:
                raise ConfigError(
                    f"decoder_arbitrary_ende_attn holds {value}; allowed: -1 (the last layer of the encoder) and 1 to "
                    f"{self.encoder_layer_num - 1} (as many more)"
                )
        if self.sharing not in get_args(Sharing):
            raise ConfigError(f"sharing = {self.sharing!r}; allowed: {', '.join(get_args(Sharing))}")
        if self.sharing == "all" and self.source_vocabulary != self.target_vocabulary:
            raise ConfigError(
                f"sharing = 'all' wants one vocabulary; source_vocabulary = {self.source_vocabulary}, "
                f"target_vocabulary = {self.target_vocabulary}"
            )

    @property
    def decoder_layers(self) -> int:
        """The most layers of the decoder."""
        return max(self.decoder_layer_num)

    @property
    def width(self) -> int:
        """The largest width of encoder and decoder."""
        return max(*self.encoder_embed_dim, *self.decoder_embed_dim)

    def space(self, name: str) -> SearchSpace:
        """Return the search space of a net of this configuration."""
        slots = dict.fromkeys(ENCODER_GENES, self.encoder_layer_num) | dict.fromkeys(DECODER_GENES, self.decoder_layers)
        dimensions = [Dimension.uniform(gene, getattr(self, gene), slots.get(gene, 1)) for gene in _ORDER]
        return SearchSpace(
            name, dimensions, depth_conditions("decoder_layer_num", DECODER_GENES, [self.decoder_layers])
        )

    def architecture(self, published: Mapping[str, Any]) -> Architecture:
        """Return an architecture of HAT's files (`encoder-ffn-embed-dim-all-subtransformer: [...]` and so on).

        Raises:
            ArchitectureError: The encoder has another number of layers than this configuration's.
        """
        genes = {_gene(key): value for key, value in published.items()}
        layers = genes.pop("encoder_layer_num", self.encoder_layer_num)
        if layers != self.encoder_layer_num:
            raise ArchitectureError(f"encoder-layer-num = {layers}; this net's encoder has {self.encoder_layer_num}")
        for gene in DECODER_GENES:
            if isinstance(genes.get(gene), Sequence):
                genes[gene] = [*genes[gene], *[0] * (self.decoder_layers - len(genes[gene]))]
        return Architecture(genes)


def _gene(key: str) -> str:
    return key.removesuffix("-subtransformer").removesuffix("-all").replace("-", "_")


def memory_layers(arbitrary: int) -> int:
    """Return how many layers of the encoder a value of `decoder_arbitrary_ende_attn` stands for."""
    return max(arbitrary, 0) + 1


def encoder_sizes(architecture: Architecture) -> list[dict[str, int]]:
    """Return width, heads and hidden features of the encoder's layers."""
    width = int(architecture["encoder_embed_dim"][0])
    rows = zip(*(architecture[gene] for gene in ENCODER_GENES), strict=True)
    return [{"width": width, "hidden": int(hidden), "heads": int(heads)} for hidden, heads in rows]


def decoder_sizes(architecture: Architecture) -> list[dict[str, int]]:
    """Return widths, heads, hidden features and what is looked at, of the decoder's layers that are in use."""
    widths = {"width": int(architecture["decoder_embed_dim"][0])}
    widths["encoder_width"] = int(architecture["encoder_embed_dim"][0])
    rows = list(zip(*(architecture[gene] for gene in DECODER_GENES), strict=True))
    names = ("hidden", "heads", "crossing_heads", "arbitrary")
    depth = int(architecture["decoder_layer_num"][0])
    return [widths | dict(zip(names, map(int, row), strict=True)) for row in rows[:depth]]


FEATURES = (
    "encoder_embed_dim",
    "encoder_layer_num",
    "encoder_ffn_embed_dim_avg",
    "encoder_self_attention_heads_avg",
    "decoder_embed_dim",
    "decoder_layer_num",
    "decoder_ffn_embed_dim_avg",
    "decoder_self_attention_heads_avg",
    "decoder_ende_attention_heads_avg",
    "decoder_arbitrary_ende_attn_avg",
)
"""What HAT's latency predictor looks at (section 3.2), by the names in its published tables of latencies."""


def latency_features(architecture: Architecture) -> dict[str, float]:
    """Return the ten numbers that HAT's latency predictor looks at; means are over the layers in use.

    Encoder-decoder attention counts as the number of the encoder's layers that it looks at.
    """
    depth = int(architecture["decoder_layer_num"][0])
    rows = {gene: [float(value) for value in architecture[gene]] for gene in (*WIDTHS, *ENCODER_GENES)}
    rows |= {gene: [float(value) for value in architecture[gene][:depth]] for gene in DECODER_GENES}
    rows["decoder_arbitrary_ende_attn"] = [memory_layers(int(v)) for v in rows["decoder_arbitrary_ende_attn"]]
    means = {f"{gene}_avg": float(np.mean(row)) for gene, row in rows.items()}
    known = means | {gene: rows[gene][0] for gene in WIDTHS}
    known |= {"decoder_layer_num": float(depth), "encoder_layer_num": float(len(rows[ENCODER_GENES[0]]))}
    return {name: known[name] for name in FEATURES}


WMT_EN_DE = HATConfig()
"""HAT's space for WMT'14 and WMT'19; the joined dictionary of the former has 32,768 tokens."""

IWSLT_DE_EN = HATConfig(
    encoder_ffn_embed_dim=(512, 1024, 2048),
    decoder_ffn_embed_dim=(512, 1024, 2048),
    encoder_self_attention_heads=(2, 4),
    decoder_self_attention_heads=(2, 4),
    decoder_ende_attention_heads=(2, 4),
    source_vocabulary=8848,
    target_vocabulary=6632,
    sharing="none",
    source_length=23,
    target_length=23,
    dropout=0.375,
)
"""HAT's space for IWSLT'14 German-English; the dictionaries are those of fairseq's preparation of the data."""

MULTI30K = HATConfig(
    encoder_embed_dim=(96, 128, 192),
    decoder_embed_dim=(96, 128, 192),
    encoder_ffn_embed_dim=(128, 256, 512),
    decoder_ffn_embed_dim=(128, 256, 512),
    encoder_layer_num=3,
    decoder_layer_num=(1, 2, 3),
    encoder_self_attention_heads=(2, 4),
    decoder_self_attention_heads=(2, 4),
    decoder_ende_attention_heads=(2, 4),
    qkv_dim=128,
    source_vocabulary=4000,
    target_vocabulary=4000,
    max_positions=128,
    source_length=16,
    target_length=16,
    dropout=0.1,
)
"""A small net that trains on two cores, for the short sentences of Multi30k."""

_HAT = "https://www.dropbox.com/s/"

HATS = dict(
    [
        network(
            "transformer_lt_wmt_en_de",
            WMT_EN_DE,
            "hat",
            "HAT transformer, WMT'14 English-German (Wang et al., 2020)",
            task="translation",
            metrics=("bleu",),
            weights=_HAT + "pkdddxvvpw9a4vq/HAT_wmt14ende_super_space0.pt?dl=1",
        ),
        network(
            "hat_iwslt_de_en",
            IWSLT_DE_EN,
            "hat",
            "HAT transformer, IWSLT'14 German-English (Wang et al., 2020)",
            task="translation",
            metrics=("bleu",),
            weights=_HAT + "yv0mn8ns36gxkhs/HAT_iwslt14deen_super_space1.pt?dl=1",
        ),
        network(
            "multi30k_hat",
            MULTI30K,
            "hat",
            "small HAT transformer for Multi30k, German-English",
            task="translation",
            metrics=("bleu",),
            dataset="multi30k",
        ),
    ]
)
"""The registry's entries of this family."""
