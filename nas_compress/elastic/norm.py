"""Normalisation over an elastic number of channels."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.elastic.plain import plain_batch_norm, plain_layer_norm


class ElasticBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation of the leading channels, as many as the input has.

    The running statistics are shared by all sub-networks, so they fit none of them well: extracted sub-networks
    are recalibrated before use (`objectives.calibration`). As in torch, a `momentum` of None makes them the mean over
    all batches (of any width) instead of a moving average.

    Attributes:
        active_features: Number of leading channels that `extract` takes.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)
        self.active_features = num_features

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W) with the leading C of the parameters and statistics."""
        n = x.shape[1]
        mean, var = self.running_mean, self.running_var
        share = 0.0 if self.momentum is None else self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                share = 1 / float(self.num_batches_tracked)
        return F.batch_norm(
            x,
            None if mean is None else mean[:n],
            None if var is None else var[:n],
            self.weight[:n],
            self.bias[:n],
            self.training,
            share,
            self.eps,
        )

    def extract(self) -> nn.BatchNorm2d:
        """Return the active part as a plain layer."""
        return plain_batch_norm(self, self.active_features)


class ElasticLayerNorm(nn.LayerNorm):
    """Layer normalisation over the leading features, as many as are in use.

    Attributes:
        active_features: Number of leading features in use.
    """

    def __init__(self, features: int, eps: float = 1e-5) -> None:
        super().__init__(features, eps=eps)
        self.active_features = features

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (..., active_features) over the last dimension."""
        n = self.active_features
        return F.layer_norm(x, (n,), self.weight[:n], self.bias[:n], self.eps)

    def extract(self) -> nn.LayerNorm:
        """Return the active part as a plain layer."""
        return plain_layer_norm(self.weight[: self.active_features], self.bias[: self.active_features], self.eps)
