"""A small MobileNet-like network with learnt-looking statistics."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F


class SqueezeExcite(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.reduce = nn.Conv2d(channels, 8, 1)
        self.expand = nn.Conv2d(8, channels, 1)

    def forward(self, x):
        return x * F.hardsigmoid(self.expand(F.relu(self.reduce(F.adaptive_avg_pool2d(x, 1)))))


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


def _block(channels, hidden):
    return Residual(
        nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.Hardswish(),
        nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False), nn.BatchNorm2d(hidden), nn.Hardswish(),
        SqueezeExcite(hidden), nn.Conv2d(hidden, channels, 1, bias=False), nn.BatchNorm2d(channels),
    )  # fmt: skip


@pytest.fixture(scope="session")
def net():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.Hardswish(),
        _block(16, 48), nn.ReLU(), _block(16, 48), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
    )  # fmt: skip
    with torch.no_grad():
        for _ in range(20):
            net(torch.randn(32, 1, 16, 16))
    return net.eval()


@pytest.fixture(scope="session")
def images():
    return torch.randn(64, 1, 16, 16, generator=torch.Generator().manual_seed(0))
