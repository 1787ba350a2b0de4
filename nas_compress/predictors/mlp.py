"""Multi-layer perceptrons."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

from nas_compress.predictors.base import FloatMatrix, FloatVector
from nas_compress.predictors.committee import Committee, Member

_SETTINGS = tuple({"alpha": float(alpha)} for alpha in (0.1, 1.0, 10.0))
_HIDDEN = (64,)
_ITERATIONS = 200


class MultiLayerPerceptron(Committee):
    """Perceptrons with one hidden layer; their L2 penalty has the least cross-validated error."""

    def _settings(self) -> Sequence[Mapping[str, Any]]:
        return _SETTINGS

    def _train(self, x: FloatMatrix, y: FloatVector, settings: Mapping[str, Any], seed: int) -> Member:
        shift, scale = x.mean(axis=0), float(np.sqrt(np.mean(x.var(axis=0)))) or 1.0
        net = MLPRegressor(
            hidden_layer_sizes=_HIDDEN, solver="lbfgs", max_iter=_ITERATIONS, random_state=seed, **settings
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return _Net(net.fit((x - shift) / scale, y), shift, scale)


@dataclass(frozen=True)
class _Net:
    """A net, and how it wants its features."""

    net: MLPRegressor
    shift: FloatVector
    scale: float

    def staged_predict(self, x: FloatMatrix) -> Iterator[FloatVector]:
        yield self.net.predict((x - self.shift) / self.scale)
