"""Training of speech recognizers: the hybrid loss, all algorithms, exact resume, padding that counts for nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.data import fsdd
from nas_compress.data.features import LogMel
from nas_compress.data.speech import SpeechData, SpeechSplit, Vocabulary
from nas_compress.errors import DataError, TrainingError
from nas_compress.objectives.speech import WordErrorRate
from nas_compress.supernets.asr import AsrSupernet, build
from nas_compress.supernets.asr_config import BLANK, FSDD_ASR, AsrConfig
from nas_compress.training.config import Algorithm, DistillConfig, FinetuneConfig, SupernetTrainConfig
from nas_compress.training.speech import SpeechBatch, SpeechExamples
from nas_compress.training.trainer import TrainProgress, finetune, train_supernet

CPU = torch.device("cpu")
TONES = Vocabulary(("low", "high"), " ")
CONFIG = AsrConfig(
    mels=10, vocabulary=5, conv_channels=4, conv_kernel=3, depths=(1, 2), mlp_ratios=(1, 2), heads=(2,),
    widths=(16, 24), decoder_layers=1, decoder_heads=2, decoder_hidden=16, dropout=0.0, frames=16, tokens=3,
)  # fmt: skip
DENAS: dict[str, Any] = {"optimizer": "adamw", "betas": (0.9, 0.98), "max_norm": 5.0, "ctc_weight": 0.3}
"""What DE-NAS trains speech with."""

SHORT: dict[str, Any] = {"lr": 5e-3, "warmup_epochs": 1, "batch_size": 8, "label_smoothing": 0.0, **DENAS}
ALGORITHMS: tuple[Algorithm, ...] = ("sandwich", "single_path", "progressive_shrinking")


class _CrashError(Exception):
    """Stands for a crash."""


def _crash_at(epoch: int, step: int) -> Callable[[TrainProgress], None]:
    def progress(state: TrainProgress) -> None:
        if (state.epoch, state.step) == (epoch, step):
            raise _CrashError

    return progress


def _tones(text: str) -> Tensor:
    """Return a tone for each word, 0.1 s each."""
    t = torch.arange(800) / 8_000
    return torch.cat([torch.sin(2 * math.pi * (400 if word == "low" else 1_500) * t) for word in text.split()])


@pytest.fixture(scope="module")
def data() -> SpeechData:
    texts = ["low high", "high low", "low", "high", "high high low", "low low high"] * 4
    features = LogMel(8_000, 10)

    def read(i: int) -> Tensor:
        waveform = _tones(texts[i])
        return waveform + 0.01 * torch.randn(waveform.shape, generator=torch.Generator().manual_seed(i))

    part = SpeechSplit(texts, read, features, TONES, keep=True)
    return SpeechData("tones", part, part, part, features, TONES, "0")


def _net(dropout: float = 0.0) -> AsrSupernet:
    return AsrSupernet("net", AsrConfig(**{**vars(CONFIG), "dropout": dropout}), seed=0)


def _options(algorithm: Algorithm, epochs: int) -> dict[str, Any]:
    """Return options of a short training: progressive shrinking in two stages, from the largest network to all."""
    if algorithm != "progressive_shrinking":
        return {"algorithm": algorithm, "epochs": epochs, "subnets_per_step": 3, **SHORT}
    last = {"elastic": {d.name: None for d in _net().space.dimensions}, "epochs": epochs // 2, "subnets_per_step": 2}
    options = {key: value for key, value in SHORT.items() if key != "warmup_epochs"}
    return {"algorithm": algorithm, "stages": [{"epochs": epochs // 2, "warmup_epochs": 1}, last], **options}


def _equal(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def _loss(net: nn.Module, data: SpeechData, ctc_weight: float = 0.3) -> float:
    batch = SpeechExamples(data, "fp32").batch(torch.arange(6), None, CPU)
    with torch.no_grad():
        options = FinetuneConfig(ctc_weight=ctc_weight, label_smoothing=0.0)
        return float(batch.loss(batch.answers(net, None), None, options))


def test_the_loss_is_the_weighted_sum_of_both(data: SpeechData) -> None:
    net = _net().eval()
    utterances = data.train.batch([0, 2, 4])
    batch = SpeechBatch(utterances, "fp32", CPU)
    with torch.no_grad():
        log_probabilities, logits = net(utterances.features, utterances.previous, utterances.lengths)
        answers = batch.answers(net, None)
        losses = [batch.loss(answers, None, FinetuneConfig(ctc_weight=w, label_smoothing=0.1)) for w in (1, 0, 0.3)]
    ctc, attention, both = map(float, losses)
    rows, labels, alone = [], [], []
    for i in range(3):
        count = int(utterances.token_lengths[i])
        rows.append(logits[i, : count + 1])
        labels += utterances.following[i, : count + 1].tolist()
        frames = -(-int(utterances.lengths[i]) // 4)
        one = (log_probabilities[i, :frames, None], utterances.tokens[i, :count])
        alone.append(float(F.ctc_loss(*one, (frames,), (count,), blank=BLANK, reduction="sum")) / count)
    assert batch.labels.tolist() == labels
    assert torch.equal(answers.logits, torch.cat(rows))
    assert attention == pytest.approx(
        float(F.cross_entropy(torch.cat(rows), batch.labels, label_smoothing=0.1)), rel=1e-5
    )
    assert ctc == pytest.approx(sum(alone) / 3, rel=1e-5)
    assert both == pytest.approx(0.3 * ctc + 0.7 * attention, rel=1e-5)


def test_a_teacher_counts_in_the_part_of_the_decoder(data: SpeechData) -> None:
    net = _net().eval()
    batch = SpeechExamples(data, "fp32").batch(torch.arange(4), None, CPU)
    with torch.no_grad():
        answers = batch.answers(net, None)
    assert answers.extra is not None
    soft = torch.randn(answers.logits.shape, generator=torch.Generator().manual_seed(0))
    options = DistillConfig(ctc_weight=0.2)
    loss = batch.loss(answers, soft, options, weight=1.0)
    expected = 0.8 * F.cross_entropy(answers.logits, soft.softmax(1)) + 0.2 * answers.extra
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_training_lowers_the_loss_of_all_subnets(data: SpeechData, algorithm: Algorithm) -> None:
    net = _net()
    ends = net.space.largest(), net.space.smallest()
    before, rng = [_loss(net.extract(a), data) for a in ends], torch.get_rng_state()
    entries = train_supernet(net, data, SupernetTrainConfig(**_options(algorithm, epochs=12), curve=6))
    assert torch.equal(rng, torch.get_rng_state()) and not net.training
    after = [_loss(net.extract(a), data) for a in ends]
    assert all(b < 0.6 * a for a, b in zip(before, after, strict=True))
    assert set(entries[-1].curve) == {"largest", "random", "smallest"}
    assert entries[-1].accuracy > entries[0].accuracy


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_interrupted_training_ends_bit_for_bit_as_an_uninterrupted_one(
    data: SpeechData, tmp_path: Path, algorithm: Algorithm
) -> None:
    config = SupernetTrainConfig(**_options(algorithm, epochs=4), ema=0.9, curve=0)
    straight, resumed = _net(dropout=0.2), _net(dropout=0.2)
    entries = train_supernet(straight, data, config)
    for epoch, step in ((2, 3), (4, 1)):
        with pytest.raises(_CrashError):
            train_supernet(resumed, data, config, checkpoint_dir=tmp_path, progress=_crash_at(epoch, step))
        resumed = _net(dropout=0.2)
    assert train_supernet(resumed, data, config, checkpoint_dir=tmp_path) == entries
    assert _equal(straight, resumed)


def test_the_seed_decides(data: SpeechData) -> None:
    def trained(seed: int) -> str:
        net = _net()
        train_supernet(net, data, SupernetTrainConfig(epochs=1, seed=seed, **{**SHORT, "batch_size": 12}))
        return net.fingerprint()

    assert trained(1) == trained(1) != trained(2)


def test_subnets_learn_from_labels_and_from_a_teacher(data: SpeechData) -> None:
    net = _net()
    before = net.fingerprint()
    teacher, subnet = net.extract(net.space.largest()), net.extract(net.space.smallest())
    entries = finetune(teacher, data, config=FinetuneConfig(epochs=10, curve=6, **SHORT))
    assert entries[-1].loss < 0.6 * entries[0].loss
    weights = {key: value.clone() for key, value in teacher.state_dict().items()}
    first, start = _loss(subnet, data), subnet.state_dict()["ctc.weight"].clone()
    finetune(subnet, data, config=DistillConfig(epochs=6, distillation=1.0, curve=6, **SHORT), teacher=teacher)
    assert _loss(subnet, data) < 0.8 * first and not torch.equal(start, subnet.state_dict()["ctc.weight"])
    assert net.fingerprint() == before
    assert all(torch.equal(weights[key], value) for key, value in teacher.state_dict().items())


def test_more_padding_changes_nothing(data: SpeechData) -> None:
    net = _net()
    utterances = data.train.batch([0, 2, 4])
    wider = SpeechBatch(
        type(utterances)(
            F.pad(utterances.features, (0, 0, 0, 9), value=7.0),
            utterances.lengths,
            F.pad(utterances.tokens, (0, 2), value=BLANK),
            utterances.token_lengths,
            utterances.transcripts,
        ),
        "fp32",
        CPU,
    )
    gradients = []
    for batch in (SpeechBatch(utterances, "fp32", CPU), wider):
        net.zero_grad()
        batch.loss(batch.answers(net, None), None, FinetuneConfig()).backward()  # type: ignore[no-untyped-call]
        gradients.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*gradients, strict=True))


def test_steps_hold_transcripts_of_like_lengths_each_at_most_once(data: SpeechData) -> None:
    steps = SpeechExamples(data, "fp32").order(5, torch.Generator().manual_seed(0))
    numbers = [i for step in steps for i in step.tolist()]
    assert len(steps) == 4 and len(set(numbers)) == len(numbers) == 20
    lengths = [[len(data.train.transcripts[i].split()) for i in step.tolist()] for step in steps]
    assert all(max(step) - min(step) <= 1 for step in lengths)


def test_wrong_uses(data: SpeechData) -> None:
    with pytest.raises(DataError, match="has 5 tokens, the net knows 13"):
        train_supernet(build("net", CONFIG, num_classes=13, seed=0), data, SupernetTrainConfig(epochs=1))
    for count in (4, 13):
        subnet = build("net", CONFIG, num_classes=count, seed=0).extract(CONFIG.space("net").largest())
        with pytest.raises(DataError, match=f"has 5 tokens, the net knows {count}"):
            finetune(subnet, data)
    net = _net()
    with torch.no_grad():
        net.recognizer.ctc.bias.fill_(torch.nan)
    with pytest.raises(TrainingError, match="diverged: the loss is nan in epoch 1, step 1"):
        train_supernet(net, data, SupernetTrainConfig(epochs=1, **SHORT))


@pytest.mark.slow
def test_the_small_net_recognizes_spoken_digits(shared_data: Path) -> None:
    """About 35 s on one core."""
    pytest.importorskip("jiwer")
    data = fsdd.load(shared_data / "fsdd", ("jackson", "theo"))
    net = build("fsdd_asr", FSDD_ASR, seed=0)
    options = {"epochs": 12, "batch_size": 32, "lr": 2e-3, "label_smoothing": 0.0, "subnets_per_step": 3}
    train_supernet(net, data, SupernetTrainConfig(**options, **DENAS))
    for architecture in (net.space.largest(), net.space.smallest()):
        subnet = net.extract(architecture)
        for decoding in ("ctc", "attention"):
            assert WordErrorRate(data, split="test", decoding=decoding).measure(subnet, architecture).value < 20
