"""Which sub-networks a training step of a super-network trains."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nas_compress.space import Architecture, SearchSpace

Sampler = Callable[[SearchSpace, np.random.Generator], list[Architecture]]
"""Draws the sub-networks of one step, in the order in which they are computed."""


class SandwichSampler:
    """Largest sub-network first, then the smallest, then random ones.

    Source: Yu & Huang, 2019, "Universally Slimmable Networks", section 3.2 (the sandwich rule).

    Args:
        count: Sub-networks per step, largest and smallest included; never fewer than those two.
    """

    def __init__(self, count: int = 4) -> None:
        self._random = max(count - 2, 0)

    def __call__(self, space: SearchSpace, rng: np.random.Generator) -> list[Architecture]:
        """Return distinct canonical architectures (fewer than `count` where the draw repeats)."""
        return list(dict.fromkeys([space.largest(), space.smallest(), *space.sample(rng, self._random)]))


class UniformSampler:
    """Random sub-networks alone, every gene drawn uniformly (Guo et al., 2020, "Single Path One-Shot").

    Args:
        count: Sub-networks per step.
    """

    def __init__(self, count: int = 1) -> None:
        self._count = count

    def __call__(self, space: SearchSpace, rng: np.random.Generator) -> list[Architecture]:
        """Return distinct canonical architectures (fewer than `count` where the draw repeats)."""
        return list(dict.fromkeys(space.sample(rng, self._count)))
