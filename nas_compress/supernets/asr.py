"""Transformer super-networks for speech recognition, with a CTC output on the encoder.

Source: the published configuration of DE-NAS's speech recognition; see `asr_config`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any, cast

from numpy import float64, int64
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_compress.elastic import ElasticEmbedding, ElasticLayerNorm, ElasticLinear, ElasticPreNormLayer
from nas_compress.space import Architecture, SearchSpace
from nas_compress.supernets.asr_blocks import asr_blocks, example_utterances
from nas_compress.supernets.asr_config import AsrConfig
from nas_compress.supernets.asr_cost import AsrCost
from nas_compress.supernets.asr_layers import (
    ElasticDecoderLayer,
    SpeechFront,
    TokenEmbedding,
    encoder_layer,
    speech_front,
    within,
)
from nas_compress.supernets.base import Block, Cost, Supernet
from nas_compress.supernets.randomness import seeded


def encoded_lengths(lengths: Tensor) -> Tensor:
    """Return the frames that the encoder makes of so many frames of features, both of shape (N,)."""
    return (lengths + 3) // 4


class SpeechRecognizer(nn.Module):
    """An encoder with a CTC output, and a decoder that attends to it; of plain or of elastic layers.

    Args:
        front: Features to the encoder's inputs.
        layers: Encoder layers.
        norm: Normalises the last one's outputs.
        ctc: Linear layer from them to the tokens.
        embedding: Tokens to the decoder's inputs.
        decoder_layers: Decoder layers.
        output: Normalisation and linear layer from the last one's outputs to the tokens.
    """

    def __init__(
        self,
        front: SpeechFront,
        layers: nn.ModuleList,
        norm: nn.Module,
        ctc: nn.Module,
        embedding: TokenEmbedding,
        decoder_layers: nn.ModuleList,
        output: nn.Sequential,
    ) -> None:
        super().__init__()
        self.front, self.layers, self.norm, self.ctc = front, layers, norm, ctc
        self.embedding, self.decoder_layers, self.output = embedding, decoder_layers, output
        self.depth = len(layers)

    def encode(self, features: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return the encoder's outputs (N, T / 4, d), their mask, and CTC log-probabilities (N, T / 4, V).

        Args:
            features: Log-mel features, shape (N, T, mels).
            lengths: Frames of each utterance before padding, shape (N,); all T by default.

        Returns:
            The mask is True where there is no padding, of shape (N, 1, 1, T / 4); None without lengths. What the
            outputs hold where there is padding means nothing.
        """
        x = self.front(features, lengths)
        mask = None if lengths is None else within(encoded_lengths(lengths), x.shape[1])[:, None, None]
        for layer in self.layers[: self.depth]:
            x = layer(x, mask)
        memory = self.norm(x)
        return memory, mask, self.ctc(memory).log_softmax(2)

    def decode(self, tokens: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return logits (N, U, V) of the tokens after each of `tokens` (N, U); see `encode` for the rest."""
        x = self.embedding(tokens)
        for layer in self.decoder_layers:
            x = layer(x, memory, mask)
        return cast(Tensor, self.output(x))

    def forward(self, features: Tensor, tokens: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return CTC log-probabilities (N, T / 4, V) and the decoder's logits (N, U, V).

        Args:
            features: Log-mel features, shape (N, T, mels), padded with anything.
            tokens: `BEGIN`, then the tokens before each that is asked for, shape (N, U), padded with anything.
            lengths: Frames of each utterance before padding, shape (N,); all T by default.
        """
        memory, mask, log_probabilities = self.encode(features, lengths)
        return log_probabilities, self.decode(tokens, memory, mask)


class AsrSupernet(Supernet):
    """The super-network over depth, heads and feed-forward widths of the encoder, and the width of all layers.

    The first layers of the encoder are kept, and the leading features. As the heads share out all of a layer's
    features, head 2 of 3 is not head 2 of 4: what is shared between numbers of heads are the linear layers.

    Args:
        name: The name in records.
        config: Sizes and choices.
        seed: Seed of the initial weights; None draws them from torch's global generator.

    Attributes:
        recognizer: The layers; within `activate`, its `encode` and `decode` are those of the active sub-network.
    """

    def __init__(self, name: str, config: AsrConfig, seed: int | None = None) -> None:
        super().__init__()
        self.name = name
        self.config = config
        self.space = config.space(name)
        self._cost = AsrCost(config)
        with seeded(seed):
            self.recognizer = _recognizer(config)

    def _layers(self, architecture: Architecture) -> Iterator[tuple[int, int]]:
        """Yield hidden width and heads of the encoder layers of an architecture."""
        width, depth = int(architecture["embed_dim"][0]), int(architecture["depth"][0])
        for ratio, heads in zip(architecture["mlp_ratio"][:depth], architecture["num_heads"], strict=False):
            yield self.config.hidden(width, float(ratio)), int(heads)

    def _configure(self, architecture: Architecture) -> None:
        net, width = self.recognizer, int(architecture["embed_dim"][0])
        net.depth = int(architecture["depth"][0])
        cast(ElasticLinear, net.front.project).active_out = width
        for layer, (hidden, heads) in zip(net.layers, self._layers(architecture), strict=False):
            cast(ElasticPreNormLayer, layer).set_active(width, width, heads, hidden)
        for layer in net.decoder_layers:
            cast(ElasticDecoderLayer, layer).set_active(width)
        for norm in (net.norm, net.output[0]):
            cast(ElasticLayerNorm, norm).active_features = width
        for linear in (net.ctc, net.output[1]):
            cast(ElasticLinear, linear).active_in = width
        cast(ElasticEmbedding, net.embedding.embedding).active_dim = width

    def forward(self, features: Tensor, tokens: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return what the active sub-network computes; see `SpeechRecognizer.forward`."""
        return cast(tuple[Tensor, Tensor], self.recognizer(features, tokens, lengths))

    def extract(self, architecture: Architecture) -> SpeechRecognizer:
        """Return the sub-network as a `SpeechRecognizer` of plain layers; see the base class."""
        with self.activate(architecture):
            net = self.recognizer
            norm, ctc = cast(ElasticLayerNorm, net.norm), cast(ElasticLinear, net.ctc)
            return (
                SpeechRecognizer(
                    net.front.extract(),
                    _extract_all(net.layers[: net.depth]),
                    norm.extract(),
                    ctc.extract(),
                    net.embedding.extract(),
                    _extract_all(net.decoder_layers),
                    nn.Sequential(*_extract_all(net.output)),
                )
                .cpu()
                .eval()
            )

    def sort_by_importance(self) -> None:
        """Reorder the hidden features of the encoder's feed-forward parts; see the base class.

        Features are shared by all layers, and heads share them out anew for each number of heads: their order is kept.
        """
        for layer in self.recognizer.layers:
            cast(ElasticPreNormLayer, layer).feed_forward.sort_hidden()

    def example_input(self, batch: int = 1, architecture: Architecture | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return features, tokens and lengths of the configured example, standard normal, without padding."""
        return example_utterances(self.config, batch)

    def encoded_cost(self, cost: Cost, space: SearchSpace, encoded: NDArray[int64]) -> NDArray[float64]:
        """Return the costs of many architectures, MACs of the configured example utterance; see the base class."""
        macs, params = self._cost.costs(space, encoded)
        return macs if cost == "macs" else params

    def encoded_layers(self, space: SearchSpace, encoded: NDArray[int64]) -> NDArray[float64]:
        """Return the layers of many architectures, the decoder's included; see the base class."""
        return self.config.decoder_layers + space.values(encoded)["depth"][:, 0]

    def blocks(self, architecture: Architecture) -> list[Block]:
        """Return front, encoder layers, norm, CTC output, embedding, decoder layers, output; see the base class.

        Those of layers are given a mask of shape (N, 1, 1, T / 4), as in the sub-network.
        """
        self.space.validate(architecture)
        return asr_blocks(self.config, list(self._layers(architecture)), int(architecture["embed_dim"][0]))

    def describe(self) -> dict[str, Any]:
        """Return the configuration as plain data."""
        return {"family": "asr", "name": self.name, **asdict(self.config)}


def _recognizer(c: AsrConfig) -> SpeechRecognizer:
    """Return the elastic layers of the largest sub-network, with new weights."""
    width, hidden, heads = max(c.widths), c.hidden(max(c.widths), max(c.mlp_ratios)), max(c.heads)
    layers = [encoder_layer(width, hidden, heads, c.dropout) for _ in range(max(c.depths))]
    decoder = [
        ElasticDecoderLayer(width, c.decoder_hidden, c.decoder_heads, c.dropout) for _ in range(c.decoder_layers)
    ]
    net = SpeechRecognizer(
        speech_front(c, width),
        nn.ModuleList(layers),
        ElasticLayerNorm(width),
        ElasticLinear(width, c.vocabulary),
        TokenEmbedding(ElasticEmbedding(c.vocabulary, width), width, c.dropout),
        nn.ModuleList(decoder),
        nn.Sequential(ElasticLayerNorm(width), ElasticLinear(width, c.vocabulary)),
    )
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=width**-0.5)
    return net


def _extract_all(layers: nn.ModuleList | nn.Sequential) -> nn.ModuleList:
    return nn.ModuleList(cast(Any, layer).extract() for layer in layers)


def build(name: str, config: AsrConfig, num_classes: int | None = None, seed: int | None = None) -> AsrSupernet:
    """Return a super-network of a registered configuration.

    Args:
        name: The name in records.
        config: Sizes and choices.
        num_classes: Size of the vocabulary, in place of the configuration's.
        seed: Seed of the initial weights.
    """
    if num_classes is not None:
        config = replace(config, vocabulary=num_classes)
    return AsrSupernet(name, config, seed)
