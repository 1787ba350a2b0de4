import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_compress.errors import ArchitectureError, ConfigError
from nas_compress.space import Architecture, CoupledSpace, Coupling, Dimension, SearchSpace, compofa_space

EXPAND = {2: 3, 3: 4, 4: 6}


def small_space(**changes):
    """Two stages; `e` follows `d` by stage, `q` is free and governed by the first depth."""
    dimensions = (
        Dimension.uniform("e", (3, 4, 6), 2),
        Dimension.uniform("d", (1, 2), 2),
        Dimension.uniform("q", (0.5, 1.0), 1),
    )
    coupling = {"dimension": "e", "leader": "d", "slots": (0, 1), "values": ((1, 3), (2, 6)), **changes}
    return CoupledSpace("small", SearchSpace("full", dimensions), [Coupling(**coupling)])


def test_compofa_has_243_networks_which_all_follow_the_rule():
    space = compofa_space("compofa")
    assert space.size() == 243
    rows = np.array(list(space.enumerate()))
    architectures = space.decode(rows)
    assert len(set(architectures)) == len(architectures) == 243
    for a in architectures:
        for stage, depth in enumerate(a["d"]):
            blocks = slice(4 * stage, 4 * stage + 4)
            assert a["e"][blocks] == (EXPAND[depth],) * depth + (0,) * (4 - depth)
            assert a["ks"][blocks] == ((3, 5, 3, 3, 5)[stage],) * depth + (0,) * (4 - depth)
    assert np.array_equal(space.encode(architectures), rows)


def test_resolutions_multiply_the_size():
    assert compofa_space("compofa", (128, 160, 192)).size() == 3 * 243


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_samples_are_canonical_points_of_the_full_space(seed):
    space = compofa_space("compofa", (128, 224))
    for a in space.sample(np.random.default_rng(seed), 5):
        space.validate(a)
        assert space.full.canonicalize(a) == space.canonicalize(a) == a
        assert np.array_equal(space.full.encode([a]), space.expand(space.encode([a])))
        assert {k: tuple(rows[0]) for k, rows in space.values(space.encode([a])).items()} == dict(a)


def test_leftovers_in_unused_genes_do_not_matter():
    space = compofa_space("compofa")
    a = space.smallest()
    leftovers = {n: tuple(v or 6 for v in a[n]) for n in ("ks", "e")}
    assert space.canonicalize(Architecture({**a, **leftovers})) == a


def test_an_architecture_against_the_coupling_is_refused_by_its_first_gene():
    space = compofa_space("compofa")
    e = space.largest()["e"]
    wrong = Architecture({**space.largest(), "e": (*e[:6], 3, *e[7:])})
    with pytest.raises(ArchitectureError, match=r"e\[6\] = 3 does not go with d\[1\] = 4 .*: e\[6\] = 6 does"):
        space.validate(wrong)
    with pytest.raises(ArchitectureError, match=r"ks\[4\] = 7 is not legal; allowed: 5"):
        space.validate(Architecture({**space.largest(), "ks": (3, 3, 3, 3, 7, *space.largest()["ks"][5:])}))


def test_restriction_acts_on_what_leads():
    part = compofa_space("compofa").restrict({"d": (2, 3), "d[0]": 2}, name="part")
    assert (part.name, part.size()) == ("part", 16)
    assert all(max(a["e"]) <= 4 and a["d"][0] == 2 for a in part.decode(np.array(list(part.enumerate()))))
    assert part.restrict({"d": 2}).size() == 1
    with pytest.raises(ConfigError, match=r"'e' follows from 'd'; restrict 'd'"):
        part.restrict({"e[2]": 3})
    with pytest.raises(ConfigError, match="no gene 'dd'"):
        part.restrict({"dd": 3})


def test_searched_genes_are_the_leading_ones():
    space = small_space()
    assert space.gene_names == ("d[0]", "d[1]", "q[0]")
    assert (space.size(), space.full.size()) == (8, 72)
    assert space.features(space.sample(np.random.default_rng(0), 4)).shape[0] == 4
    assert space.largest() == Architecture({"e": (6, 6), "d": (2, 2), "q": 1.0})
    assert space.describe()["couplings"] == {"e": ["d", [0, 1], [[1, 3], [2, 6]]]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dimension": "x"}, "'x' to 'd' is about dimensions that the space lacks"),
        ({"leader": "x"}, "'e' to 'x' is about dimensions that the space lacks"),
        ({"leader": "e"}, "or that follow themselves"),
        ({"slots": (0,)}, "wants a slot of 'd' for each of 2 genes"),
        ({"slots": (0, 2)}, "wants a slot of 'd' for each of 2 genes"),
        ({"values": ((1, 3),)}, r"no legal value of e\[0\] for d\[0\] = 2"),
        ({"values": ((1, 3), (2, 5))}, r"no legal value of e\[0\] for d\[0\] = 2"),
    ],
)
def test_wrong_couplings(changes, message):
    with pytest.raises(ConfigError, match=message):
        small_space(**changes)
