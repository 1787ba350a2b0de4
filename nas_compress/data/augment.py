"""Random augmentation of image tensors: one affine warp per image, drawn from a generator passed in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Augmentation:
    """Random shift, rotation, scaling and mirroring; what leaves the image is filled with black.

    Attributes:
        shift: Largest shift in both directions, as a share of the size; shifts are whole pixels.
        rotate: Largest rotation either way, in degrees.
        scale: Largest relative enlargement or reduction.
        flip: Whether half of the images are mirrored left to right.
    """

    shift: float
    rotate: float
    scale: float
    flip: bool

    def __call__(self, images: Tensor, black: Sequence[float], generator: torch.Generator) -> Tensor:
        """Return changed images of the same shape (n, channels, size, size).

        Args:
            images: Normalised square images, on any device.
            black: The normalised value of black, per channel.
            generator: A CPU generator; the same state gives the same changes on every device.
        """
        theta = self._matrices(len(images), images.shape[-1], generator).to(images.device)
        fill = torch.tensor(black, device=images.device).view(1, -1, 1, 1)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        # Sampling takes 0 outside of the image, so black must be 0 meanwhile.
        return F.grid_sample(images - fill, grid, align_corners=False) + fill

    def _matrices(self, n: int, size: int, generator: torch.Generator) -> Tensor:
        """Return affine matrices from output to input coordinates, shape (n, 2, 3)."""
        draws = torch.rand(n, 5, generator=generator) * 2 - 1
        angle = draws[:, 0] * math.radians(self.rotate)
        zoom = (1 + self.scale) ** draws[:, 1]
        mirror = torch.where(draws[:, 2] < 0, -1.0, 1.0) if self.flip else torch.ones(n)
        # One pixel is 2 / size in the coordinates of the grid, which run from -1 to 1.
        shift = (draws[:, 3:] * self.shift * size).round() * 2 / size
        cos, sin = angle.cos() * zoom, angle.sin() * zoom
        rows = torch.stack([cos * mirror, -sin, shift[:, 0], sin * mirror, cos, shift[:, 1]], dim=1)
        return rows.view(n, 2, 3)
