import csv
import gzip
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import HDBSCAN

from nas_compress.errors import ArchitectureError, ConfigError
from nas_compress.search.popdb import popdb
from nas_compress.space import Architecture, Condition, Dimension, SearchSpace, mobilenet_space

SPACE = mobilenet_space("ofa")


def around(rng, ks, e, d, n):
    """Architectures near one that is the same in all blocks: each gene in seven is drawn from 5 and 7, or 4 and 6."""
    found = []
    for _ in range(n):
        k = np.where(rng.random(20) < 0.15, rng.choice([5, 7], 20), ks)
        r = np.where(rng.random(20) < 0.15, rng.choice([4, 6], 20), e)
        found.append(Architecture({"ks": k, "e": r, "d": d, "r": 224}))
    return found


def crowded(seed=0, crowd=200, noise=200):
    """Two crowds, of kernels 5, ratios 6, all deep, and of kernels 7, ratios 4, one shallower; then scattered ones."""
    rng = np.random.default_rng(seed)
    crowds = [
        *around(rng, 5, 6, [4] * 5, crowd),
        *around(rng, 7, 4, [4, 4, 4, 4, 3], crowd),
    ]
    return crowds, SPACE.restrict({"d": [3, 4]}).sample(rng, noise)


def test_values_of_noise_alone_leave_the_space():
    crowds, scattered = crowded()
    found = popdb(SPACE, [*crowds, *scattered])
    assert found.clusters == 2
    assert found.noise == pytest.approx(len(scattered), abs=20)
    assert found.architectures == len({SPACE.canonicalize(a) for a in [*crowds, *scattered]})
    assert all(found.restriction[f"ks[{i}]"] == [5, 7] and found.restriction[f"e[{i}]"] == [4, 6] for i in range(19))
    assert found.restriction["d[0]"] == [4] and found.restriction["d[4]"] == [3, 4]
    assert all(found.restricted.contains(a) for a in crowds)
    assert not all(found.restricted.contains(a) for a in scattered)


def test_frequencies_are_those_of_architectures_in_clusters_that_use_the_gene():
    crowds, scattered = crowded()
    points = sorted({SPACE.canonicalize(a) for a in [*crowds, *scattered]}, key=lambda a: tuple(SPACE.encode([a])[0]))
    found = popdb(SPACE, points)
    ordinal = SPACE.features(points)[:, :45]  # 20 ks, 20 e, 5 d; the one-hot part follows
    labels = HDBSCAN(min_cluster_size=50, min_samples=10, copy=True).fit(ordinal).labels_
    dense = [a for a, label in zip(points, labels, strict=True) if label >= 0]
    for name, blocks, values in [("ks", 20, (3, 5, 7)), ("e", 20, (3, 4, 6)), ("d", 5, (2, 3, 4)), ("r", 1, (224,))]:
        for slot in range(blocks):
            count = Counter(a[name][slot] for a in dense if a[name][slot])  # 0: not used
            expected = {v: count[v] / count.total() for v in values}
            assert found.frequencies[f"{name}[{slot}]"] == pytest.approx(expected)
    assert found.noise == sum(labels < 0)


@settings(max_examples=12)
@given(st.integers(0, 1000), st.sampled_from([0.0, 0.01, 0.1, 0.3]), st.sampled_from([20, 50]))
def test_what_always_holds(seed, threshold, size):
    crowds, scattered = crowded(seed, crowd=100, noise=60)
    found = popdb(SPACE, [*crowds, *scattered], threshold=threshold, min_cluster_size=size, min_samples=5)
    full = {g: list(c) for g, c in zip(SPACE.gene_names, (c for d in SPACE.dimensions for c in d.choices), strict=True)}
    assert found.restriction.keys() == found.dropped.keys()
    for gene, parts in found.frequencies.items():
        assert sum(parts.values()) == pytest.approx(1) and list(parts) == full[gene]
        rare = [v for v, part in parts.items() if part <= threshold]
        assert found.dropped.get(gene, []) == ([] if gene in found.unreachable else rare)
        assert sorted(found.restriction.get(gene, full[gene]) + found.dropped.get(gene, [])) == full[gene]
    assert found.restricted.describe()["dimensions"] == SPACE.restrict(found.restriction).describe()["dimensions"]
    assert 0 < found.size_after <= found.size_before == SPACE.size()
    assert (found.size_after < found.size_before) == bool(found.restriction)
    merged = {gene: values for genes in found.dropped_by_dimension.values() for gene, values in genes.items()}
    assert merged == found.dropped and list(found.dropped_by_dimension) == ["ks", "e", "d", "r"]


def test_neither_order_nor_repeats_nor_unused_genes_matter():
    crowds, scattered = crowded()
    points = [*crowds, *scattered]
    rng = np.random.default_rng(5)
    shuffled = [points[i] for i in rng.permutation(len(points))]
    leftovers = [
        Architecture({**a.to_dict(), "ks": [k or 3 for k in a["ks"]], "e": [r or 6 for r in a["e"]]}) for a in points
    ]
    first = popdb(SPACE, points)
    for other in (shuffled, points * 2, leftovers):
        again = popdb(SPACE, other)
        assert again.restriction == first.restriction and again.frequencies == first.frequencies
        assert (again.architectures, again.clusters, again.noise) == (first.architectures, first.clusters, first.noise)


def counted(rare: int) -> tuple[SearchSpace, list[Architecture]]:
    """A space, and 100 distinct architectures in two far crowds of which `rare` have x = 2."""
    space = SearchSpace(
        "counted",
        (Dimension.uniform("far", (0, 1), 30), Dimension.uniform("x", (1, 2, 3)), Dimension.uniform("y", (0, 1), 6)),
    )
    points = [
        Architecture({"far": [i % 2] * 30, "x": 2 if i < rare else 1, "y": [i >> b & 1 for b in range(1, 7)]})
        for i in range(100)
    ]
    return space, points


@pytest.mark.parametrize(("rare", "left"), [(1, [1]), (2, [1]), (3, [1, 2])])
def test_a_value_at_the_threshold_leaves_and_one_above_stays(rare, left):
    space, points = counted(rare)
    found = popdb(space, points, threshold=0.02, min_cluster_size=20, min_samples=1)
    assert found.noise == 0 and found.frequencies["x[0]"][2] == rare / 100
    assert found.restriction["x[0]"] == left


def test_thresholds_per_dimension_leave_the_others_alone():
    space, points = counted(5)
    options = {"min_cluster_size": 20, "min_samples": 1}
    assert popdb(space, points, threshold={"x": 0.0}, **options).restriction == {"x[0]": [1, 2]}
    assert popdb(space, points, threshold={"x": 0.05}, **options).restriction == {"x[0]": [1]}
    assert popdb(space, points, threshold={"far": 0.05}, **options).restriction == {}
    assert popdb(space, points, threshold={}, **options).restricted.size() == space.size()


def chain() -> SearchSpace:
    """A stage of up to three blocks; the second kernel of the third block depends on its first."""
    dimensions = (
        Dimension.uniform("d", (1, 2, 3)),
        Dimension.uniform("ks", (3, 5, 7), 3),
        Dimension.uniform("extra", (0, 1, 2)),
        Dimension.uniform("side", (0, 1), 30),
    )
    conditions = [
        Condition(("ks", 1), ("d", 0), 2),
        Condition(("ks", 2), ("d", 0), 3),
        Condition(("extra", 0), ("ks", 2), 5),
    ]
    return SearchSpace("chain", dimensions, conditions)


def shallow(deep: int) -> list[Architecture]:
    """90 architectures in two far crowds: depth 2, but for `deep` of them, of depth 3 and kernel 7 everywhere."""
    return [
        Architecture(
            {"d": 3 if i < deep else 2, "ks": [(3, 5, 7)[i // 2 % 3], (3, 5)[i // 6 % 2], 7], "extra": 1}
            | {"side": [i % 2] * 26 + [i >> b & 1 for b in range(3, 7)]}
        )
        for i in range(90)
    ]


def test_genes_that_are_never_used_keep_their_values_and_are_named():
    found = popdb(chain(), shallow(0), min_cluster_size=10, min_samples=2)
    assert found.restriction["d[0]"] == [2]
    assert not {"ks[2]", "extra[0]"} & (found.frequencies.keys() | found.restriction.keys())
    assert found.unreachable == ["ks[2]", "extra[0]"]
    assert found.restriction["ks[1]"] == [3, 5]


def test_genes_that_a_dropped_depth_switches_off_lose_nothing():
    options = {"min_cluster_size": 10, "min_samples": 2}
    kept = popdb(chain(), shallow(12), threshold=0.05, **options)
    assert kept.restriction["d[0]"] == [2, 3] and kept.restriction["ks[2]"] == [7] and kept.unreachable == []
    cut = popdb(chain(), shallow(12), threshold={"d": 0.2, "ks": 0.05, "extra": 0.05}, **options)
    assert cut.frequencies["ks[2]"] == {3: 0, 5: 0, 7: 1}
    assert cut.restriction["d[0]"] == [2] and cut.unreachable == ["ks[2]", "extra[0]"]
    assert not {"ks[2]", "extra[0]"} & cut.restriction.keys()


def test_genes_that_few_architectures_use_are_not_judged():
    found = popdb(chain(), shallow(6), threshold=0.05, min_cluster_size=10, min_samples=2)
    assert found.restriction["d[0]"] == [2, 3] and found.unreachable == []
    assert "ks[2]" not in found.frequencies and "ks[2]" not in found.restriction


def test_constant_genes_stay_and_do_not_count():
    crowds, scattered = crowded()
    ones = {f"{name}[19]": value for name, value in (("ks", 7), ("e", 4))}  # of the last block, which d[4] drops
    fixed = SPACE.restrict({"d[0]": 4, **ones})
    points = sorted(
        {
            fixed.canonicalize(Architecture({**a.to_dict(), "ks": [*a["ks"][:19], 7], "e": [*a["e"][:19], 4]}))
            for a in [*crowds, *scattered]
            if a["d"][0] == 4
        },
        key=lambda a: tuple(fixed.encode([a])[0]),
    )
    found = popdb(fixed, points)
    assert found.frequencies["d[0]"] == {4: 1} and not {"d[0]", *ones} & found.restriction.keys()
    assert found.restriction["d[1]"] == [4]
    labels = HDBSCAN(min_cluster_size=50, min_samples=10, copy=True).fit(fixed.features(points)[:, :42]).labels_
    assert found.noise == sum(labels < 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": -0.1}, "threshold: -0.1 is not allowed; wants a part of 1, 0 <= threshold < 1"),
        ({"threshold": 1}, "threshold: 1 is not allowed"),
        ({"threshold": float("nan")}, "threshold: nan is not allowed"),
        ({"threshold": {"kernel": 0.1}}, "has no dimension 'kernel'"),
        ({"threshold": {"ks": 2}}, "threshold of ks: 2 is not allowed"),
        ({"threshold": 0.6}, "0.6 leaves ks"),
        ({"min_cluster_size": 1}, "min_cluster_size: 1 is not allowed; wants a whole number >= 2"),
        ({"min_cluster_size": 2.5}, "min_cluster_size: 2.5 is not allowed"),
        ({"min_samples": 0}, "min_samples: 0 is not allowed; wants a whole number >= 1"),
        ({"min_cluster_size": 5000}, r"distinct architectures are fewer than min_cluster_size \(5000\); give the res"),
        ({"min_samples": 5000}, r"fewer than min_samples \(5000\); .* or lower min_samples$"),
        ({"min_cluster_size": 500}, "none of .* is in a cluster .*lower min_cluster_size"),
    ],
)
def test_mistakes_are_named(options, message):
    crowds, scattered = crowded()
    with pytest.raises(ConfigError, match=message):
        popdb(SPACE, [*crowds, *scattered], **options)


def test_no_architectures_and_architectures_of_another_space():
    with pytest.raises(ConfigError, match="0 distinct architectures are fewer than min_cluster_size"):
        popdb(SPACE, [])
    with pytest.raises(ArchitectureError, match=r"ks\[0\] = 9"):
        popdb(SPACE, [Architecture({"ks": [9] * 20, "e": [6] * 20, "d": [4] * 5, "r": 224})])


def test_scattered_architectures_alone_are_noise():
    with pytest.raises(ConfigError, match="the search did not crowd anywhere"):
        popdb(SPACE, SPACE.sample(np.random.default_rng(0), 500))


def test_measured_searches_of_ofa_mobilenet(shared_data):
    """Architectures that published searches measured: a space of a twentieth of the size and less is left."""
    with gzip.open(shared_data / "ofa" / "ofa_mbv3_w1.0_imagenet_measured.csv.gz", "rt") as stream:
        rows = [{n: list(map(int, row[n].split())) for n in ("ks", "e", "d", "r")} for row in csv.DictReader(stream)]
    space = mobilenet_space("ofa_mbv3")
    points = [Architecture(row) for row in rows]
    found = popdb(space, points)
    assert found.clusters >= 2 and 0 < found.noise < len(rows)
    assert found.size_before == space.size() > 20 * found.size_after
    best = [a for a in points if found.restricted.contains(a)]
    assert len(best) > len(points) / 4
    assert popdb(space, points[::-1]).restriction == found.restriction
