"""The configurations of speech recognizers, without torch.

Source: the published configuration of DE-NAS's speech recognition: a Transformer encoder and decoder (Vaswani et al.,
2017, "Attention Is All You Need") with a CTC output on the encoder (Watanabe et al., 2017, "Hybrid CTC/Attention
Architecture for End-to-End Speech Recognition").
"""

from __future__ import annotations

from dataclasses import dataclass

from nas_compress.errors import ConfigError
from nas_compress.space import Dimension, SearchSpace, depth_conditions
from nas_compress.supernets.entry import network

BLANK, BEGIN, END = 0, 1, 2
"""Indices of the tokens that stand for no text: CTC's blank (also padding), the begin and the end of a sentence."""


@dataclass(frozen=True)
class AsrConfig:
    """Everything that makes one net of this family; the defaults are DE-NAS's.

    The width of all heads together is that of the layer (`embed_dim`), as published, so that the number of heads
    changes the time that a layer takes, but neither its parameters nor its MACs. All widths are multiples of all
    numbers of heads.

    Attributes:
        mels: Mel bands of the features.
        vocabulary: Number of tokens, those that stand for no text (`BLANK`, `BEGIN`, `END`) included.
        conv_channels: Channels of the two convolutions of stride 2 in front.
        conv_kernel: Their kernel size.
        depths: Elastic numbers of encoder layers.
        mlp_ratios: Elastic hidden widths of an encoder layer's feed-forward part, in multiples of `embed_dim`.
        heads: Elastic numbers of an encoder layer's heads.
        widths: Elastic `embed_dim`: the features of all layers, the decoder's included.
        decoder_layers: Number of decoder layers.
        decoder_heads: Their heads.
        decoder_hidden: Hidden width of their feed-forward parts.
        dropout: Probability of dropping a feature in training.
        frames: Frames of the utterance that MACs and latency are for (of 10 ms each, as a rule).
        tokens: Tokens of its transcript that the decoder is given.

    Raises:
        ConfigError: A value is out of range, or a width is not a multiple of a number of heads.
    """

    mels: int = 80
    vocabulary: int = 5000
    conv_channels: int = 64
    conv_kernel: int = 5
    depths: tuple[int, ...] = tuple(range(5, 13))
    mlp_ratios: tuple[float, ...] = (3, 3.5, 4, 4.5, 5)
    heads: tuple[int, ...] = (2, 3, 4)
    widths: tuple[int, ...] = (192, 216, 240, 324, 384, 444)
    decoder_layers: int = 6
    decoder_heads: int = 4
    decoder_hidden: int = 2048
    dropout: float = 0.1
    frames: int = 1000
    tokens: int = 50

    def __post_init__(self) -> None:
        for name in ("depths", "mlp_ratios", "heads", "widths"):
            values = getattr(self, name)
            if not values:
                raise ConfigError(f"{name} is empty; wants at least one entry")
            if min(values) <= 0 or (name != "mlp_ratios" and min(values) < 1):
                raise ConfigError(f"{name} holds {min(values)}; wants more than 0")
        names = ("mels", "conv_channels", "conv_kernel", "decoder_layers", "decoder_heads", "decoder_hidden")
        for name in (*names, "frames", "tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)}; wants at least 1")
        if self.conv_kernel % 2 == 0:
            raise ConfigError(f"conv_kernel = {self.conv_kernel}; wants an odd number")
        if self.vocabulary <= END + 1:
            raise ConfigError(f"vocabulary = {self.vocabulary}; wants at least {END + 2}: one token besides {END + 1}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout = {self.dropout}; wants at least 0 and less than 1")
        for width in self.widths:
            for heads in (*self.heads, self.decoder_heads):
                if width % heads:
                    raise ConfigError(f"widths holds {width}, which is not a multiple of {heads} heads")

    def space(self, name: str) -> SearchSpace:
        """Return the search space: `depth`, `mlp_ratio` and `num_heads` of each encoder layer, `embed_dim`."""
        most = max(self.depths)
        dimensions = (
            Dimension.uniform("depth", self.depths),
            Dimension.uniform("mlp_ratio", self.mlp_ratios, most),
            Dimension.uniform("num_heads", self.heads, most),
            Dimension.uniform("embed_dim", self.widths),
        )
        return SearchSpace(name, dimensions, depth_conditions("depth", ("mlp_ratio", "num_heads"), [most]))

    def hidden(self, width: int, mlp_ratio: float) -> int:
        """Return the hidden width of an encoder layer's feed-forward part."""
        return int(width * mlp_ratio)


DENAS_ASR = AsrConfig()
"""DE-NAS's space for LibriSpeech: 80 mel bands, 5,000 word pieces."""

FSDD_ASR = AsrConfig(
    mels=40,
    vocabulary=13,
    conv_channels=16,
    conv_kernel=3,
    depths=(2, 3, 4),
    mlp_ratios=(2, 3, 4),
    heads=(2, 3, 4),
    widths=(48, 72, 96),
    decoder_layers=1,
    decoder_heads=4,
    decoder_hidden=192,
    dropout=0.1,
    frames=44,
    tokens=2,
)
"""A small net for spoken digits, whose tokens are the ten words."""

ASRS = dict(
    [
        network(
            "denas_asr",
            DENAS_ASR,
            "asr",
            "DE-NAS's speech recognition: Transformer encoder and decoder with CTC, 80 mel bands",
            task="speech",
            metrics=("wer",),
            dataset="speech_folder",
        ),
        network(
            "fsdd_asr",
            FSDD_ASR,
            "asr",
            "small Transformer with CTC for spoken digits (Free Spoken Digit Dataset)",
            task="speech",
            metrics=("wer",),
            dataset="fsdd",
        ),
    ]
)
"""The registry's entries of this family."""
