"""Dot products of attention with relative positions of image patches on a grid."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.errors import ConfigError


class RelativePositions(nn.Module):
    """Embeddings of how many rows and columns one patch of a grid lies behind another.

    Distances are clipped to `-most ... most`; entry 0 of either table stands for the class token, on either side.
    Sources: Shaw et al., 2018, "Self-Attention with Relative Position Representations" (the clipped distances); Wu et
    al., 2021, "Rethinking and Improving Relative Position Encoding for Vision Transformer"; AutoFormer's published
    configuration (a table for each direction, their entries added).

    Args:
        grid: Rows and columns of patches.
        features: Features of an embedding: those of one attention head.
        most: The largest distance that has an embedding of its own.
    """

    rows_behind: Tensor
    columns_behind: Tensor

    def __init__(self, grid: tuple[int, int], features: int, most: int) -> None:
        super().__init__()
        self.vertical = nn.Parameter(torch.empty(2 * most + 2, features))
        self.horizontal = nn.Parameter(torch.empty(2 * most + 2, features))
        for table in (self.vertical, self.horizontal):
            nn.init.trunc_normal_(table, std=0.02)
        for name, length in zip(("rows_behind", "columns_behind"), grid, strict=True):
            place = torch.arange(length)
            entry = (place[None, :] - place[:, None]).clamp(-most, most) + most + 1
            self.register_buffer(name, F.pad(entry, (1, 0)), persistent=False)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return embeddings by row and by column, shapes (rows, 1 + rows, f) and (columns, 1 + columns, f).

        Entry [a, 1 + b] is for a query in row a and a key in row b; [a, 0] is for the class token as the key.
        """
        return self.vertical[self.rows_behind], self.horizontal[self.columns_behind]

    def of_class(self) -> Tensor:
        """Return the embedding for the class token as the query, whatever the key, shape (f,)."""
        return self.vertical[0] + self.horizontal[0]


class RelativeDotProduct(nn.Module):
    """Mixes values by softmax(Q (K + R_K)^T / sqrt(w)) (V + R_V), with relative positions R of the patches.

    The position of a key relative to a query is a row's part plus a column's part. So the products with R are taken
    with the rows and the columns, 2 * (rows + columns + 2) products of a head's features for each patch, not with
    each of the patches.

    Args:
        grid: Rows and columns of patches; the class token comes before them.
        features: Features w of one attention head.
        most: The largest distance that has an embedding of its own.
    """

    def __init__(self, grid: tuple[int, int], features: int, most: int) -> None:
        super().__init__()
        self.grid = grid
        self.keys = RelativePositions(grid, features, most)
        self.values = RelativePositions(grid, features, most)

    def forward(
        self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, *, causal: bool = False
    ) -> Tensor:
        """Return the mixed values, shape (N, heads, L, w), of queries, keys and values of that shape.

        Raises:
            ConfigError: There is a mask; patches of an image have none.
        """
        if mask is not None or causal:
            raise ConfigError("attention with relative positions of patches takes no mask")
        queries = queries * queries.shape[-1] ** -0.5
        weights = (queries @ keys.transpose(2, 3) + self._logits(queries)).softmax(3)
        return weights @ values + self._mixed(weights)

    def _on_grid(self, x: Tensor, dim: int) -> Tensor:
        """Return a tensor whose patches along one dimension are in rows and columns, which are two dimensions."""
        rows, columns = self.grid
        return x.reshape(*x.shape[:dim], rows, columns, *x.shape[dim + 1 :])

    def _logits(self, queries: Tensor) -> Tensor:
        """Return Q R_K^T, shape (N, heads, L, L).

        The class token's row is left at 0: all keys are at the same position to it, which softmax does not see.
        """
        by_row, by_column = self.keys()
        patches = self._on_grid(queries[:, :, 1:], 2)
        vertical = patches @ by_row.transpose(1, 2)
        horizontal = (patches.transpose(2, 3) @ by_column.transpose(1, 2)).transpose(2, 3)
        to_class = vertical[..., :1] + horizontal[..., :1]
        to_patches = (vertical[..., 1:, None] + horizontal[..., None, 1:]).flatten(4)
        return F.pad(torch.cat((to_class, to_patches), 4).flatten(2, 3), (0, 0, 1, 0))

    def _mixed(self, weights: Tensor) -> Tensor:
        """Return the part of R_V in the outputs, shape (N, heads, L, w)."""
        by_row, by_column = self.values()
        patches = self._on_grid(weights[:, :, 1:], 2)
        of_class, of_patches = patches[..., :1], self._on_grid(patches[..., 1:], 4)
        of_rows, of_columns = (torch.cat((of_class, of_patches.sum(dim)), 4) for dim in (5, 4))
        vertical = of_rows @ by_row
        horizontal = (of_columns.transpose(2, 3) @ by_column).transpose(2, 3)
        class_row = self.values.of_class().expand(weights.shape[0], weights.shape[1], 1, -1)
        return torch.cat((class_row, (vertical + horizontal).flatten(2, 3)), 2)
