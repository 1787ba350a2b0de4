import itertools
import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_compress.errors import ArchitectureError, ConfigError
from nas_compress.space import (
    Architecture,
    Condition,
    Dimension,
    SearchSpace,
    bert_base_sst2,
    depth_conditions,
    mobilenet_space,
)

SPACES = {
    "mobilenet": mobilenet_space("mobilenet", resolutions=(128, 160, 224)),
    "bert": bert_base_sst2(),
    "small": mobilenet_space("small", stages=2, kernel_sizes=(3, 5), expand_ratios=(2, 3), depths=(1, 2)),
    "chain": SearchSpace(
        "chain",
        (Dimension.uniform("a", (0, 1)), Dimension.uniform("b", (0, 1, 2)), Dimension.uniform("c", (0.25, 0.5))),
        (Condition(("b", 0), ("a", 0), 1), Condition(("c", 0), ("b", 0), 2)),
    ),
}


@st.composite
def genotypes(draw):
    """A space and a full genotype in published form: every gene legal, unused ones included."""
    space = SPACES[draw(st.sampled_from(sorted(SPACES)))]
    values = {d.name: tuple(draw(st.sampled_from(c)) for c in d.choices) for d in space.dimensions}
    return space, Architecture(values)


@given(genotypes())
@settings(max_examples=200)
def test_canonical_form_is_idempotent_and_survives_encoding_and_text(case):
    space, architecture = case
    canonical = space.canonicalize(architecture)
    assert space.canonicalize(canonical) == canonical
    assert space.decode(space.encode([architecture, canonical])) == [canonical, canonical]
    assert Architecture.parse(str(canonical)) == canonical
    assert np.array_equal(space.features([architecture]), space.features([canonical]))
    values = space.values(space.encode([architecture]))
    assert {name: tuple(rows[0].tolist()) for name, rows in values.items()} == dict(canonical)


@given(genotypes(), st.randoms(use_true_random=False))
@settings(max_examples=200)
def test_only_unused_genes_share_a_canonical_form(case, random):
    space, architecture = case
    name = random.choice([d.name for d in space.dimensions])
    dimension = next(d for d in space.dimensions if d.name == name)
    slot = random.randrange(dimension.slots)
    used = space.active(space.encode([architecture]))[0][space.gene_names.index(f"{name}[{slot}]")]
    values = list(architecture[name])
    values[slot] = random.choice(dimension.choices[slot])
    changed = Architecture({**architecture, name: values})
    same = space.canonicalize(changed) == space.canonicalize(architecture)
    assert same == (not used or changed == architecture)


@pytest.mark.parametrize("name", ["small", "chain"])
def test_size_counts_the_distinct_canonical_forms(name):
    space = SPACES[name]
    genes = [c for d in space.dimensions for c in d.choices]
    slots = [(d.name, d.slots) for d in space.dimensions]
    distinct = set()
    for values in itertools.product(*genes):
        left = list(values)
        distinct.add(space.canonicalize(Architecture({n: [left.pop(0) for _ in range(k)] for n, k in slots})))
    assert space.size() == len(distinct)


def test_published_sizes():
    published = mobilenet_space("ofa_mbv3")
    assert f"{published.size():.2e}" == "2.18e+19"
    genotype_count = 3**20 * 3**20 * 3**5
    assert f"{genotype_count:.2e}" == "2.95e+21"
    assert round(genotype_count / published.size()) == 136


@pytest.mark.parametrize("name", sorted(SPACES))
def test_sampling_is_canonical_reproducible_and_reaches_every_value(name):
    space = SPACES[name]
    drawn = space.sample(np.random.default_rng(0), 400)
    assert drawn == space.sample(np.random.default_rng(0), 400)
    assert drawn == [space.canonicalize(a) for a in drawn]
    for d in space.dimensions:
        for slot, legal in enumerate(d.choices):
            assert set(legal) <= {a[d.name][slot] for a in drawn} | {0}


def test_features_mask_unused_genes():
    space = SPACES["small"]
    shallow, deep = space.smallest(), space.largest()
    rows = space.features([shallow, deep])
    ordinal = rows[:, : len(np.flatnonzero(space.cardinalities > 1))]
    assert set(np.unique(ordinal)) <= {0.0, 0.5, 1.0}
    unused = (space.encode([deep])[0] > 0) & ~space.active(space.encode([shallow]))[0]
    free = np.flatnonzero(space.cardinalities > 1)
    assert np.all(ordinal[0, unused[free]] == 0) and np.all(ordinal[1] == 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ks": (4,) * 4}, r"ks\[0\] = 4 is not legal; allowed: 3, 5"),
        ({"d": (1, 3)}, r"d\[1\] = 3 is not legal; allowed: 1, 2"),
        ({"e": (2,) * 3}, r"e has 3 values, space 'small' wants 4"),
        ({"kss": (3,) * 4}, r"no dimension 'kss' \(did you mean 'ks'\?\)"),
        ({"e": None}, r"lacks 'e'"),
    ],
)
def test_illegal_architectures_name_the_gene(change, message):
    space = SPACES["small"]
    with pytest.raises(ArchitectureError, match=message):
        space.validate(Architecture({**space.largest(), **change}))


def test_unused_genes_may_hold_leftovers():
    space = SPACES["small"]
    leftovers = Architecture({"ks": (3, 99, 3, 0), "e": (2, -1, 2, 0), "d": (1, 1), "r": 224})
    assert space.canonicalize(leftovers) == space.smallest()


@pytest.mark.parametrize(
    "text",
    ["", "[1]", "{'ks': a}", "{'ks': [[1]]}", "{'ks': [null]}", "__import__('os')", "{'ks': {1: 2}}", "{1: [2]}"],
)
def test_text_that_is_no_architecture(text):
    with pytest.raises(ArchitectureError, match="not an architecture"):
        Architecture.parse(text)


def test_published_text_with_empty_dimensions_reads_back():
    text = "{'wid': None, 'ks': [3, 5, 3, 5], 'e': [2, 3, 2, 3], 'd': [2, 2], 'r': [224]}"
    architecture = Architecture.parse(text)
    SPACES["small"].validate(architecture)
    assert Architecture.parse('{"d": null, "ks": [3]}') == Architecture({"ks": (3,)})
    assert hash(architecture) == hash(Architecture(dict(list(architecture.items())[::-1])))


def test_restriction_keeps_canonical_forms_and_drops_values():
    space = SPACES["mobilenet"]
    part = space.restrict({"ks": [3, 5], "d[0]": 4, "r": 160})
    assert part.size() < space.size()
    for architecture in part.sample(np.random.default_rng(1), 50):
        assert space.canonicalize(architecture) == architecture
        assert 7 not in architecture["ks"] and architecture["d"][0] == 4 and architecture["r"] == (160,)
    with pytest.raises(ArchitectureError, match=r"r\[0\] = 224"):
        part.validate(space.largest())


@pytest.mark.parametrize(
    ("allowed", "message"),
    [
        ({"ks": [4]}, r"ks\[0\]: \[4\] is not a part of"),
        ({"ks": []}, "not a part"),
        ({"q": [1]}, "no gene 'q'; it has ks, e, d, r"),
        ({"ks[20]": 3}, r"no gene 'ks\[20\]'"),
    ],
)
def test_impossible_restrictions(allowed, message):
    with pytest.raises(ConfigError, match=message):
        SPACES["mobilenet"].restrict(allowed)


def test_malformed_spaces_are_refused():
    with pytest.raises(ConfigError, match="ascending"):
        Dimension("a", ((2, 1),))
    with pytest.raises(ConfigError, match="no legal value"):
        Dimension.uniform("a", ())
    pair = (Dimension.uniform("a", (0, 1)), Dimension.uniform("b", (0, 1)))
    with pytest.raises(ConfigError, match="cycle"):
        SearchSpace("loop", pair, (Condition(("a", 0), ("b", 0), 1), Condition(("b", 0), ("a", 0), 1)))


def test_depth_conditions_with_fixed_blocks():
    conditions = list(depth_conditions("d", ["e"], [3], always_on=[2]))
    assert [(c.gene[1], c.at_least) for c in conditions] == [(0, -1), (1, 0), (2, 1)]


def test_conditions_and_names_are_checked():
    pair = (Dimension.uniform("a", (0, 1)), Dimension.uniform("b", (0, 1)))
    with pytest.raises(ConfigError, match=r"c\[0\], which the space lacks"):
        SearchSpace("s", pair, [Condition(("c", 0), ("a", 0), 1)])
    with pytest.raises(ConfigError, match=r"a\[1\], which the space lacks"):
        SearchSpace("s", pair, [Condition(("b", 0), ("a", 1), 1)])
    with pytest.raises(ConfigError, match=r"b\[0\] has two controllers"):
        SearchSpace("s", pair, [Condition(("b", 0), ("a", 0), 1)] * 2)
    with pytest.raises(ConfigError, match="two dimensions have one name"):
        SearchSpace("s", (pair[0], pair[0]))


def test_architectures_of_numpy_values_are_plain():
    architecture = Architecture({"ks": np.array([3, 5]), "d": np.int64(2), "e": [np.float64(0.25)]})
    assert architecture == Architecture({"ks": (3, 5), "d": 2, "e": (0.25,)})
    assert json.loads(json.dumps(architecture.to_dict())) == {"ks": [3, 5], "d": [2], "e": [0.25]}


def test_architectures_from_another_process_are_found_in_dictionaries():
    script = (
        "import pickle, sys; from nas_compress.space import Architecture; "
        "sys.stdout.buffer.write(pickle.dumps(Architecture({'ks': (3, 5), 'd': 2})))"
    )
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        made = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True)
        assert {Architecture({"ks": (3, 5), "d": 2}): "found"}[pickle.loads(made.stdout)] == "found"
