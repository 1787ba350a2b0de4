"""The order of examples of different lengths."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_compress.training.lengths import WINDOW, like_lengths


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=50)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=300), st.integers(1, 40), st.integers(0, 5))
def test_steps_are_whole_and_hold_each_example_at_most_once(lengths: list[int], batch_size: int, seed: int) -> None:
    steps = like_lengths(torch.tensor(lengths), batch_size, _generator(seed))
    assert [len(step) for step in steps] == [batch_size] * (len(lengths) // batch_size)
    numbers = [i for step in steps for i in step.tolist()]
    assert len(set(numbers)) == len(numbers) and set(numbers) <= set(range(len(lengths)))


def test_little_of_a_step_is_padding() -> None:
    lengths = torch.randint(1, 50, (2000,), generator=_generator())
    steps = like_lengths(lengths, 16, _generator())
    padded = sum(16 * int(lengths[step].max()) for step in steps)
    assert padded < 1.1 * int(lengths.sum())
    # Steps come in no order of length.
    means = torch.stack([lengths[step].float().mean() for step in steps])
    assert float(torch.corrcoef(torch.stack((means, torch.arange(len(steps)).float())))[0, 1].abs()) < 0.3


def test_every_epoch_has_another_order_and_other_company() -> None:
    lengths = torch.randint(1, 50, (16 * WINDOW * 3,), generator=_generator())
    first, second, again = (like_lengths(lengths, 16, _generator(seed)) for seed in (0, 1, 0))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not {frozenset(step.tolist()) for step in first} & {frozenset(step.tolist()) for step in second}


def test_examples_of_one_length_are_in_a_random_order() -> None:
    steps = like_lengths(torch.ones(320, dtype=torch.long), 8, _generator())
    assert all((step.diff() < 0).any() for step in steps)
