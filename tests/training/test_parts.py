"""Schedule, samplers, losses, augmentation and options."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from nas_compress.data.augment import Augmentation
from nas_compress.errors import ConfigError
from nas_compress.space import mobilenet_space
from nas_compress.training.config import AugmentConfig, DistillConfig, FinetuneConfig, SupernetTrainConfig
from nas_compress.training.distillation import distillation_loss, soft_cross_entropy
from nas_compress.training.samplers import SandwichSampler, UniformSampler
from nas_compress.training.schedule import learning_rate

SPACE = mobilenet_space("small", stages=2, resolutions=(8, 12))


@given(total=st.integers(1, 500), share=st.floats(0, 1), peak=st.floats(1e-4, 10))
def test_learning_rate_rises_to_the_peak_and_falls_to_zero(total: int, share: float, peak: float) -> None:
    warmup = min(int(total * share), total // 2)
    rates = [learning_rate(step, total, int(total * share), peak) for step in range(total)]
    assert all(0 < rate <= peak * (1 + 1e-9) for rate in rates)
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    assert max(rates) == pytest.approx(peak)
    assert learning_rate(total, total, warmup, peak) == pytest.approx(0)


def test_a_warm_up_as_long_as_the_run_is_cut_to_half_of_it() -> None:
    rates = [learning_rate(step, 20, 20, 1.0) for step in range(20)]
    assert rates == [learning_rate(step, 20, 10, 1.0) for step in range(20)]
    assert rates[9] == rates[10] == 1.0
    assert rates[-1] < 0.05


def test_sandwich_holds_largest_and_smallest_and_random_ones() -> None:
    drawn = SandwichSampler(5)(SPACE, np.random.default_rng(0))
    assert drawn[:2] == [SPACE.largest(), SPACE.smallest()]
    assert len(drawn) == len(set(drawn)) == 5
    for architecture in drawn:
        assert SPACE.canonicalize(architecture) == architecture
    assert SandwichSampler(5)(SPACE, np.random.default_rng(0)) == drawn
    assert SandwichSampler(5)(SPACE, np.random.default_rng(1)) != drawn


def test_samplers_draw_no_sub_network_twice_in_a_step() -> None:
    one = SPACE.restrict({"ks": 3, "e": 3, "d": 2, "r": 8})
    assert SandwichSampler(4)(one, np.random.default_rng(0)) == [one.largest()]
    assert UniformSampler(4)(one, np.random.default_rng(0)) == [one.largest()]
    assert len(UniformSampler(3)(SPACE, np.random.default_rng(0))) == 3


def test_soft_cross_entropy_is_least_where_the_student_equals_the_teacher() -> None:
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(6, 4, generator=generator, requires_grad=True)
    student = teacher.detach().clone().requires_grad_()
    loss = soft_cross_entropy(student, teacher, temperature=2.0)
    loss.backward()
    assert student.grad is not None and student.grad.abs().max() < 1e-6
    assert teacher.grad is None
    other = torch.randn(6, 4, generator=generator)
    assert soft_cross_entropy(other, teacher, temperature=2.0) > loss


def test_soft_cross_entropy_of_a_certain_teacher_is_cross_entropy() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 1, 0])
    certain = F.one_hot(labels, 3) * 1000.0
    assert torch.allclose(soft_cross_entropy(logits, certain), F.cross_entropy(logits, labels))


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_distillation_loss_mixes_both(weight: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, teacher = torch.randn(2, 5, 3, generator=generator)
    labels = torch.tensor([0, 1, 2, 1, 0])
    hard = F.cross_entropy(logits, labels, label_smoothing=0.1)
    mixed = distillation_loss(logits, labels, teacher, weight=weight, label_smoothing=0.1)
    assert torch.allclose(mixed, (1 - weight) * hard + weight * soft_cross_entropy(logits, teacher))
    assert torch.equal(distillation_loss(logits, labels, None, weight=weight, label_smoothing=0.1), hard)


def images(n: int = 4, size: int = 8) -> torch.Tensor:
    return torch.randn(n, 2, size, size, generator=torch.Generator().manual_seed(3))


def test_augmentation_follows_from_the_generator_alone() -> None:
    augment = Augmentation(shift=0.3, rotate=20, scale=0.2, flip=True)
    first, again, other = (augment(images(), (0.0, 0.0), torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_augmentation_of_nothing_changes_nothing() -> None:
    augment = Augmentation(shift=0, rotate=0, scale=0, flip=False)
    assert torch.allclose(augment(images(), (-1.0, 0.5), torch.Generator()), images(), atol=1e-5)


def test_flip_mirrors_some_images_exactly() -> None:
    before = images(64)
    after = Augmentation(0, 0, 0, flip=True)(before, (0.0, 0.0), torch.Generator().manual_seed(0))
    mirrored = [torch.allclose(a, b.flip(-1), atol=1e-5) for a, b in zip(after, before, strict=True)]
    kept = [torch.allclose(a, b, atol=1e-5) for a, b in zip(after, before, strict=True)]
    assert all(m != k for m, k in zip(mirrored, kept, strict=True))
    assert 16 < sum(mirrored) < 48


def test_shifts_are_whole_pixels_filled_with_black() -> None:
    before = images(40)
    black = (-3.0, -2.0)
    after = Augmentation(0.25, 0, 0, flip=False)(before, black, torch.Generator().manual_seed(0))
    padded = torch.tensor(black).view(1, 2, 1, 1).expand(1, 2, 12, 12).clone()
    seen = set()
    for old, new in zip(before, after, strict=True):
        padded[0, :, 2:10, 2:10] = old
        windows = {(y, x): padded[0, :, y : y + 8, x : x + 8] for y in range(5) for x in range(5)}
        fits = [place for place, window in windows.items() if torch.allclose(new, window, atol=1e-4)]
        assert len(fits) == 1
        seen.add(fits[0])
    assert len(seen) > 10


def test_options_are_validated() -> None:
    for config in (SupernetTrainConfig, FinetuneConfig, DistillConfig):
        for wrong, message in (
            ({"epochs": 0}, "epochs: 0 is not allowed; wants >= 1"),
            ({"lr": -1}, "lr: -1 is not allowed; wants > 0.0"),
            ({"lr": float("inf")}, "lr: inf is not a finite number"),
            ({"momentum": 1}, "momentum: 1 is not allowed; wants < 1.0"),
            ({"epoch": 3}, "epoch: unknown key (did you mean 'epochs'?)"),
            ({"augment": {"flipp": True}}, "augment.flipp: unknown key (did you mean 'flip'?)"),
        ):
            with pytest.raises(ConfigError) as error:
                config(**wrong)
            assert str(error.value) == message
    assert SupernetTrainConfig(augment=None).augment is None
    assert SupernetTrainConfig().augment == AugmentConfig()
    assert FinetuneConfig().peak_lr < SupernetTrainConfig().peak_lr


def test_a_teacher_has_options_of_its_own() -> None:
    assert DistillConfig().distillation == 0.5
    for name in ("distillation", "temperature", "features"):
        with pytest.raises(ConfigError, match=f"{name}: unknown key"):
            FinetuneConfig(**{name: 0.5})
    with pytest.raises(ConfigError, match="both 0: nothing is learnt from the teacher"):
        DistillConfig(distillation=0)
    with pytest.raises(ConfigError, match="features: -1 is not allowed"):
        DistillConfig(features=-1)


def test_options_need_no_torch() -> None:
    code = "import sys, nas_compress.training.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
