"""Accuracy: exact shares, independence of batch size, modes, errors."""

import math

import pytest
import torch
from torch import nn

from nas_compress.data.base import ImageData, ImageSplit
from nas_compress.errors import ConfigError, DataError, EvaluationError
from nas_compress.objectives import objectives
from nas_compress.objectives.quality import Accuracy, accuracy
from nas_compress.space import Architecture

ARCHITECTURE = Architecture({"r": (4,)})
QUALITY = ["acc", "bleu", "exact_match", "f1", "wer"]


class Coded(ImageSplit):
    """Images whose pixels all hold their position in the split."""

    def __init__(self, labels):
        self.labels = torch.as_tensor(labels)

    def images(self, indices, resolution):
        return indices.float().view(-1, 1, 1, 1).expand(-1, 1, resolution, resolution)


class Predicts(nn.Module):
    """Logits for a fixed class per position; in training mode they are wrong."""

    def __init__(self, classes):
        super().__init__()
        self.classes = torch.as_tensor(classes)

    def forward(self, images):
        predicted = self.classes[images[:, 0, 0, 0].long()]
        return nn.functional.one_hot(predicted + self.training, 4).float()


def data(labels):
    split = Coded(labels)
    return ImageData("coded", split, split, split, ("a", "b", "c"), (0.0,), (1.0,), 4, "f00d")


LABELS = [0, 1, 2, 0, 1, 2, 0, 1]
PREDICTED = [0, 1, 2, 0, 0, 0, 1, 0]


@pytest.mark.parametrize("batch_size", [1, 3, 8, 100])
def test_accuracy_is_the_share_of_right_answers_with_its_standard_error(batch_size):
    measured = accuracy(Predicts(PREDICTED), Coded(LABELS), 4, batch_size)
    assert measured.value == 50.0
    assert measured.spread == pytest.approx(100 * math.sqrt(0.25 / 10))
    assert measured.provenance["images"] == 8


@pytest.mark.parametrize("shift", [0, 1])
def test_no_right_or_no_wrong_answer_is_not_certainty(shift):
    measured = accuracy(Predicts([(label + shift) % 3 for label in LABELS]), Coded(LABELS), 4)
    assert measured.value == 100.0 * (1 - shift)
    assert measured.spread == pytest.approx(100 * math.sqrt(0.1 * 0.9 / 10))


def test_a_module_is_evaluated_in_evaluation_mode_and_given_back_as_it_was():
    module = Predicts(LABELS).train()
    assert accuracy(module, Coded(LABELS), 4).value == 100.0
    assert module.training


def test_any_function_from_images_to_logits_will_do():
    module = Predicts(PREDICTED).eval()
    assert accuracy(lambda images: module(images), Coded(LABELS), 4).value == 50.0


def test_logits_that_are_not_finite_are_an_error():
    with pytest.raises(EvaluationError, match="not finite"):
        accuracy(lambda images: images.flatten(1) / 0, Coded(LABELS), 4)


def test_an_empty_split_is_an_error():
    with pytest.raises(EvaluationError, match="empty"):
        accuracy(Predicts([]), Coded(torch.zeros(0, dtype=torch.long)), 4)


def test_the_objective_uses_the_first_images_and_says_so():
    objective = Accuracy(data(LABELS), lambda a: int(a["r"][0]), fraction=0.45, batch_size=3)
    assert objective.measure(Predicts(PREDICTED), ARCHITECTURE).value == 100.0
    assert objective.context() == {
        "dataset": "coded", "data": "f00d", "split": "val", "images": 4, "precision": "fp32",
    }  # fmt: skip


@pytest.mark.parametrize("options", [{"fraction": 0.0}, {"fraction": 1.1}, {"batch_size": 0}])
def test_options_out_of_range_are_named(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        Accuracy(data(LABELS), lambda a: 4, **options)


def test_an_unknown_split_is_an_error():
    with pytest.raises(DataError, match="holdout"):
        Accuracy(data(LABELS), lambda a: 4, split="holdout")


def test_what_depends_on_the_weights():
    assert [name for name in objectives if objectives.get(name).depends_on_weights] == QUALITY


def test_the_registry_tells_what_the_classes_say():
    assert list(objectives) == sorted(
        [*QUALITY, "de_score", "de_score_original", "latency", "layers", "macs", "model_size", "params"]
    )
    for name in objectives:
        kind = objectives.get(name)
        entry = objectives.entry(name)
        assert kind.name == name
        told = {"direction": kind.direction, "unit": kind.unit, "column": kind.column}
        told |= {} if kind.best is None else {"best": kind.best}
        assert dict(entry.info) == told | ({"quality": True} if name in QUALITY else {})
    assert objectives.canonical("accuracy_top1") == objectives.canonical("top1") == "acc"
    assert objectives.canonical("accuracy_sst2") == "acc"
    assert objectives.canonical("lat") == "latency"
    assert objectives.canonical("em") == "exact_match"


class Counts(nn.Sequential):
    """Layers that remember the sizes of their batches."""

    def forward(self, images):
        self.sizes = [*getattr(self, "sizes", []), images.shape[0]]
        return super().forward(images)


def test_large_subnets_are_evaluated_in_onnx_runtime_with_the_same_result():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Counts(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()
    plain = Accuracy(data(LABELS), lambda a: 4).measure(net, ARCHITECTURE)
    assert max(net.sizes) > 2
    net.sizes = []
    fast = Accuracy(data(LABELS), lambda a: 4, macs_of=lambda a: 10**12).measure(net, ARCHITECTURE)
    assert fast == plain
    assert max(net.sizes) <= 2  # the export alone runs the module


def test_what_onnx_cannot_take_is_evaluated_in_pytorch():
    objective = Accuracy(data(LABELS), lambda a: 4, macs_of=lambda a: 10**12)
    assert objective.measure(Unexportable(PREDICTED), ARCHITECTURE).value == 50.0


class Unexportable(Predicts):
    """The export fails, evaluation does not."""

    def forward(self, images):
        if torch.onnx.is_in_onnx_export():
            raise RuntimeError("no such operator")
        return super().forward(images)
