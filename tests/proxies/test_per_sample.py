"""Gradients of samples against a backward pass for each."""

from typing import Any

import pytest
import torch
from networks import CASES, classes, cnn, draw
from torch import Tensor, nn

from nas_compress.errors import EvaluationError
from nas_compress.proxies.base import Probe, modes, tensors_of, total, weight_names
from nas_compress.proxies.ntk import ntk_condition_number
from nas_compress.proxies.per_sample import normalised_alone, sample_gradients
from nas_compress.proxies.saliency import saliencies
from nas_compress.proxies.scoring import FIRST_ORDER, score


def loop(probe: Probe, samples: tuple[Tensor, ...], name: str) -> Tensor:
    rows = []
    for row in range(len(samples[0])):
        value = total(probe([each[row, None] for each in samples]))
        rows.append(torch.autograd.grad(value, probe.params[name], materialize_grads=True)[0].flatten())
    return torch.stack(rows)


class Shared(nn.Module):
    """One layer that is called twice, two that share their weights, one that is never called, one on each position."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.first, self.second = (nn.Linear(6, 6) for _ in range(3))
        self.second.weight = self.first.weight
        self.never = nn.Linear(6, 6)
        self.along = nn.Conv1d(4, 4, 3, padding="same", groups=2)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(torch.tanh(self.twice(x)))
        x = torch.tanh(self.along(self.second(torch.tanh(self.first(x)))))
        y: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return y.square()


def cases() -> dict[str, tuple[nn.Module, Any]]:
    found = {kind: CASES[kind]()[:2] for kind in CASES}
    strided = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1, dilation=2, groups=3), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.Tanh(),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), nn.Flatten(), nn.Linear(36, 3),
    )  # fmt: skip
    in_place = nn.Sequential(nn.Linear(5, 8), nn.ReLU(inplace=True), nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 2))
    found["in place"] = in_place, draw(4, 5)
    return {**found, "shared": (Shared(), draw(5, 4, 6)), "strided": (strided, draw(4, 3, 8, 8))}


@pytest.mark.parametrize("kind", list(cases()))
def test_gradients_of_a_batch_are_those_of_its_samples(kind: str) -> None:
    module, inputs = cases()[kind]
    samples = tuple(x.double() if x.is_floating_point() else x for x in tensors_of(inputs))
    with modes(module, batch_statistics=False), normalised_alone(module):
        probe = Probe(module, dtype=torch.float64)
        found = list(sample_gradients(probe, samples, lambda outputs, _: total(outputs)))
        expected = [loop(probe, samples, name) for name in weight_names(module)]
    assert len(found) == len(expected)
    assert sum(float(rows.abs().sum()) > 0 for rows in found) >= 3
    remaining = list(expected)
    for rows in found:
        fits = [i for i, each in enumerate(remaining) if each.shape == rows.shape and torch.allclose(each, rows)]
        assert fits, "rows that no weight has"
        remaining.pop(fits[0])


def test_a_shared_weight_counts_once() -> None:
    names = weight_names(Shared())
    assert len(names) == len(set(names)) == 6
    assert "second.weight" not in names


def test_normalised_alone_is_a_batch_of_one_for_every_sample() -> None:
    module, images = cnn().train(), draw(4, 3, 8, 8)
    with modes(module, batch_statistics=False), normalised_alone(module):
        together = module(images)
    with modes(module):
        alone = torch.cat([module(image[None]) for image in images])
    torch.testing.assert_close(together, alone)


def test_ntk_wants_two_samples() -> None:
    with pytest.raises(EvaluationError, match="at least two samples"):
        ntk_condition_number(cnn(), draw(1, 3, 8, 8))


def test_scores_of_one_gradient_are_the_same_together_and_alone() -> None:
    images, labels = draw(6, 3, 8, 8), classes(6, 5)
    together = score(cnn(), images, ["params", *FIRST_ORDER], labels=labels)
    assert list(together) == ["params", *FIRST_ORDER]
    for name in FIRST_ORDER:
        alone = score(cnn(), images, [name], labels=labels)[name]
        assert together[name] == alone == saliencies(cnn(), images, labels)[name]
