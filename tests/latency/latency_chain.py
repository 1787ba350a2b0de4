"""A small super-network, and a meter whose times follow from the network and a clock that drifts."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from nas_compress.errors import EvaluationError
from nas_compress.objectives.timing import LatencyStats
from nas_compress.space import Dimension, SearchSpace, depth_conditions
from nas_compress.supernets.base import Block


def stats(ms: float) -> LatencyStats:
    return LatencyStats(ms, 0.0, 0.0, ms, ms, ms, 10, 0, "wall", "max_runs")


class Chain:
    """Two stages of up to three linear layers of open width; the next layer takes what the one before gives.

    The second stage's first layer depends on the width and on the depth of the first stage.
    """

    name = "chain"

    def __init__(self, classes: int = 3) -> None:
        self.classes = classes
        dimensions = (Dimension.uniform("w", (2, 4, 8), 6), Dimension.uniform("d", (1, 2, 3), 2))
        self.space = SearchSpace("chain", dimensions, depth_conditions("d", ("w",), [3, 3]))

    def widths(self, architecture):
        d, w = architecture["d"], architecture["w"]
        return [5, *w[: d[0]], *w[3 : 3 + d[1]], self.classes]

    def blocks(self, architecture):
        def block(i, o):
            return Block(f"linear in={i} out={o}", lambda: nn.Linear(i, o).eval(), lambda batch: torch.ones(batch, i))

        return [block(i, o) for i, o in itertools.pairwise(self.widths(architecture))]

    def extract(self, architecture):
        return nn.Sequential(*(each.build() for each in self.blocks(architecture))).eval()

    def example_input(self, batch=1, architecture=None):
        return torch.ones(batch, 5)

    def encoded_cost(self, cost, space, encoded):
        pairs = [list(itertools.pairwise(self.widths(a))) for a in space.decode(encoded)]
        return np.array([sum(i * o for i, o in each) for each in pairs], dtype=np.float64)

    def describe(self):
        return {"name": self.name, "classes": self.classes}


class Meter:
    """Milliseconds: what a call costs, then what each multiplication does; all of it times the machine's speed.

    Whole networks take `together` times as long as their parts. The `fails_after`-th measurement raises.
    """

    batch_size, threads = 2, 1
    backend = SimpleNamespace(slow_build="")
    call, each, together = 0.5, 0.25, 1.2

    def __init__(self, drift=0.0, noise=0.0, fails_after=None, threads=1):
        self.drift, self.noise, self.fails_after, self.threads = drift, noise, fails_after, threads
        self.measured = []
        self._rng = np.random.default_rng(0)

    def describe(self):
        return {
            "backend": "torch",
            "versions": {"torch": "2.8"},
            "hardware": {"cpu": "Some CPU", "cores": 2, "os": "Linux x86_64"},
            "threads": self.threads,
            "batch_size": self.batch_size,
            "precision": "fp32",
        }

    def prepare(self, module, example):
        assert len(example) == self.batch_size and not module.training
        module(example)
        return module, (example,)

    def time(self, network, settings=None):
        module, _ = network
        if self.fails_after is not None and len(self.measured) >= self.fails_after:
            raise self.failure
        self.measured.append(module)
        speed = np.exp(self.drift * np.sin(len(self.measured) / 20) + self.noise * self._rng.normal())
        return stats(float(speed * self.of(module)))

    failure: BaseException = EvaluationError("cannot take it")

    def of(self, module):
        products = sum(p.numel() for p in module.parameters() if p.ndim == 2)
        whole = isinstance(module, nn.Sequential)
        return self.call + self.each * products * (self.together if whole else 1)
