"""BERT as a super-network: BERT-base in the published spaces, any Hugging Face BERT, and a small one.

Sources: Devlin et al., 2019, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding"; the
spaces of INC and DyNAS-T, and of DE-NAS.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_compress.elastic import by_importance, permute
from nas_compress.errors import CheckpointError, ConfigError
from nas_compress.space import Architecture, SearchSpace
from nas_compress.supernets import bert_cost
from nas_compress.supernets.base import Block, Cost, Supernet
from nas_compress.supernets.bert_config import BertConfig, Task
from nas_compress.supernets.bert_cost import BertSizes
from nas_compress.supernets.bert_layers import (
    ElasticAnswerHead,
    ElasticBertEmbeddings,
    ElasticBertLayer,
    ElasticClassificationHead,
    attention_bias,
)
from nas_compress.supernets.bert_published import HEADS, encoder_alone, published_key
from nas_compress.supernets.cut import part
from nas_compress.supernets.randomness import normal, seeded
from nas_compress.weights import load_into, read_state

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""Where a Hugging Face folder has the weights; the first one that is there counts."""


class Bert(nn.Module):
    """A BERT of plain layers.

    Args:
        embeddings: `BertEmbeddings`.
        layers: `BertLayer`s.
        head: `ClassificationHead` or `AnswerHead`.
    """

    def __init__(self, embeddings: nn.Module, layers: list[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.embeddings, self.layers, self.head = embeddings, nn.ModuleList(layers), head

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Map int64 (N, L) each to logits, shape (N, classes) or (N, L, 2)."""
        x = self.embeddings(input_ids, token_type_ids)
        bias = attention_bias(attention_mask, x.dtype)
        for layer in self.layers:
            x = layer(x, bias)
        return cast(Tensor, self.head(x))


class BertSupernet(Supernet):
    """The super-network over layers, heads, feed-forward features and, where it has a choice, the hidden size.

    Inputs are `(input_ids, attention_mask, token_type_ids)`, int64 of shape (N, L) each; outputs are logits, of shape
    (N, classes) for classification, (N, L, 2) (start and end of the answer) for question answering.

    Args:
        name: The name in records.
        config: Sizes, choices and task.
        seed: Seed of the initial weights; None draws them from torch's global generator.

    Attributes:
        config: As given.
        num_classes: Number of logits.
    """

    def __init__(self, name: str, config: BertConfig, seed: int | None = None) -> None:
        super().__init__()
        self.name = name
        self.config = config
        self.num_classes = config.num_classes
        self.space = config.space(name)
        with seeded(seed):
            self._build()

    def _build(self) -> None:
        c = self.config
        self.embeddings = ElasticBertEmbeddings(c)
        self.layers = nn.ModuleList(ElasticBertLayer(c) for _ in range(max(c.layers)))
        self.head = ElasticClassificationHead(c) if c.task == "classification" else ElasticAnswerHead(c)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        with torch.no_grad():
            self.embeddings.words.weight[c.padding].zero_()

    # -- sub-networks --------------------------------------------------------------------------------------

    def _sizes(self, architecture: Architecture) -> list[tuple[int, int, int]]:
        """Return hidden size, heads and feed-forward features of each layer."""
        c, layers = self.config, int(architecture["num_layers"][0])
        hidden = int(architecture["hidden_size"][0]) if "hidden_size" in architecture else c.hidden[0]
        genes = zip(architecture["num_attention_heads"], architecture["intermediate_size"], strict=True)
        sizes = [(hidden, int(heads), int(features)) for heads, features in genes]
        return sizes[:layers] if c.per_layer else sizes * layers

    def _configure(self, architecture: Architecture) -> None:
        sizes = self._sizes(architecture)
        self.embeddings.set_active(sizes[0][0])
        self.head.set_active(sizes[0][0])
        for layer, size in zip(self._active_layers(architecture), sizes, strict=True):
            layer.set_active(*size)

    def _active_layers(self, architecture: Architecture) -> list[ElasticBertLayer]:
        return [cast(ElasticBertLayer, layer) for layer in self.layers[: int(architecture["num_layers"][0])]]

    def hidden_states(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Return the last layer's features, shape (N, L, hidden), of int64 inputs (N, L) each."""
        x = self.embeddings(input_ids, token_type_ids)
        bias = attention_bias(attention_mask, x.dtype)
        for layer in self._active_layers(self._active):
            x = layer(x, bias)
        return cast(Tensor, x)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Map int64 (N, L) each to the logits of the active sub-network; see the class."""
        return cast(Tensor, self.head(self.hidden_states(input_ids, attention_mask, token_type_ids)))

    def extract(self, architecture: Architecture) -> nn.Module:
        """Return a `Bert`; see the base class."""
        with self.activate(architecture):
            layers = [layer.extract() for layer in self._active_layers(architecture)]
            return Bert(self.embeddings.extract(), [*layers], self.head.extract()).cpu().eval()

    def example_input(self, batch: int = 1, architecture: Architecture | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return sequences of random word pieces, of full length and one token type; see the base class."""
        shape = (batch, self.config.length)
        ids = torch.randint(self.config.vocabulary, shape, generator=torch.Generator().manual_seed(0))
        return ids, torch.ones_like(ids), torch.zeros_like(ids)

    def blocks(self, architecture: Architecture) -> list[Block]:
        """Return embeddings, attention and feed-forward part of every layer, head; see the base class.

        The embeddings take `(input_ids, token_type_ids)`, attention takes `(x, bias)` with the bias of
        `attention_bias`, all others take the block's before.
        """
        self.space.validate(architecture)
        return list(self._blocks(architecture))

    def _blocks(self, architecture: Architecture) -> Iterator[Block]:
        c, sizes = self.config, self._sizes(architecture)
        hidden = sizes[0][0]
        ends = f"hidden={hidden} length={c.length}"
        tables = f"vocabulary={c.vocabulary} positions={c.positions} segments={c.segments}"

        def features(batch: int) -> Tensor:
            return normal(batch, c.length, hidden)

        def features_and_bias(batch: int) -> tuple[Tensor, Tensor]:
            return features(batch), attention_bias(self.example_input(batch)[1], torch.float32)

        def tokens(batch: int) -> tuple[Tensor, Tensor]:
            input_ids, _, token_type_ids = self.example_input(batch)
            return input_ids, token_type_ids

        yield Block(f"bert_embeddings {tables} {ends}", part(self, architecture, self.embeddings), tokens)
        for layer, (_, heads, intermediate) in zip(self._active_layers(architecture), sizes, strict=True):
            key = f"bert_attention heads={heads} head_size={c.head_size} {ends}"
            yield Block(key, part(self, architecture, layer.attention), features_and_bias)
            key = f"bert_feed_forward features={intermediate} act={c.activation} {ends}"
            yield Block(key, part(self, architecture, layer.feed_forward), features)
        yield Block(f"bert_{c.task} classes={c.num_classes} {ends}", part(self, architecture, self.head), features)

    # -- importance ----------------------------------------------------------------------------------------

    def sort_by_importance(self) -> None:
        """Reorder heads and feed-forward features, and the hidden features where they are elastic.

        See the base class; a head's importance is the sum of its features'. Without training afterwards, heads are
        better ordered by `sort_by_sensitivity`.
        """
        self._sort([(None, None)] * len(self.layers))
        if len(self.config.hidden) > 1:
            self._sort_features()

    def sort_by_sensitivity(self, losses: Iterable[Tensor]) -> None:
        """Reorder heads and feed-forward features by how sensitive the loss is to the weights that read them.

        The importance of a weight w is |w dL/dw|, the first-order change of the loss L without it (Molchanov et al.,
        2019, "Importance Estimation for Neural Network Pruning", section 3), summed over the losses.

        Args:
            losses: Losses of the largest sub-network in evaluation mode, of a batch of training data each; best a
                generator, since each is used up before the next is drawn.

        Raises:
            ConfigError: There is no loss, or none that depends on the weights.
        """
        readers = [(layer.heads.out, layer.neurons.down) for layer in self._active_layers(self.space.largest())]
        weights = [linear.weight for pair in readers for linear in pair]
        sums = [torch.zeros_like(weight) for weight in weights]
        for loss in losses:
            for total, weight, gradient in zip(sums, weights, torch.autograd.grad(loss, weights), strict=True):
                total += (weight.detach() * gradient).abs()
        if not any(total.any() for total in sums):
            raise ConfigError("sort_by_sensitivity wants losses that depend on the weights; there is none")
        self._sort(list(zip(sums[::2], sums[1::2], strict=True)))

    def _sort(self, importance: Sequence[tuple[Tensor | None, Tensor | None]]) -> None:
        with self.activate(self.space.largest()):
            for layer, (of_heads, of_neurons) in zip(self.layers, importance, strict=True):
                cast(ElasticBertLayer, layer).heads.sort_heads(self.config.head_size, of_heads)
                cast(ElasticBertLayer, layer).neurons.sort_hidden(of_neurons)

    def _sort_features(self) -> None:
        layers = self._active_layers(self.space.largest())
        readers = [*(linear for layer in layers for linear in layer.readers()), self.head.reader()]
        order = by_importance(torch.cat([linear.weight for linear in readers]))
        for tensor, dim in chain(self.embeddings.channels(), *(layer.channels() for layer in layers)):
            permute([tensor], order, dim)
        permute([self.head.reader().weight], order, dim=1)
        if isinstance(self.head, ElasticClassificationHead):
            order = by_importance(self.head.out.weight)
            permute([self.head.pooler.weight, self.head.pooler.bias], order)
            permute([self.head.out.weight], order, dim=1)

    # -- weights -------------------------------------------------------------------------------------------

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the keys of a Hugging Face BERT, with or without `bert.` before them; see the base class.

        Heads of other tasks keep their names, so that loading refuses them (`load_encoder` drops them).
        """
        renamed = ((published_key(key, self.config.task), tensor) for key, tensor in state.items())
        return {key: tensor for key, tensor in renamed if key is not None}

    def check_head(self, state: Mapping[str, Tensor], source: str | Path) -> None:
        """Raise `CheckpointError` unless tensors in our names hold the head for the task."""
        task = self.config.task
        if not any(key.startswith("head.out.") for key in state):
            raise CheckpointError(
                f"{source} has no {HEADS[task]} (the head for {task}); from_folder(..., new_head=True) starts with a "
                "new one, and load_encoder takes all but the head"
            )

    def load_encoder(self, path: str | Path) -> None:
        """Load everything but the head, which stays as it is, from a checkpoint of a BERT with any head or none.

        The pooler of a classification net is loaded where the checkpoint has one.

        Raises:
            CheckpointError: The file cannot be read or is of another network.
        """
        encoder = encoder_alone(self.from_published(read_state(path)))
        head = {key: tensor for key, tensor in self.state_dict().items() if key.startswith("head.")}
        load_into(self, head | encoder, path)

    # -- cost ----------------------------------------------------------------------------------------------

    def encoded_cost(self, cost: Cost, space: SearchSpace, encoded: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the costs of many architectures, for sequences of `config.length` tokens; see the base class."""
        count = bert_cost.macs if cost == "macs" else bert_cost.params
        return count(self.config, BertSizes.of(self.config, space, encoded)).astype(np.float64)

    def encoded_layers(self, space: SearchSpace, encoded: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the layers of many architectures; see the base class."""
        return space.values(encoded)["num_layers"][:, 0]

    def describe(self) -> dict[str, Any]:
        """Return the configuration as plain data."""
        return {"family": "bert", "name": self.name, **asdict(self.config)}


def build(name: str, config: BertConfig, num_classes: int | None = None, seed: int | None = None) -> BertSupernet:
    """Return a super-network of a registered configuration, for any number of classes."""
    if num_classes is not None:
        config = replace(config, num_classes=num_classes)
    return BertSupernet(name, config, seed)


def from_folder(
    path: str | Path,
    task: Task = "classification",
    *,
    num_classes: int | None = None,
    new_head: bool = False,
    name: str | None = None,
    seed: int | None = None,
) -> BertSupernet:
    """Return a Hugging Face BERT on disk as a super-network with its weights, in evaluation mode.

    Args:
        path: A folder with `config.json` and `model.safetensors` or `pytorch_model.bin`.
        task: What the net is to do.
        num_classes: Number of classes; those of `config.json` by default.
        new_head: Whether to leave the head (classifier or span logits) at random weights: for checkpoints without one,
            or with one of another task. Otherwise the checkpoint must have it.
        name: The name in records; that of the folder by default.
        seed: Seed of the random weights.

    Raises:
        CheckpointError: A file is missing, damaged, or of another network; without `new_head`, the head is missing.
    """
    folder = Path(path)
    net = BertSupernet(name or folder.resolve().name, BertConfig.from_folder(folder, task, num_classes), seed)
    file = next((folder / each for each in WEIGHT_FILES if (folder / each).is_file()), None)
    if file is None:
        raise CheckpointError(f"{folder} has no {' or '.join(WEIGHT_FILES)}")
    if new_head:
        net.load_encoder(file)
        return net.eval()
    state = net.from_published(read_state(file))
    net.check_head(state, file)
    load_into(net, state, file)
    return net.eval()
