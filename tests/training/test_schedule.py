"""Learning-rate schedules against their closed forms and torch's schedulers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from nas_compress.training.config import Schedule
from nas_compress.training.schedule import learning_rate

SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
PEAK = 0.3


def ours(schedule: Schedule, total: int, warmup: int) -> list[float]:
    return [learning_rate(step, total, warmup, PEAK, schedule) for step in range(total)]


def theirs(make: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler], total: int) -> list[float]:
    """Return the rates of a scheduler of torch, in the order in which an optimizer meets them."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=PEAK)
    scheduler = make(optimizer)
    rates = []
    for _ in range(total):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("total", [1, 7, 40])
def test_schedules_without_warm_up_are_torchs(total: int) -> None:
    references: dict[Schedule, Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]] = {
        "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, total),
        "linear": lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, total),
        "multistep": lambda o: lr_scheduler.MultiStepLR(o, [math.ceil(total / 2), math.ceil(3 * total / 4)]),
        "constant": lambda o: lr_scheduler.ConstantLR(o, 1.0),
        "inverse_sqrt": lambda o: lr_scheduler.LambdaLR(o, lambda step: (step + 1) ** -0.5),
    }
    assert set(references) == set(SCHEDULES)
    for schedule, make in references.items():
        assert ours(schedule, total, 0) == pytest.approx(theirs(make, total), abs=1e-9), schedule


def test_cosine_after_a_warm_up_is_torchs_chain_of_both() -> None:
    total, warmup = 50, 10

    def chain(optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        rise = lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / warmup)
        fall = lr_scheduler.CosineAnnealingLR(optimizer, total - warmup)
        return lr_scheduler.SequentialLR(optimizer, [rise, fall], [warmup])

    assert ours("cosine", total, warmup) == pytest.approx(theirs(chain, total), abs=1e-9)


@given(total=st.integers(2, 300), warmup=st.integers(1, 150))
def test_inverse_root_of_the_step_is_the_transformers(total: int, warmup: int) -> None:
    """Vaswani et al., 2017, equation 3, scaled to the peak: min(s^-0.5, s * w^-1.5) * w^0.5 for steps s from 1."""
    cut = min(warmup, total // 2)
    formula = [PEAK * min(s**-0.5, s * cut**-1.5) * cut**0.5 for s in range(1, total + 1)]
    assert ours("inverse_sqrt", total, warmup) == pytest.approx(formula)


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(total=st.integers(1, 300), warmup=st.integers(0, 300))
@settings(max_examples=40)
def test_every_schedule_rises_to_the_peak_and_never_rises_again(schedule: Schedule, total: int, warmup: int) -> None:
    rates, cut = ours(schedule, total, warmup), min(warmup, total // 2)
    assert all(0 < rate <= PEAK * (1 + 1e-9) for rate in rates)
    assert rates[:cut] == sorted(rates[:cut])
    assert rates[cut:] == sorted(rates[cut:], reverse=True)
    assert max(rates) == pytest.approx(PEAK)
