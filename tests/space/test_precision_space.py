from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_compress.errors import ArchitectureError, ConfigError
from nas_compress.space import (
    Architecture,
    CoupledSpace,
    Dimension,
    SearchSpace,
    depth_conditions,
    mobilenet_space,
    resnet_space,
)
from nas_compress.space.catalog import compofa_space, nas_bench_201_space
from nas_compress.space.precision import PRECISION, PrecisionSpace, block_groups, with_precision

VALUES = ("int8", "fp32")
MBV3 = mobilenet_space("mbv3", stages=2, kernel_sizes=(3, 5), expand_ratios=(3,), depths=(1, 2))
SINGLE = mobilenet_space("single", stages=1, kernel_sizes=(3,), expand_ratios=(3, 4), depths=(1, 2), single_stages=1)
RESNET = resnet_space("resnet", base_depths=(1,), depths=(0, 1), expand_ratios=(0.5,), widths=1)
OPTIONAL = SearchSpace(
    "optional",
    [Dimension.uniform("d", (0, 1, 2)), Dimension.uniform("e", (3, 4), 2)],
    depth_conditions("d", ["e"], [2]),
)
SPACES = [MBV3, SINGLE, RESNET, OPTIONAL, compofa_space("compofa").restrict({"d": [2, 3]})]


def architectures(space: SearchSpace) -> st.SearchStrategy[Architecture]:
    return st.integers(0, 2**32 - 1).map(lambda seed: space.sample(np.random.default_rng(seed), 1)[0])


@pytest.mark.parametrize("by", ["stage", "block", "network"])
@pytest.mark.parametrize("base", SPACES[:4], ids=lambda space: space.name)
def test_every_choice_of_precisions_of_used_groups_counts_once(base: SearchSpace, by: str) -> None:
    space = with_precision(base, by, VALUES)  # type: ignore[arg-type]
    rows = list(space.enumerate())
    assert len(rows) == len(set(space.decode(np.array(rows)))) == space.size()
    expected = 0
    for architecture in base.decode(np.array(list(base.enumerate()))):
        used = base.active(base.encode([architecture]))[0]
        genes = dict(zip(base.gene_names, used, strict=True))
        blocks = next(c.gene[0] for c in base.conditions)
        groups = [g for g in space.groups if g.stem or g.head or any(genes[f"{blocks}[{s}]"] for s in g.slots)]
        expected += 2 ** len(groups)
    assert space.size() == expected


def test_groups_are_stem_stages_and_head() -> None:
    assert [g.slots for g in block_groups(MBV3, "stage")] == [(), (0, 1), (2, 3), ()]
    assert [g.slots for g in block_groups(MBV3, "block")] == [(), (0,), (1,), (2,), (3,), ()]
    assert [g.slots for g in block_groups(SINGLE, "stage")] == [(), (0, 1), (2,), ()]
    for by in ("stage", "block"):
        first, *middle, last = block_groups(MBV3, by)  # type: ignore[arg-type]
        assert first.stem and last.head and not any(g.stem or g.head for g in middle)
    (whole,) = block_groups(MBV3, "network")
    assert whole.stem and whole.head and whole.slots == (0, 1, 2, 3)


def test_a_stage_that_depth_can_switch_off_has_no_precision_then() -> None:
    space = with_precision(OPTIONAL, "stage", VALUES)
    none = {"d": [0], "e": [0, 0]}
    one, other = (Architecture({**none, PRECISION: ["fp32", middle, "int8"]}) for middle in VALUES)
    assert space.canonicalize(one) == space.canonicalize(other)
    assert space.canonicalize(one)[PRECISION] == ("fp32", 0, "int8")


@pytest.mark.parametrize("base", SPACES, ids=lambda space: space.name)
@given(data=st.data())
def test_precisions_of_unused_blocks_do_not_matter(base: SearchSpace, data: st.DataObject) -> None:
    space = with_precision(base, "block", VALUES)
    architecture = data.draw(architectures(space))
    assert space.canonicalize(architecture) == architecture
    filled = [value or data.draw(st.sampled_from(VALUES)) for value in architecture[PRECISION]]
    other = Architecture({**architecture, PRECISION: filled})
    assert space.canonicalize(other) == architecture
    assert (space.encode([other]) == space.encode([architecture])).all()
    assert space.decode(space.encode([architecture])) == [architecture]
    assert space.without(architecture) == base.canonicalize(space.without(architecture))


@pytest.mark.parametrize("base", SPACES, ids=lambda space: space.name)
def test_an_architecture_without_precisions_is_in_fp32(base: SearchSpace) -> None:
    space = with_precision(base, "stage", VALUES)
    for architecture in base.sample(np.random.default_rng(0), 10):
        assert set(space.canonicalize(architecture)[PRECISION]) <= {"fp32", 0}
        assert space.without(space.canonicalize(architecture)) == architecture
    assert space.canonicalize(base.largest()) == space.largest()
    assert set(space.smallest()[PRECISION]) <= {"int8", 0}
    with pytest.raises(ArchitectureError, match=r"lacks 'precision'.*fp32"):
        with_precision(base, "stage", ("int8",)).validate(base.largest())


def test_values_are_those_that_costs_depend_on() -> None:
    space = with_precision(MBV3, "block", VALUES)
    rows = space.encode(space.sample(np.random.default_rng(0), 20))
    for name, values in MBV3.values(space.bare(rows)).items():
        assert (space.values(rows)[name] == values).all()


def test_wrong_precisions_are_named() -> None:
    space = with_precision(MBV3, "stage", VALUES)
    largest = space.largest().to_dict()
    for wrong, message in (
        (["int4", "fp32", "fp32", "fp32"], "precision[0] = 'int4' is not legal; allowed: int8, fp32"),
        (["fp32"], "precision has 1 values, space 'mbv3 with precision' wants 4"),
    ):
        with pytest.raises(ArchitectureError, match=re.escape(message)):
            space.validate(Architecture({**largest, PRECISION: wrong}))
    with pytest.raises(ArchitectureError, match=re.escape("ks[0] = 9")):
        space.validate(Architecture({**largest, "ks": [9, 3, 3, 3]}))


def test_restrictions_are_on_architecture_and_precision() -> None:
    space = with_precision(MBV3, "stage", VALUES)
    part = space.restrict({"ks": [3], "precision[0]": ["fp32"], "d[1]": [2]})
    assert (
        isinstance(part, PrecisionSpace)
        and part.base.restrict({}).size() == MBV3.restrict({"ks": [3], "d[1]": [2]}).size()
    )
    found = part.sample(np.random.default_rng(0), 50)
    assert {a[PRECISION][0] for a in found} == {"fp32"} and {a[PRECISION][1] for a in found} == set(VALUES)
    assert all(space.contains(a) and part.contains(a) for a in found)
    assert part.restrict({PRECISION: ["fp32"]}).size() == part.base.size()
    for key, value in (("precison", "int8"), ("precision", "int4"), ("precision[9]", "int8"), ("ks", 9)):
        with pytest.raises(ConfigError, match=re.escape(key)):
            space.restrict({key: [value]})


def test_followers_still_follow() -> None:
    base = compofa_space("compofa")
    space = with_precision(base, "stage", VALUES)
    assert isinstance(base, CoupledSpace)
    assert space.size() == base.size() * 2**7
    assert space.describe()["couplings"] == base.describe()["couplings"]
    assert all(len(a["e"]) == 20 for a in space.sample(np.random.default_rng(0), 5))


def test_each_comes_after_itself_in_the_lowest_precision() -> None:
    space = with_precision(MBV3, "stage", VALUES)
    largest, smallest = space.largest(), space.smallest()
    low = Architecture({**largest, PRECISION: ["int8"] * 4})
    assert space.lowered_too([largest, low, smallest]) == [low, largest, smallest]


def test_a_search_begins_with_both_ends_in_both_precisions() -> None:
    space = with_precision(MBV3, "stage", VALUES)
    largest, low, high, smallest = space.landmarks()
    assert (largest, smallest) == (space.largest(), space.smallest())
    assert space.without(low) == MBV3.largest() and set(low[PRECISION]) == {"int8"}
    assert space.without(high) == MBV3.smallest() and set(high[PRECISION]) == {"fp32"}
    assert with_precision(MBV3, "stage", ("int8",)).landmarks()[0] == with_precision(MBV3, "stage", ("int8",)).largest()
    assert MBV3.landmarks() == [MBV3.largest()]


def test_what_has_no_elastic_depth_has_no_groups() -> None:
    with pytest.raises(ConfigError, match="nas_bench_201.*elastic depth"):
        with_precision(nas_bench_201_space(), "stage", VALUES)
    with pytest.raises(ConfigError, match="by = 'layer'.*stage, block, network"):
        with_precision(MBV3, "layer", VALUES)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="1 rows of values, 4 groups"):
        PrecisionSpace(MBV3, "stage", [VALUES])


def test_predictors_see_precisions() -> None:
    space = with_precision(MBV3, "stage", VALUES)
    largest = space.largest()
    low = Architecture({**largest, PRECISION: ["int8", *["fp32"] * 3]})
    one, other = space.features([largest, low])
    assert (one != other).sum() == 3  # its rank, and the one-hot values
