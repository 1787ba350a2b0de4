"""Training of translation networks: all algorithms learn, runs resume bit for bit, padding counts for nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.data.translation import TranslationData, TranslationSplit
from nas_compress.data.vocabulary import EOS, PAD, SPECIALS, FairseqDictionary
from nas_compress.errors import ConfigError, DataError
from nas_compress.supernets.hat import HATSupernet
from nas_compress.supernets.hat_config import HATConfig
from nas_compress.training.config import Algorithm, DistillConfig, FinetuneConfig, SupernetTrainConfig
from nas_compress.training.curve import score
from nas_compress.training.trainer import TrainProgress, finetune, train_supernet
from nas_compress.training.translation import TranslationBatch, TranslationExamples

CPU = torch.device("cpu")
WORDS = 12
"""Words of a toy language; a translation begins with the first word of the source, then words follow in their order."""

ADAM: dict[str, Any] = {
    "optimizer": "adamw",
    "lr": 1e-2,
    "betas": (0.9, 0.98),
    "max_norm": 5.0,
    "warmup_epochs": 1,
    "batch_size": 10,
}
ALGORITHMS: tuple[Algorithm, ...] = ("sandwich", "single_path", "progressive_shrinking")


class _CrashError(Exception):
    """Stands for a crash."""


def _crash_at(epoch: int, step: int) -> Callable[[TrainProgress], None]:
    def progress(state: TrainProgress) -> None:
        if (state.epoch, state.step) == (epoch, step):
            raise _CrashError

    return progress


def _split(rows: int, seed: int) -> TranslationSplit:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 5, (rows,), generator=generator).tolist()
    first = len(SPECIALS)
    sources = [torch.randint(first, first + WORDS, (n,), generator=generator).tolist() for n in lengths]
    targets = [
        [first + (row[0] - first + place) % WORDS for place in range(n)]
        for row, n in zip(sources, lengths, strict=True)
    ]
    return TranslationSplit([[*r, EOS] for r in sources], [[*r, EOS] for r in targets], [""] * rows)


@pytest.fixture(scope="module")
def data() -> TranslationData:
    vocabulary = FairseqDictionary(f"w{i}" for i in range(WORDS))
    parts = {"train": _split(208, 0), "val": _split(40, 1), "test": _split(10, 2)}
    return TranslationData(
        "toy", **parts, source_vocabulary=vocabulary, target_vocabulary=vocabulary,
        languages=("a", "b"), fingerprint="0",
    )  # fmt: skip


def _net(dropout: float = 0.0) -> HATSupernet:
    config = HATConfig(
        encoder_embed_dim=(24, 32), decoder_embed_dim=(24, 32), encoder_ffn_embed_dim=(24, 32),
        decoder_ffn_embed_dim=(24, 32), encoder_layer_num=2, decoder_layer_num=(1, 2),
        encoder_self_attention_heads=(2, 4), decoder_self_attention_heads=(2, 4),
        decoder_ende_attention_heads=(2, 4), decoder_arbitrary_ende_attn=(-1, 1), qkv_dim=16,
        source_vocabulary=len(SPECIALS) + WORDS, target_vocabulary=len(SPECIALS) + WORDS, max_positions=16,
        source_length=4, target_length=4, dropout=dropout,
    )  # fmt: skip
    return HATSupernet("toy", config, seed=0)


def _options(algorithm: Algorithm, epochs: int) -> dict[str, Any]:
    """Return options of a short training: progressive shrinking in two stages, from the largest network to all."""
    if algorithm != "progressive_shrinking":
        return {"algorithm": algorithm, "epochs": epochs, "subnets_per_step": 2, **ADAM}
    elastic = {d.name: None for d in _net().space.dimensions}
    last = {"elastic": elastic, "epochs": epochs // 2, "subnets_per_step": 2, "sort": True}
    options = {key: value for key, value in ADAM.items() if key != "warmup_epochs"}
    return {"algorithm": algorithm, "stages": [{"epochs": epochs // 2, "warmup_epochs": 1}, last], **options}


def _equal(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_supernets_learn(data: TranslationData, algorithm: Algorithm) -> None:
    net = _net()
    entries = train_supernet(net, data, SupernetTrainConfig(**_options(algorithm, epochs=8), curve=40))
    assert entries[0].accuracy < 35 and entries[-1].loss < 0.8 * entries[0].loss
    assert set(entries[-1].curve) == {"largest", "random", "smallest"}
    # Of about four tokens, the first is told by the source, the next two by those before.
    assert entries[-1].curve["largest"] > 50 and entries[-1].curve["smallest"] > 40


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_interrupted_training_ends_bit_for_bit_as_an_uninterrupted_one(
    data: TranslationData, tmp_path: Path, algorithm: Algorithm
) -> None:
    config = SupernetTrainConfig(**{**_options(algorithm, epochs=4), "batch_size": 40}, ema=0.9, curve=0)
    straight, resumed = _net(dropout=0.2), _net(dropout=0.2)
    entries = train_supernet(straight, data, config)
    for epoch, step in ((2, 3), (4, 1)):
        with pytest.raises(_CrashError):
            train_supernet(resumed, data, config, checkpoint_dir=tmp_path, progress=_crash_at(epoch, step))
        resumed = _net(dropout=0.2)
    assert train_supernet(resumed, data, config, checkpoint_dir=tmp_path) == entries
    assert _equal(straight, resumed)


def test_subnets_learn_from_labels_and_from_a_teacher(data: TranslationData, tmp_path: Path) -> None:
    net = _net(dropout=0.1)
    teacher = net.extract(net.space.largest())
    finetune(teacher, data, config=FinetuneConfig(epochs=5, curve=0, **ADAM))
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    config = DistillConfig(epochs=5, distillation=0.7, temperature=2.0, curve=40, **ADAM)
    subnet, resumed = net.extract(net.space.smallest()), net.extract(net.space.smallest())
    entries = finetune(subnet, data, config=config, teacher=teacher)
    assert entries[-1].curve["network"] > 45 > entries[0].curve["network"]
    with pytest.raises(_CrashError):
        finetune(resumed, data, config=config, teacher=teacher, checkpoint_dir=tmp_path, progress=_crash_at(3, 2))
    resumed = net.extract(net.space.smallest())
    finetune(resumed, data, config=config, teacher=teacher, checkpoint_dir=tmp_path)
    assert _equal(subnet, resumed)
    assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())


def test_rows_are_the_tokens_that_are_no_padding(data: TranslationData) -> None:
    net = _net()
    subnet = net.extract(net.space.largest())
    indices = torch.arange(8)
    batch = TranslationExamples(data, "fp32").batch(indices, None, CPU)
    assert batch.labels.tolist() == [token for row in data.train.targets[:8] for token in row]
    with torch.no_grad():
        logits = batch.answers(subnet, None).logits
        # One sentence alone has no padding at all.
        alone = [_logits(subnet, data, i) for i in indices.tolist()]
        loss = batch.loss(batch.answers(subnet, None), None, FinetuneConfig(label_smoothing=0.1))
    assert torch.allclose(logits, torch.cat(alone), atol=1e-5)
    expected = F.cross_entropy(torch.cat(alone), batch.labels, label_smoothing=0.1)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert batch.right(batch.answers(subnet, None)) == int((torch.cat(alone).argmax(1) == batch.labels).sum())


def _logits(subnet: nn.Module, data: TranslationData, i: int) -> Tensor:
    source, target = (torch.tensor([rows[i]]) for rows in (data.train.sources, data.train.targets))
    logits: Tensor = subnet(source, torch.cat((torch.tensor([[EOS]]), target[:, :-1]), 1))[0]
    return logits


def test_more_padding_changes_nothing(data: TranslationData) -> None:
    net = _net()
    sentences = data.train.batch(torch.arange(6))
    wider = type(sentences)(*(F.pad(tokens, (0, 3), value=PAD) for tokens in sentences))
    gradients = []
    for some in (sentences, wider):
        net.zero_grad()
        batch = TranslationBatch(some, "fp32", CPU)
        batch.loss(batch.answers(net, None), None, FinetuneConfig()).backward()  # type: ignore[no-untyped-call]
        gradients.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*gradients, strict=True))


def test_steps_hold_sentences_of_like_lengths_each_at_most_once(data: TranslationData) -> None:
    examples = TranslationExamples(data, "fp32")
    steps = examples.order(20, torch.Generator().manual_seed(0))
    numbers = [i for step in steps for i in step.tolist()]
    assert len(steps) == 10 and len(set(numbers)) == len(numbers) == 200
    lengths = [torch.tensor([len(data.train.sources[i]) for i in step.tolist()]) for step in steps]
    assert sum(int(n.max() - n.min()) for n in lengths) <= len(steps)


def test_bf16_learns_too(data: TranslationData) -> None:
    net = _net()
    subnet = net.extract(net.space.largest())
    finetune(subnet, data, config=FinetuneConfig(epochs=5, precision="bf16", curve=0, **ADAM))
    assert score(subnet, TranslationExamples(data, "fp32"), 40, None) > 50


def test_wrong_uses(data: TranslationData) -> None:
    net = HATSupernet("other", HATConfig(encoder_layer_num=3, source_vocabulary=99, target_vocabulary=99), seed=0)
    with pytest.raises(DataError, match="16 source tokens, the net has 99"):
        train_supernet(net, data, SupernetTrainConfig(epochs=1))
    longest = max(map(len, (*data.train.sources, *data.train.targets)))
    sizes: dict[str, Any] = {"source_vocabulary": 16, "target_vocabulary": 16, "source_length": 2, "target_length": 2}
    short = HATSupernet("short", HATConfig(encoder_layer_num=3, max_positions=longest - 1, **sizes), seed=0)
    with pytest.raises(DataError, match=f"a training sentence of {longest} tokens, the net takes {longest - 1}; leave"):
        train_supernet(short, data, SupernetTrainConfig(epochs=1))
    with pytest.raises(ConfigError, match="must be a module"):
        subnet = _net().extract(_net().space.largest())
        finetune(subnet, data, config=DistillConfig(epochs=1, **ADAM), teacher=lambda images: images)


@pytest.mark.parametrize(("part", "name"), [("val", "validation"), ("test", "test")])
def test_sentences_longer_than_the_net_takes_are_refused_in_every_part(
    data: TranslationData, part: str, name: str
) -> None:
    """They would end the training, or the search, when they are measured on."""
    split, limit = getattr(data, part), max(map(len, (*data.train.sources, *data.train.targets)))
    long = [[*split.sources[0][:-1], *[len(SPECIALS)] * limit, EOS], *split.sources[1:]]
    changed = replace(data, **{part: TranslationSplit(long, split.targets, split.references)})
    sizes: dict[str, Any] = {"source_vocabulary": 16, "target_vocabulary": 16, "source_length": 2, "target_length": 2}
    net = HATSupernet("short", HATConfig(encoder_layer_num=3, max_positions=limit, **sizes), seed=0)
    message = rf"a {name} sentence of {len(long[0])} tokens, the net takes {limit}; .*out of its files, or take a net"
    with pytest.raises(DataError, match=message):
        train_supernet(net, changed, SupernetTrainConfig(epochs=1))
    subnet, wide = (each.extract(each.space.largest()) for each in (net, _net()))
    for network, teacher in ((subnet, None), (wide, subnet)):
        with pytest.raises(DataError, match=message):
            finetune(network, changed, teacher=teacher)


def test_sub_networks_of_other_data_are_refused(data: TranslationData) -> None:
    subnet, more = _net().extract(_net().space.largest()), FairseqDictionary(f"w{i}" for i in range(WORDS + 1))
    with pytest.raises(DataError, match="has 17 target tokens, the net has 16"):
        finetune(subnet, replace(data, target_vocabulary=more))
