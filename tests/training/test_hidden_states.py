"""Distillation of hidden states and attention: between nets of any sizes, whatever the padding, as a first phase."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.data.text import TextData, TextSplit
from nas_compress.data.tokenizer import Tokens
from nas_compress.errors import ConfigError
from nas_compress.space import Architecture
from nas_compress.supernets.bert import build
from nas_compress.supernets.bert_config import TINY_BERT
from nas_compress.training.config import DistillConfig
from nas_compress.training.features import token_layers
from nas_compress.training.hidden_states import attention_distance, compared_hidden_states, hidden_distance
from nas_compress.training.trainer import finetune

CONFIG = replace(TINY_BERT, vocabulary=60, layers=(1, 2, 3), heads=(1, 2), intermediate=(32, 64), hidden=(16, 32))


def bert(seed: int = 0, **genes: int) -> nn.Module:
    """A net of `layers` layers, of the given sizes; others are the largest."""
    net = build("net", CONFIG, seed=seed)
    largest = dict(net.space.largest())
    largest |= {name: (value,) * len(largest[name]) for name, value in genes.items()}
    return net.extract(net.space.canonicalize(Architecture(largest)))


def word_pieces(n: int = 4, length: int = 10, padding: int = 0) -> Tokens:
    ids = torch.randint(10, 60, (n, length), generator=torch.Generator().manual_seed(3))
    mask = F.pad(torch.ones_like(ids), (0, padding))
    return F.pad(ids, (0, padding)), mask, torch.zeros_like(mask)


def loss_between(student: nn.Module, teacher: nn.Module, tokens: Tokens) -> Tensor:
    with compared_hidden_states(student, teacher, tokens) as loss:
        teacher(*tokens)
        student(*tokens)
        return loss()


def test_distances_are_the_published_ones_on_what_is_no_padding() -> None:
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (torch.randn(2, 3, 4, generator=generator) for _ in range(2))
    kept = torch.tensor([[True, True, True], [True, False, False]])
    rows = [(0, 0), (0, 1), (0, 2), (1, 0)]
    expected = sum(float(F.mse_loss(ours[row], theirs[row])) for row in rows) / 4
    assert float(hidden_distance(ours, theirs, kept)) == pytest.approx(expected, rel=1e-5)
    wide = torch.cat([theirs, 2 * theirs], dim=2)  # the same angles
    assert float(hidden_distance(theirs, wide, kept)) == pytest.approx(0, abs=1e-6)
    assert float(hidden_distance(ours, wide, kept)) > 0.01

    maps = [torch.randn(2, 3, 3, generator=generator).masked_fill(~kept[:, None], -torch.inf).softmax(2) for _ in "ab"]
    divergences = [F.kl_div(maps[0][row][: n].log(), maps[1][row][: n], reduction="sum") for row, n in
                   (((0, 0), 3), ((0, 1), 3), ((0, 2), 3), ((1, 0), 1))]  # fmt: skip
    assert float(attention_distance(*maps, kept)) == pytest.approx(float(sum(divergences)) / 4, rel=1e-5)
    assert float(attention_distance(maps[0], maps[0], kept)) == pytest.approx(0, abs=1e-6)


def test_the_attention_that_is_compared_is_the_nets_own() -> None:
    """A net of one layer, its teacher with other keys: the distance of hidden states and attention, computed apart."""
    student, teacher = bert(num_layers=1), bert(seed=1, num_layers=1)
    tokens = word_pieces(padding=3)

    def apart(net: nn.Module) -> tuple[Tensor, Tensor]:
        x = net.embeddings(tokens[0], tokens[2])
        inner = net.layers[0].attention.inner
        queries, keys = inner.query(x), inner.key(x)
        maps = []
        for head in range(2):
            part = slice(16 * head, 16 * head + 16)
            scores = queries[..., part] @ keys[..., part].mT / 4
            maps.append(scores.masked_fill(tokens[1][:, None] == 0, -torch.inf).softmax(2))
        bias = (1.0 - tokens[1][:, None, None]) * -10_000
        return net.layers[0](x, bias), torch.stack(maps).mean(0)

    with torch.no_grad():
        (x, a), (y, b) = apart(student), apart(teacher)
        kept = tokens[1].bool()
        expected = hidden_distance(x, y, kept) + attention_distance(a, b, kept)
        torch.testing.assert_close(loss_between(student, teacher, tokens), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("genes", [{}, {"num_layers": 2}, {"num_attention_heads": 1, "intermediate_size": 32},
                                   {"hidden_size": 16, "num_layers": 1}])  # fmt: skip
def test_any_sub_network_learns_from_the_largest_whatever_the_padding(genes: dict[str, int]) -> None:
    student, teacher = bert(**genes), bert()
    with torch.no_grad():
        bare, padded = (loss_between(student, teacher, word_pieces(padding=padding)) for padding in (0, 5))
    torch.testing.assert_close(bare, padded, rtol=1e-4, atol=1e-6)
    assert (float(bare) < 1e-6) == (not genes)
    if genes:
        loss_between(student, teacher, word_pieces()).backward()
        assert all(p.grad is None for p in teacher.parameters())
        assert all(p.grad is not None for p in student.layers.parameters())
        assert all(p.grad is None for p in student.head.parameters())


def test_layers_learn_from_those_at_equal_distances() -> None:
    student, teacher = bert(num_layers=2), bert()
    tokens = word_pieces()
    assert token_layers(student, tokens) == list(student.layers)
    with torch.no_grad():
        before = loss_between(student, teacher, tokens)
        for last in teacher.layers[2].parameters():  # the third, which the student's second learns from
            last.add_(0.1)
        assert loss_between(student, teacher, tokens) > before
    assert not any(part._forward_hooks for net in (student, teacher) for part in net.modules())


def test_a_net_without_layers_of_tokens_is_refused() -> None:
    with pytest.raises(ConfigError, match="features: no stages found in Bert: .*; set features to 0"):
        net = bert()
        net.layers = nn.ModuleList()
        with compared_hidden_states(net, bert(), word_pieces()):
            pass


def test_features_come_first_then_logits() -> None:
    ids, mask, types = word_pieces(64)
    split = TextSplit((ids, mask, types), ids[:, 1] % 2)
    data = TextData("parity", split, split, split, ("even", "odd"), 10, 60, "0")
    student, teacher = bert(num_layers=2), bert()
    head = {key: value.clone() for key, value in student.head.state_dict().items()}
    short = {"batch_size": 32, "optimizer": "adamw", "lr": 2e-3, "warmup_epochs": 0.5, "weight_decay": 0.0, "curve": 0}
    seen: list[dict[str, Tensor]] = []

    def progress(state) -> None:
        if (state.epoch, state.step) == (8, 2):
            seen.append({key: value.clone() for key, value in student.head.state_dict().items()})

    config = DistillConfig(feature_epochs=8, epochs=2, **short)
    log = finetune(student, data, config=config, teacher=teacher, progress=progress)
    assert [entry.stage for entry in log] == ["features"] * 8 + [""] * 2
    assert log[7].loss < 0.8 * log[0].loss
    assert all(torch.equal(value, head[key]) for key, value in seen[0].items())  # features teach no head
    assert any(not torch.equal(value, head[key]) for key, value in student.head.state_dict().items())
    together = finetune(
        bert(num_layers=2), data, config=DistillConfig(epochs=1, features=1.0, **short), teacher=teacher
    )
    alone = finetune(bert(num_layers=2), data, config=DistillConfig(epochs=1, **short), teacher=teacher)
    assert together[0].loss > alone[0].loss + 0.5 * log[0].loss
