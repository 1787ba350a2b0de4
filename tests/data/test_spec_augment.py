"""Random masks over features of speech."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nas_compress.data.spec_augment import spec_augment

LENGTHS = torch.tensor([30, 7, 1, 18])


def _masked(seed: int = 0, **options: float) -> Tensor:
    features = torch.ones(4, 30, 10)
    masked = spec_augment(features, LENGTHS, torch.Generator().manual_seed(seed), **options)  # type: ignore[arg-type]
    assert torch.equal(features, torch.ones(4, 30, 10))
    return masked


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 100), st.floats(0, 1), st.floats(0, 1))
def test_a_mask_is_one_stretch_no_wider_than_the_largest(seed: int, frequency: float, time: float) -> None:
    bands = _masked(seed, time_masks=0, frequency_width=frequency)
    frames = _masked(seed, frequency_masks=0, time_width=time)
    for row, length in enumerate(LENGTHS.tolist()):
        hidden = bands[row, 0].eq(0)
        assert torch.equal(bands[row], bands[row, :1].expand(30, 10))
        assert int(hidden.sum()) <= 10 * frequency + 1e-4 and _stretches(hidden) <= 1
        gone = frames[row, :, 0].eq(0)
        assert torch.equal(frames[row], frames[row, :, :1].expand(30, 10))
        assert int(gone.sum()) <= length * time + 1e-4 and _stretches(gone) <= 1
        assert not gone[length:].any()


def _stretches(hidden: Tensor) -> int:
    return int(torch.cat((hidden[:1], hidden[1:] & ~hidden[:-1])).sum())


def test_utterances_have_masks_of_their_own_drawn_from_the_generator() -> None:
    one, same, other = _masked(0), _masked(0), _masked(1)
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert not torch.equal(one[0], one[3])


def test_all_places_are_as_likely_and_widths_are_uniform() -> None:
    features, lengths = torch.ones(4000, 10, 4), torch.full((4000,), 10)
    masked = spec_augment(features, lengths, torch.Generator().manual_seed(0), frequency_masks=0, time_width=0.4)
    widths = masked[:, :, 0].eq(0).sum(1)
    assert [float((widths == width).float().mean()) for width in range(5)] == pytest.approx([0.2] * 5, abs=0.03)
    share = masked[:, :, 0].eq(0).float().mean(0)
    assert torch.allclose(share, share.flip(0), atol=0.04)


def test_no_masks_change_nothing() -> None:
    assert torch.equal(_masked(frequency_masks=0, time_masks=0), torch.ones(4, 30, 10))
    assert torch.equal(_masked(frequency_width=0.0, time_width=0.0), torch.ones(4, 30, 10))
