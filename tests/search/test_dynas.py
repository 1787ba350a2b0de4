from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nas_compress.errors import UnknownNameError
from nas_compress.objectives.base import AnalyticObjective, Measurement, Objective
from nas_compress.search import SearchStrategy, Trial, pareto, strategies
from nas_compress.search.dynas import OPENING, DyNAS
from nas_compress.space import Architecture, mobilenet_space

SPACE = mobilenet_space("blocks", stages=3)


def quality(architecture: Architecture) -> float:
    """Later blocks and wider ones help most, kernels a little, all with diminishing returns."""
    gain = sum(
        e * (1 + i / 6) + k / 4 for i, (e, k) in enumerate(zip(architecture["e"], architecture["ks"], strict=True))
    )
    return 100 * (1 - float(np.exp(-gain / 40)))


class Quality(Objective):
    name, direction, unit, column = "acc", "maximize", "%", ""

    def measure(self, subnet: Any, architecture: Architecture) -> Measurement:
        raise AssertionError("a strategy never measures")


class Cost(AnalyticObjective):
    name, direction, unit, column = "cost", "minimize", "", ""

    def compute(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        return np.array([sum(np.array(a["e"]) * (10 + np.square(a["ks"]))) for a in architectures], dtype=np.float64)


def hypervolume(strategy: SearchStrategy, budget: int) -> float:
    costs: list[list[float]] = []
    while len(costs) < budget:
        asked = strategy.ask(budget - len(costs))
        values = [{"acc": quality(a), "cost": float(Cost().compute([a])[0])} for a in asked]
        strategy.tell([Trial(a, v) for a, v in zip(asked, values, strict=True)])
        costs += [[-v["acc"], v["cost"]] for v in values]
    reference = [-quality(SPACE.smallest()), float(Cost().compute([SPACE.largest()])[0])]
    return pareto.hypervolume(np.array(costs), reference)


@pytest.mark.parametrize("predictor", ["gp", "ridge", "svr"])
def test_needs_far_fewer_measurements(predictor: str) -> None:
    corners = [SPACE.smallest(), SPACE.largest()]
    dynas = np.mean([hypervolume(DyNAS(SPACE, [Quality(), Cost()], seed=s, predictor=predictor), 50) for s in (0, 1)])
    nsga2 = strategies.get("nsga2")
    full = [hypervolume(nsga2(SPACE, [Quality(), Cost()], seed=s, population=20, first=corners), 150) for s in (0, 1)]
    assert dynas > np.mean(full)


def test_opens_with_smallest_largest_and_random() -> None:
    opening = DyNAS(SPACE, [Quality(), Cost()]).ask(100)
    assert opening[:2] == [SPACE.smallest(), SPACE.largest()]
    assert len(opening) == OPENING


def test_batches_are_small_whatever_the_population() -> None:
    strategy = DyNAS(SPACE, [Quality(), Cost()], population=50, batch=7)
    for expected in (OPENING, 7, 7):
        asked = strategy.ask(100)
        strategy.tell([Trial(a, {"acc": quality(a), "cost": float(Cost().compute([a])[0])}) for a in asked])
        assert len(asked) == expected


def test_one_objective_finds_the_best() -> None:
    strategy, best = DyNAS(SPACE, [Quality()], seed=1), 0.0
    corners = strategy.ask(2)  # the optimum is among them, so these fail
    strategy.tell([Trial(a, error="out of memory") for a in corners])
    for _ in range(6):
        asked = strategy.ask(100)
        strategy.tell([Trial(a, {"acc": quality(a)}) for a in asked])
        best = max(best, *(quality(a) for a in asked))
    assert best > 0.99 * quality(SPACE.largest())


def test_unknown_predictor() -> None:
    with pytest.raises(UnknownNameError, match="unknown predictor 'gpr' .did you mean 'gp'"):
        DyNAS(SPACE, [Quality()], predictor="gpr")
