"""Super-networks and sub-networks on sentences and questions: they learn, they resume, padding counts for nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nas_compress.data.qa import QuestionSplit
from nas_compress.data.text import TextData, TextSplit
from nas_compress.data.text_files import Question
from nas_compress.data.tokenizer import Tokens, Windows
from nas_compress.errors import ConfigError, DataError
from nas_compress.objectives.text import predict_answers, text_accuracy
from nas_compress.supernets.bert import BertSupernet, build
from nas_compress.supernets.bert_config import TINY_BERT
from nas_compress.training.config import DistillConfig, FinetuneConfig, SupernetTrainConfig, TrainOptions
from nas_compress.training.examples import Answers
from nas_compress.training.text import QuestionBatch, TextBatch, TextExamples
from nas_compress.training.trainer import TrainProgress, finetune, train_supernet

CLASSIFIER = replace(TINY_BERT, vocabulary=60, layers=(1, 2), heads=(1, 2), intermediate=(32, 64), hidden=(32,))
ANSWERER = replace(CLASSIFIER, task="answering")
SHORT: dict[str, Any] = {"batch_size": 16, "optimizer": "adamw", "lr": 4e-3, "warmup_epochs": 0.3}
CPU = torch.device("cpu")


class CrashError(Exception):
    """Stands for a crash."""


def word_pieces(n: int, seed: int, length: int = 16) -> tuple[Tokens, torch.Generator]:
    """Rows of several lengths, the first word piece 1."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(6, length + 1, (n, 1), generator=generator)
    mask = (torch.arange(length) < lengths).int()
    ids = torch.randint(10, 60, (n, length), generator=generator).int()
    ids[:, 0] = 1
    return (ids * mask, mask, torch.zeros_like(mask)), generator


def sentences(n: int, seed: int) -> TextSplit:
    """Sentences that hold word piece 2 or 3, which tells their class."""
    (ids, mask, types), generator = word_pieces(n, seed)
    labels = torch.randint(2, (n,), generator=generator)
    places = 1 + (torch.rand(n, generator=generator) * (mask.sum(1) - 1)).long()
    ids[torch.arange(n), places] = (2 + labels).int()
    return TextSplit((ids, mask, types), labels)


def questions(n: int, seed: int) -> QuestionSplit:
    """Texts of one letter for each word piece, whose answers begin with word piece 2 and end with 3.

    Every fifth row holds no answer: its text goes on.
    """
    (ids, mask, types), generator = word_pieces(n, seed)
    asked, offsets = [], torch.full((n, 16, 2), -1, dtype=torch.int32)
    for row in range(n):
        count = int(mask[row].sum()) - 1
        starts = torch.arange(count, dtype=torch.int32)
        offsets[row, 1 : count + 1] = torch.stack([starts, starts + 1], dim=1)
        first, last = sorted(torch.randint(count, (2,), generator=generator).tolist())
        context = "abcdefghijklmnop"[:count] + "xyz"
        if row % 5 == 4:
            first, last = count, count + 1
        else:
            ids[row, 1 + last], ids[row, 1 + first] = 3, 2
        asked.append(Question(str(row), "?", context, (context[first : last + 1],), (first,)))
    return QuestionSplit(asked, Windows((ids, mask, types), torch.arange(n), offsets))


@pytest.fixture(scope="module")
def data() -> TextData[TextSplit]:
    return TextData("two words", sentences(320, 0), sentences(100, 1), sentences(100, 2), ("a", "b"), 16, 60, "0")


@pytest.fixture(scope="module")
def asked() -> TextData[QuestionSplit]:
    return TextData("two marks", questions(480, 0), questions(100, 1), questions(100, 2), (), 16, 60, "0")


@pytest.fixture(scope="module")
def few() -> TextData[QuestionSplit]:
    return TextData("few", questions(96, 0), questions(20, 1), questions(20, 2), (), 16, 60, "0")


def supernet(config=CLASSIFIER, **changes: Any) -> BertSupernet:
    return build("net", replace(config, **changes), seed=0)


def equal(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


# -- batches -----------------------------------------------------------------------------------------------


def test_batches_of_an_epoch_are_of_similar_length_and_another_few_are_left_out_each_time(data) -> None:
    examples = TextExamples(data, "fp32")
    orders = [examples.order(24, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    lengths = data.train.tokens[1].sum(1)
    for order in orders:
        assert [len(step) for step in order] == [24] * (320 // 24)
        assert len(set(torch.cat(order).tolist())) == 320 // 24 * 24
        padded = sum(int(lengths[step].max()) * len(step) for step in order)
        assert padded < 1.1 * int(lengths[torch.cat(order)].sum())
        assert [int(lengths[step].max()) for step in order] != sorted(int(lengths[step].max()) for step in order)
    assert all(torch.equal(a, b) for a, b in zip(*orders[:2], strict=True))
    left = [set(range(320)) - set(torch.cat(order).tolist()) for order in orders]
    assert left[0] == left[1] != left[2]


def test_columns_of_padding_are_cut_off(data) -> None:
    shortest = data.train.tokens[1].sum(1).argsort()[:8]
    batch = TextExamples(data, "fp32").batch(shortest, None, CPU)
    used = int(data.train.tokens[1][shortest].sum(1).max())
    assert used < 16 and all(each.shape == (8, used) and each.dtype == torch.int64 for each in batch.tokens)
    assert torch.equal(batch.labels, data.train.labels[shortest])


def test_rows_of_questions_are_starts_and_then_ends(asked) -> None:
    examples = TextExamples(asked, "fp32")
    batch = examples.validation(torch.arange(10), CPU)
    ids = batch.tokens[0]
    starts, ends = batch.labels[:10], batch.labels[10:]
    assert starts[[4, 9]].tolist() == ends[[4, 9]].tolist() == [0, 0]  # the answer is not in the window
    there = [row for row in range(10) if row % 5 != 4]
    assert (ids[there, starts[there]] == 2).all()
    longer = [row for row in there if starts[row] < ends[row]]
    assert longer and (ids[longer, ends[longer]] == 3).all()
    network = supernet(ANSWERER).eval()
    with torch.no_grad():
        rows = batch.answers(network, None).logits
        outputs = network(*batch.tokens)
    kept = batch.tokens[1].bool()
    assert torch.equal(rows[:10][kept], outputs[..., 0][kept]) and torch.equal(rows[10:][kept], outputs[..., 1][kept])
    assert (rows.softmax(1)[~kept.repeat(2, 1)] == 0).all()


@pytest.mark.parametrize("kind", ["sentences", "questions"])
@pytest.mark.parametrize("weight", [None, 0.6, 1.0])
def test_padding_changes_no_loss(data, asked, kind: str, weight: float | None) -> None:
    """Rows by themselves, without padding, have the same mean loss as all of them together."""
    source, config = (data, CLASSIFIER) if kind == "sentences" else (asked, ANSWERER)
    network, teacher = supernet(config).eval(), build("teacher", config, seed=1).eval()
    examples, options = TextExamples(source, "fp32"), DistillConfig(label_smoothing=0.2)

    def loss(batch: TextBatch) -> float:
        with torch.no_grad():
            soft = None if weight is None else batch.answers(teacher, None).logits
            given = 1.0 if weight is None else weight
            answers = batch.answers(network, None)
            return float(batch.loss(answers, soft, options, weight=given, temperature=3.0))

    together = loss(examples.batch(torch.arange(12), None, CPU))
    alone = [loss(examples.batch(torch.tensor([i]), None, CPU)) for i in range(12)]
    assert together == pytest.approx(sum(alone) / 12, rel=1e-4) and 0 < together < 50


def test_the_loss_of_questions_is_torchs_where_nothing_is_padding() -> None:
    generator = torch.Generator().manual_seed(0)
    ids = torch.ones(3, 7, dtype=torch.int64)
    batch = QuestionBatch((ids, ids, ids * 0), torch.tensor([[0, 0], [2, 4], [1, 1]]), "fp32")
    logits, teacher = (torch.randn(6, 7, generator=generator) for _ in range(2))
    smooth = TrainOptions(label_smoothing=0.1)
    hard = nn.functional.cross_entropy(logits, batch.labels, label_smoothing=0.1)
    soft = nn.functional.cross_entropy(logits, teacher.softmax(1))
    torch.testing.assert_close(batch.loss(Answers(logits), None, smooth), hard)
    torch.testing.assert_close(batch.loss(Answers(logits), teacher, smooth, weight=0.3), 0.7 * hard + 0.3 * soft)
    assert batch.labels.tolist() == [0, 2, 1, 0, 4, 1]


# -- training ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["sandwich", "single_path", "progressive_shrinking"])
def test_all_sub_networks_learn_to_classify(data, algorithm: str) -> None:
    net = supernet()
    config = SupernetTrainConfig(algorithm=algorithm, subnets_per_step=3, epochs=5, label_smoothing=0, **SHORT)
    log = train_supernet(net, data, config)
    assert log[-1].curve.keys() == {"largest", "random", "smallest"} and log[-1].accuracy > 95
    for architecture in (net.space.largest(), net.space.smallest()):
        assert text_accuracy(net.extract(architecture), data.test, trim=True).value > 95
    assert text_accuracy(net.extract(net.space.smallest()), data.val).value == pytest.approx(log[-1].curve["smallest"])


def test_a_supernet_learns_to_answer(asked) -> None:
    net = supernet(ANSWERER)
    config = SupernetTrainConfig(epochs=5, subnets_per_step=2, label_smoothing=0.1, **SHORT)
    log = train_supernet(net, asked, config)
    assert log[-1].accuracy > 90 and log[-1].curve["smallest"] > 85
    subnet = net.extract(net.space.largest())
    found = predict_answers(subnet, asked.test)
    there = [question for row, question in enumerate(asked.test.questions) if row % 5 != 4]
    right = sum(found[question.id] == question.answers[0] for question in there)
    assert right > 0.8 * len(there)
    assert finetune(subnet, asked, config=FinetuneConfig(epochs=1, **SHORT))[0].accuracy > 90


def interrupt_at(epoch: int, step: int) -> Any:
    def progress(state: TrainProgress) -> None:
        if (state.epoch, state.step) == (epoch, step):
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("algorithm", ["sandwich", "single_path", "progressive_shrinking"])
def test_an_interrupted_training_ends_bit_for_bit_as_another(few, tmp_path: Path, algorithm: str) -> None:
    config = SupernetTrainConfig(algorithm=algorithm, subnets_per_step=2, epochs=3, ema=0.9, curve=20, **SHORT)
    straight, resumed = (supernet(ANSWERER, dropout=0.1) for _ in range(2))
    log = train_supernet(straight, few, config)
    for at in ((1, 3), (3, 6)):
        with pytest.raises(KeyboardInterrupt):
            train_supernet(
                supernet(ANSWERER, dropout=0.1), few, config, checkpoint_dir=tmp_path, progress=interrupt_at(*at)
            )
    assert train_supernet(resumed, few, config, checkpoint_dir=tmp_path) == log
    assert equal(resumed, straight)


def test_an_interrupted_distillation_in_two_phases_ends_bit_for_bit_as_another(data, tmp_path: Path) -> None:
    net, teacher = supernet(dropout=0.1), supernet().extract(CLASSIFIER.space("net").largest())
    config = DistillConfig(feature_epochs=2, epochs=2, features=0.1, curve=0, **SHORT)

    def student() -> nn.Module:
        return net.extract(net.space.smallest())

    straight, resumed = student(), student()
    log = finetune(straight, data, config=config, teacher=teacher)
    assert [entry.stage for entry in log] == ["features", "features", "", ""]
    for at in ((2, 5), (3, 1)):
        with pytest.raises(KeyboardInterrupt):
            finetune(
                student(), data, config=config, teacher=teacher, checkpoint_dir=tmp_path, progress=interrupt_at(*at)
            )
    assert finetune(resumed, data, config=config, teacher=teacher, checkpoint_dir=tmp_path) == log
    assert equal(resumed, straight)


def test_the_teacher_decides(data) -> None:
    """A student of a teacher that is always wrong is wrong, where the labels have no weight."""
    net = supernet()
    teacher = net.extract(net.space.largest())
    finetune(teacher, data, config=FinetuneConfig(epochs=4, label_smoothing=0, **SHORT))
    assert text_accuracy(teacher, data.test).value > 95
    with torch.no_grad():
        teacher.head.out.weight.neg_()
        teacher.head.out.bias.neg_()
    student = net.extract(net.space.smallest())
    finetune(student, data, config=DistillConfig(epochs=5, distillation=1.0, **SHORT), teacher=teacher)
    assert text_accuracy(student, data.test).value < 10


def test_a_single_sentence_is_enough_to_validate_on(data) -> None:
    lonely, net = replace(data, val=sentences(1, 1)), supernet()
    subnet = net.extract(net.space.smallest())
    assert finetune(subnet, lonely, config=FinetuneConfig(epochs=1, **SHORT))[0].curve["network"] in (0, 100)


def test_what_does_not_fit_is_refused(data, asked) -> None:
    with pytest.raises(DataError, match="is not for a network like 'net': their tasks differ"):
        train_supernet(supernet(ANSWERER), data)
    largest = CLASSIFIER.space("net").largest()
    answerer, five = (supernet(config).extract(largest) for config in (ANSWERER, replace(CLASSIFIER, num_classes=5)))
    with pytest.raises(DataError, match=r"outputs of shape \(2, \d+, 2\), the data wants \(2, 2\)"):
        finetune(answerer, data)
    with pytest.raises(DataError, match=r"outputs of shape \(2, 5\), the data wants \(2, 2\)"):
        finetune(five, data)
    student = supernet().extract(largest)
    with pytest.raises(DataError, match=r"outputs of shape \(2, 5\), the data wants \(2, 2\)"):
        finetune(student, data, teacher=five)
    with pytest.raises(ConfigError, match="teacher of data 'two words' must be a module, got function"):
        finetune(student, data, teacher=lambda *_: torch.zeros(2, 2))
    with pytest.raises(ConfigError, match="feature_epochs = 2 wants a module as its teacher, got function"):
        finetune(student, data, config=DistillConfig(feature_epochs=2), teacher=lambda *_: torch.zeros(2, 2))
    with pytest.raises(DataError, match=r"outputs of shape \(2, 2\), the data wants \(2, \d+, 2\)"):
        finetune(student, asked)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"length": 8, "positions": 15}, "16 word pieces, the net takes 15"), ({"vocabulary": 59}, "net knows 59")],
)
def test_sub_networks_that_some_rows_do_not_fit_are_refused(data, asked, changes, words) -> None:
    """The first rows may be short, and of common word pieces."""
    largest = CLASSIFIER.space("net").largest()
    for config, source in ((CLASSIFIER, data), (ANSWERER, asked)):
        with pytest.raises(DataError, match=words):
            finetune(supernet(config, **changes).extract(largest), source)
