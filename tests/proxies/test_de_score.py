import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from nas_compress.errors import ConfigError
from nas_compress.proxies.de_score import (
    DEFAULT_WEIGHTS,
    LOGARITHMS,
    PUBLISHED_TERMS,
    Scale,
    de_score,
    de_score_original,
    network_terms,
    stacked,
)


def terms(n=40, seed=0):
    """Sizes as they are in practice: synflow over many orders of magnitude, condition numbers of 5 to 35."""
    rng = np.random.default_rng(seed)
    return {
        "expressivity": rng.normal(100, 30, n),
        "complexity": rng.uniform(5, 35, n),
        "diversity": np.exp(rng.normal(10, 2, n)),
        "saliency": np.exp(rng.normal(150, 40, n)),
        "entropy": rng.normal(400, 40, n),
        "macs": np.exp(rng.normal(16, 1, n)),
        "latency": np.exp(rng.normal(2, 0.5, n)),
    }


EQUAL = dict.fromkeys(terms(), 1.0)


@given(st.sampled_from(["complexity", "diversity", "saliency", "macs", "latency"]), st.floats(1e-6, 1e6))
def test_the_unit_of_a_term_does_not_matter(name, factor):
    other = {**terms(), name: terms()[name] * factor}
    assert np.allclose(de_score(other, EQUAL), de_score(terms(), EQUAL))


def test_terms_of_any_size_have_the_same_say():
    scores = de_score(terms(400), EQUAL)
    shares = [abs(spearmanr(scores, values).statistic) for values in terms(400).values()]
    assert min(shares) > 0.3


@pytest.mark.parametrize(
    ("name", "sign"),
    [
        ("expressivity", 1),
        ("complexity", -1),
        ("diversity", 1),
        ("saliency", 1),
        ("entropy", 1),
        ("macs", 1),
        ("latency", -1),
    ],
)
def test_the_sign_of_a_term(name, sign):
    assert spearmanr(de_score(terms(), {name: 2.0}), terms()[name]).statistic == pytest.approx(sign)


@pytest.mark.parametrize(("kind", "own"), [("cnn", {"macs"}), ("transformer", {"entropy", "macs"})])
def test_by_default_terms_of_our_own_count_beside_the_published_terms(kind, own):
    assert set(DEFAULT_WEIGHTS[kind]) == {*PUBLISHED_TERMS[kind], *own}
    assert all(weight > 0 for weight in DEFAULT_WEIGHTS[kind].values())


def test_the_default_weights_are_the_documented_ones():
    assert DEFAULT_WEIGHTS == {
        "cnn": {"expressivity": 1, "complexity": 5, "saliency": 1, "macs": 3},
        "transformer": {"diversity": 1, "saliency": 2, "entropy": 6, "macs": 1},
    }


def test_weights_of_zero_and_terms_without_weight_are_not_looked_at():
    broken = {**terms(), "diversity": np.zeros(40)}
    weights = {"expressivity": 1.0, "saliency": 0.5, "diversity": 0.0}
    assert (de_score(broken, weights) == de_score(terms(), weights)).all()


def test_a_scale_makes_scores_independent_of_the_others():
    scale = Scale.of(terms())
    some = {name: values[:3] for name, values in terms(seed=1).items()}
    one = {name: values[:1] for name, values in some.items()}
    assert de_score(some, EQUAL, scale)[0] == de_score(one, EQUAL, scale)[0]
    assert np.median(de_score(terms(400), {"complexity": 1.0}, Scale.of(terms(400)))) == pytest.approx(0, abs=1e-9)


def test_outliers_do_not_set_the_scale():
    values = terms()["saliency"]
    wild = np.concatenate([values, [1e300]])
    assert Scale.of({"saliency": wild}).spread["saliency"] < 1.2 * Scale.of({"saliency": values}).spread["saliency"]


def test_a_term_that_is_the_same_everywhere_counts_nothing():
    constant = {**terms(), "diversity": np.full(40, 7.0)}
    with_it, without = ({"saliency": 1.0, **more} for more in ({"diversity": 1.0}, {}))
    assert np.allclose(2 * de_score(constant, with_it), de_score(constant, without))


def test_seeds_are_averaged():
    rng = np.random.default_rng(3)
    noisy = {name: values[:, None] * np.exp(rng.normal(0, 0.01, (40, 4))) for name, values in terms().items()}
    scores = de_score(noisy, EQUAL)
    assert scores.shape == (40, 4)
    assert spearmanr(scores.mean(1), de_score(terms(), EQUAL)).statistic > 0.95


@pytest.mark.parametrize("missing", [0.0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize("name", [*EQUAL])
def test_a_network_without_a_term_is_the_worst_and_leaves_the_others_as_they_are(name, missing):
    whole = terms(41)
    alone = {each: values[:40] for each, values in whole.items()}
    if name in LOGARITHMS and np.isfinite(missing):
        missing = np.nan
    whole[name] = np.append(whole[name][:40], missing)
    scores = de_score(whole, {name: 1.0})
    assert scores[40] == -np.inf and np.isfinite(scores[:40]).all()
    assert (scores[:40] == de_score(alone, {name: 1.0})).all()
    assert de_score(whole, EQUAL)[40] == -np.inf


def test_a_term_that_is_the_same_or_missing_everywhere():
    values = {"saliency": np.array([1.0, 2.0, 3.0]), "diversity": np.array([7.0, 7.0, np.nan])}
    scores = de_score(values, {"saliency": 1.0, "diversity": 1.0})
    assert np.isfinite(scores[:2]).all() and scores[2] == -np.inf
    assert (de_score({"diversity": np.full(3, np.nan)}, {"diversity": 1.0}) == -np.inf).all()


def test_a_seed_without_a_term():
    values = np.array([[1.0, 2.0], [0.0, 2.0], [3.0, 4.0], [5.0, 8.0]])
    assert Scale.of({"saliency": values}) == Scale.of({"saliency": values[[0, 2, 3]]})
    assert de_score({"saliency": values}, {"saliency": 1.0}).mean(axis=1)[1] == -np.inf


@pytest.mark.filterwarnings("error")
def test_the_original_of_networks_without_a_term():
    values = {"expressivity": [1.0, np.nan, 1.0], "saliency": [2.0, 1.0, 0.0], "complexity": [1.0, 1.0, 1.0]}
    assert de_score_original({k: np.array(v) for k, v in values.items()}, "cnn").tolist() == [-0.5, -np.inf, -np.inf]


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({}, "at least one term"),
        ({"saliency": 0.0}, "at least one term"),
        ({"depth": 1.0}, "no term 'depth'"),
    ],
)
def test_weights_that_say_nothing(weights, words):
    with pytest.raises(ConfigError, match=words):
        de_score(terms(), weights)


def test_a_missing_term_is_named():
    with pytest.raises(ConfigError, match="lacks values of latency"):
        de_score({"saliency": np.ones(3)}, {"saliency": 1.0, "latency": 1.0})


def test_the_original_is_its_largest_term():
    """As measured on the original program: among convolutional networks the condition number decides alone."""
    values = terms()
    scores = de_score_original({**values, "expressivity": values["expressivity"] / 1000}, "cnn")
    assert spearmanr(scores, values["complexity"]).statistic == pytest.approx(-1)


def test_the_originals_formulas():
    values = {"diversity": np.array([3.0]), "saliency": np.array([5.0]), "latency": np.array([200.0])}
    assert de_score_original(values, "transformer") == pytest.approx([8.0])
    weights = {"diversity": 2.0, "latency": 10.0}
    assert de_score_original(values, "transformer", weights) == pytest.approx([11 / 3])
    values = {"expressivity": np.array([6.0]), "saliency": np.array([2.0]), "complexity": np.array([10.0])}
    assert de_score_original(values, "cnn") == pytest.approx([-7.0])


def test_stacked_terms():
    assert stacked([{"saliency": [1.0, 2.0]}, {"saliency": [3.0, 4.0]}])["saliency"].tolist() == [[1, 2], [3, 4]]


def test_network_terms_are_those_of_the_proxies_and_leave_the_network_alone():
    torch = pytest.importorskip("torch")
    from nas_compress.proxies import score
    from nas_compress.supernets import supernets

    net = supernets.get("digits_vit")(seed=0)
    subnet, x = net.extract(net.space.smallest()), net.example_input(4)
    before = [p.clone() for p in subnet.parameters()]
    found = network_terms(subnet, x, ["expressivity", "complexity", "saliency"], seed=1)
    proxies = score(subnet, x, ["zen_score", "ntk_condition_number", "synflow"], seed=1)
    assert list(found.values()) == list(proxies.values())
    assert all(torch.equal(p, q) for p, q in zip(before, subnet.parameters(), strict=True))
    assert network_terms(subnet, x, ["diversity"], original=True)["diversity"] > 0
    with pytest.raises(ConfigError, match="no term 'latency'"):
        network_terms(subnet, x, ["latency"])
