"""The stages of progressive shrinking, as Once-for-All has them and as a user gives them."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_compress.errors import ArchitectureError, ConfigError
from nas_compress.space import Architecture, Dimension, SearchSpace, mobilenet_space, resnet_space
from nas_compress.supernets import supernets
from nas_compress.training.config import SupernetTrainConfig, SupernetTrainOptions
from nas_compress.training.stages import Stage, stages_of

SPACE = mobilenet_space("small", stages=2, resolutions=(8, 12))
TRAINED = sorted(name for name in supernets if not name.startswith("replay/"))


def shrinking(**options: Any) -> SupernetTrainOptions:
    return SupernetTrainOptions(algorithm="progressive_shrinking", **options)


def published(space: SearchSpace, epochs: int = 60, **options: Any) -> list[Stage]:
    return stages_of(shrinking(epochs=epochs, **options), space)


def elastic(stage: Stage) -> set[str]:
    """Return the dimensions that take several values in a stage."""
    return {d.name for d in stage.space.dimensions if max(map(len, d.choices)) > 1}


def holds(space: SearchSpace, architecture: Architecture) -> bool:
    try:
        space.validate(architecture)
    except ArchitectureError:
        return False
    return True


def test_a_mobilenet_shrinks_as_once_for_all_does() -> None:
    stages = published(SPACE, epochs=595, lr=0.03, warmup_epochs=5)
    assert [s.name for s in stages] == ["largest", "kernel", "depth", "depth, all", "width", "width, all"]
    assert [s.epochs for s in stages] == [180, 125, 25, 120, 25, 120]
    assert [s.lr for s in stages] == pytest.approx([0.03, 0.03, 0.0025, 0.0075, 0.0025, 0.0075])
    assert [s.warmup_epochs for s in stages] == [5, 5, 0, 0, 0, 0]
    assert [s.subnets_per_step for s in stages] == [1, 1, 2, 2, 4, 4]
    assert [s.sort for s in stages] == [False, False, False, False, True, False]
    kernel = {"r", "ks"}
    assert [elastic(s) for s in stages] == [{"r"}, kernel, kernel | {"d"}, kernel | {"d"}, *[kernel | {"d", "e"}] * 2]
    depths, widths = ([{d.name: d.choices[0] for d in s.space.dimensions}[name] for s in stages] for name in "de")
    assert depths == [(4,), (4,), (3, 4), *[(2, 3, 4)] * 3]
    assert widths == [*[(6,)] * 4, (4, 6), (3, 4, 6)]


def test_a_network_without_elastic_kernels_goes_straight_to_depths() -> None:
    stages = published(resnet_space("small", resolutions=(32, 48)))
    assert [s.name for s in stages] == ["largest", "depth", "depth, all", "width", "width, all"]
    assert elastic(stages[0]) == {"r"}
    assert elastic(stages[-1]) == {"r", "d", "e", "w"}


def test_two_values_want_one_phase() -> None:
    space = mobilenet_space("two", stages=1, depths=(1, 2), expand_ratios=(2, 3), kernel_sizes=(3,), resolutions=(8,))
    stages = published(space)
    assert [(s.name, s.sort) for s in stages] == [("largest", False), ("depth, all", False), ("width, all", True)]


def test_a_space_of_one_is_one_stage() -> None:
    one = SPACE.restrict({"ks": 3, "e": 3, "d": 2})
    assert [(s.name, s.epochs) for s in published(one)] == [("largest", 60)]


@pytest.mark.parametrize("name", TRAINED)
def test_stages_grow_to_the_whole_space(name: str) -> None:
    space = supernets.entry(name).info["space"]()
    stages = published(space)
    sizes = [stage.space.size() for stage in stages]
    assert sizes == sorted(set(sizes)) and sizes[-1] == space.size()
    assert sum(stage.epochs for stage in stages) == 60 and min(stage.epochs for stage in stages) >= 1
    widths = [stage.sort for stage in stages if stage.name.startswith("width")]
    assert widths == [True, False][: len(widths)] and sum(stage.sort for stage in stages) == bool(widths)
    for stage, larger in zip(stages, [*stages[1:], None], strict=True):
        assert stage.space.largest() == space.largest()
        for architecture in stage.space.sample(np.random.default_rng(0), 5):
            assert larger is None or holds(larger.space, architecture)
            space.validate(architecture)
    if "r" in {d.name for d in space.dimensions}:
        first = {d.name: d.choices for d in stages[0].space.dimensions}
        assert first["r"] == {d.name: d.choices for d in space.dimensions}["r"]


@settings(max_examples=60)
@given(epochs=st.integers(6, 2000))
def test_epochs_add_up_and_no_stage_goes_without(epochs: int) -> None:
    shares = [stage.epochs for stage in published(SPACE, epochs)]
    assert sum(shares) == epochs and min(shares) >= 1
    for share, weight in zip(shares, (180, 125, 25, 120, 25, 120), strict=True):
        assert share <= max(1, weight * epochs / 595 + 1)


@pytest.mark.parametrize("epochs", [1, 5])
def test_too_few_epochs(epochs: int) -> None:
    with pytest.raises(ConfigError, match=f"{epochs} epochs are too few: 'small' shrinks in 6 stages"):
        published(SPACE, epochs)


def test_stages_by_hand() -> None:
    given_ = [
        {"epochs": 3, "warmup_epochs": 1},
        {"elastic": {"ks": [5, 7], "r": None}, "epochs": 2, "lr": 0.01},
        {
            "elastic": dict.fromkeys(("ks", "e", "d", "r")),
            "epochs": 1,
            "subnets_per_step": 4,
            "sort": True,
            "sandwich": True,
        },
    ]
    options = shrinking(stages=given_, lr=0.3)
    assert options.epochs == 6
    first, second, last = stages_of(options, SPACE)
    assert (first.name, first.space.size(), first.lr, first.warmup_epochs) == ("largest", 1, 0.3, 1)
    assert (second.name, elastic(second), second.lr, second.epochs) == ("ks", {"ks", "r"}, 0.01, 2)
    assert {d.name: d.choices[0] for d in second.space.dimensions} == {"ks": (5, 7), "e": (6,), "d": (4,), "r": (8, 12)}
    assert (last.name, last.subnets_per_step, last.sort, last.sandwich) == ("all", 4, True, True)
    assert last.space.size() == SPACE.size()


WHOLE = {"elastic": dict.fromkeys(("ks", "e", "d", "r")), "epochs": 1}


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (
            [{"elastic": {"kernel": None}, "epochs": 1}],
            "stage 1: 'kernel' is no dimension of 'small', which has ks, e, d",
        ),
        (
            [WHOLE, {"elastic": {"ks": None}, "epochs": 1}],
            "the last stage trains .* of .* it must have every dimension",
        ),
        ([{"elastic": {"ks": [4]}, "epochs": 1}, WHOLE], r"stage 1: ks\[0\]: \[4\] is not a part of the legal values"),
        ([{"elastic": {"ks": []}, "epochs": 1}, WHOLE], r"stage 1: ks\[0\]: \[\] is not a part of the legal values"),
    ],
)
def test_stages_that_do_not_fit_the_space(stages: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        stages_of(shrinking(stages=stages), SPACE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"algorithm": "single_path", "stages": [WHOLE]},
            "stages are of progressive_shrinking; with single_path leave",
        ),
        ({"stages": [WHOLE]}, "stages are of progressive_shrinking; with sandwich leave them out"),
        ({"algorithm": "progressive_shrinking", "stages": []}, "stages"),
        (
            {"algorithm": "progressive_shrinking", "stages": [WHOLE], "epochs": 2},
            "epochs = 2, and the stages have 1; leave epochs out",
        ),
        (
            {"algorithm": "progressive_shrinking", "stages": [WHOLE | {"sandwich": True}]},
            "subnets_per_step = 1 is not allowed with sandwich: true, which wants at least 2",
        ),
        ({"algorithm": "progressive_shrinking", "stages": [{"elastic": {}}]}, r"stages\[0\]\.epochs"),
        (
            {"algorithm": "progressive_shrinking", "stages": [WHOLE], "warmup_epochs": 5},
            r"warmup_epochs = 5\.0 has no effect beside stages; give it to each stage that wants it",
        ),
        (
            {"algorithm": "progressive_shrinking", "stages": [WHOLE], "subnets_per_step": 9},
            "subnets_per_step = 9 has no effect beside stages",
        ),
        (
            {"algorithm": "progressive_shrinking", "stages": [WHOLE | {"warmup_epochs": math.inf}]},
            r"stages\[0\]\.warmup_epochs: inf is not a finite number",
        ),
        ({"subnets_per_step": 1}, "subnets_per_step = 1 is not allowed; the sandwich rule wants at least 2"),
        ({"algorithm": "uniform"}, "algorithm: 'uniform' is not allowed"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SupernetTrainOptions(**options)


def test_options_with_stages_read_back() -> None:
    config = SupernetTrainConfig(algorithm="progressive_shrinking", stages=[WHOLE])
    assert SupernetTrainConfig(**config.model_dump()) == config
    assert SupernetTrainConfig(**config.model_dump(exclude_unset=True)).epochs == 1


def test_stages_need_no_torch() -> None:
    code = "import sys, nas_compress.training.stages; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_stages_may_name_values_that_are_texts() -> None:
    space = SearchSpace("own", [Dimension.uniform("act", ("relu", "gelu", "silu")), Dimension.uniform("w", (4, 8))])
    stages = [{"epochs": 1, "elastic": {"act": ["relu", "silu"]}}, {"epochs": 1, "elastic": {"act": None, "w": None}}]
    first, _ = stages_of(shrinking(stages=stages), space)
    assert first.space.dimensions[0].choices == (("relu", "silu"),) and elastic(first) == {"act"}
