"""BERT-base on SST-2: a regression on INC's published results, with exact costs."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nas_compress.replay.base import FloatVector, IntMatrix
from nas_compress.replay.catalog import BERT_SST2
from nas_compress.replay.files import read_table
from nas_compress.replay.regression import FittedReplay, SmoothRegression
from nas_compress.space import Architecture

WIDTH, HEAD, TOKENS, CLASSES = 768, 64, 128, 2
VOCABULARY, POSITIONS, SEGMENTS = 30522, 512, 2


class BertSst2(FittedReplay):
    """A regression on INC's 2,000 published results of the BERT-base super-network on SST-2 (1,457 distinct ones).

    MACs are those of the published table, to the unit: 128 tokens, LayerNorm counted with one operation per element.
    Parameters are those of the extracted classifier with the uncased vocabulary.

    Args:
        folder: The folder of published data.
    """

    description = BERT_SST2
    conditions: ClassVar = {
        "acc": {"dataset": "SST-2 development set", "model": "kernel ridge regression on 1457 measured sub-networks"},
        "macs": {"tokens": TOKENS},
    }
    regression = SmoothRegression(length_scale=0.75, linear=0.3, noise=0.2)
    typical_macs = 5e9

    def _rows(self) -> tuple[list[Architecture], FloatVector]:
        table = read_table(self.paths[0], text=["Sub-network"], numbers=["SST-2 Acc"], rows=2000)
        return [Architecture.parse(text) for text in table["Sub-network"]], 100 * table["SST-2 Acc"].to_numpy()

    def _compute(self, metric: str, encoded: IntMatrix) -> NDArray[Any]:
        if metric == "acc":
            return self._accuracy(encoded)
        layers, heads, ffn = self._totals(encoded)
        return _macs(layers, heads, ffn) if metric == "macs" else _params(layers, heads, ffn)

    def _totals(self, encoded: IntMatrix) -> tuple[IntMatrix, IntMatrix, IntMatrix]:
        """Return the numbers of layers, and of heads and FFN units in all of them, each of shape (n,)."""
        active = self.space.active(encoded)
        depth, *slots = (np.array(d.choices[0]) for d in self.space.dimensions)
        heads, ffn = (
            (choices[encoded[:, start : start + 12]] * active[:, start : start + 12]).sum(axis=1)
            for choices, start in zip(slots, (1, 13), strict=True)
        )
        return depth[encoded[:, 0]], heads, ffn


def _macs(layers: IntMatrix, heads: IntMatrix, ffn: IntMatrix) -> IntMatrix:
    """Return the multiply-accumulates of one sequence, shape (n,), as the published table counts them."""
    norm = TOKENS * WIDTH
    projections, attention = 4 * WIDTH * HEAD * TOKENS, 2 * TOKENS**2 * HEAD
    head = WIDTH**2 + WIDTH * CLASSES
    mask = TOKENS  # the table's counts hold one more operation per token
    return 2 * norm * layers + (projections + attention) * heads + 2 * WIDTH * TOKENS * ffn + norm + head + mask


def _params(layers: IntMatrix, heads: IntMatrix, ffn: IntMatrix) -> IntMatrix:
    """Return the numbers of parameters, shape (n,)."""
    norm = 2 * WIDTH
    per_head = 3 * (WIDTH + 1) * HEAD + HEAD * WIDTH
    per_unit = WIDTH + 1 + WIDTH
    per_layer = 2 * WIDTH + 2 * norm  # biases of the attention's output and of the FFN's, two LayerNorms
    embeddings = (VOCABULARY + POSITIONS + SEGMENTS) * WIDTH + norm
    head = (WIDTH + 1) * (WIDTH + CLASSES)
    return per_layer * layers + per_head * heads + per_unit * ffn + embeddings + head
