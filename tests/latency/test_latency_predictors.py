"""Latency predicted from a table: right where it can be, with an error that is honest, and refused where it cannot."""

import re
from dataclasses import replace

import numpy as np
import pytest
from latency_chain import Chain, Meter

from nas_compress.errors import ConfigError
from nas_compress.latency.build import build_table
from nas_compress.latency.learned import LearnedLatency
from nas_compress.latency.lookup_table import LookupTable, Plane
from nas_compress.latency.predictor import PredictionErrors, load_predictor
from nas_compress.space import Architecture

UNSEEN = 200


@pytest.fixture(scope="module")
def unseen():
    chain = Chain()
    return chain.space.sample(np.random.default_rng(7), UNSEEN)


def of_table(path, chain, meter, **options):
    build_table(path, chain, chain.space, meter, **{"subnets": 12, "sweeps": 1, **options})
    return load_predictor(path, chain)


def wanted(architectures):
    return np.array([Meter().of(Chain().extract(architecture)) for architecture in architectures])


def test_sums_of_blocks_on_a_straight_line_are_right(tmp_path, chain, meter, unseen):
    predictor = of_table(tmp_path / "lut.jsonl", chain, meter)
    assert isinstance(predictor, LookupTable)
    assert predictor.plane.slope == pytest.approx(meter.together)
    assert predictor.plane.offset_ms == pytest.approx(meter.call * (1 - meter.together))
    assert np.allclose(predictor.predict(unseen), wanted(unseen))
    assert predictor.errors.kendall_tau == pytest.approx(1) and predictor.errors.mape < 1e-6
    assert predictor.raw_errors.mape > 10


def test_weights_that_the_whole_fetches_anew_are_paid_for(tmp_path, meter, unseen):
    class Heavy(Chain):
        """Each layer has a million parameters, however long it takes."""

        def encoded_cost(self, cost, space, encoded):
            return np.array([1e6 * len(self.blocks(a)) for a in space.decode(encoded)])

    chain = Heavy()

    def fetched(architectures):
        return np.array([2.0 * len(chain.blocks(a)) for a in architectures])

    table = build_table(tmp_path / "lut.jsonl", chain, chain.space, meter, subnets=20, sweeps=1)
    subnets = list(table.subnets)
    table = replace(table, subnets=dict(zip(subnets, wanted(subnets) + fetched(subnets), strict=True)))
    predictor = LookupTable(chain, table)
    assert predictor.plane.slope == pytest.approx(meter.together)
    assert predictor.plane.ms_per_million == pytest.approx(2)
    assert np.allclose(predictor.predict(unseen), wanted(unseen) + fetched(unseen))


def test_weights_never_take_time_away():
    sums, millions = np.arange(1.0, 13), np.arange(12.0) ** 2
    plane = Plane.fitted(sums, millions, 3 * sums - 0.01 * millions)
    assert plane.ms_per_million == 0 and plane.slope > 0
    falling = Plane.fitted(np.arange(1.0, 13), np.arange(12.0), 40 - np.arange(1.0, 13))
    assert falling.slope > 0 and falling.ms_per_million == falling.offset_ms == 0


def test_the_cost_of_a_call_counts_once(tmp_path, chain, meter):
    predictor = of_table(tmp_path / "lut.jsonl", chain, meter, subnets=0)
    largest = chain.space.largest()
    products = (wanted([largest])[0] - meter.call) / meter.together
    assert predictor.sums([largest])[0] == pytest.approx(meter.call + products)


@pytest.mark.parametrize("subnets", [0, 4])
def test_with_few_sub_networks_sums_stay_as_they_are_and_the_error_is_unknown(tmp_path, chain, meter, subnets):
    predictor = of_table(tmp_path / "lut.jsonl", chain, meter, subnets=subnets)
    assert (predictor.plane, predictor.errors) == (Plane(), None)
    assert "unknown" in predictor.describe()["error"]


@pytest.mark.parametrize("learned", [False, True])
def test_the_error_that_is_told_is_that_on_unseen_sub_networks(tmp_path, chain, unseen, learned):
    predictor = of_table(tmp_path / "lut.jsonl", chain, Meter(noise=0.05), blocks=not learned, subnets=60)
    predicted, told = predictor.predict(unseen), predictor.errors
    noisy = wanted(unseen) * np.exp(0.05 * np.random.default_rng(1).normal(size=UNSEEN))
    true = PredictionErrors.of(predicted, noisy)
    assert told.mape == pytest.approx(true.mape, rel=0.4)
    assert told.std == pytest.approx(true.std, rel=0.4)
    assert told.kendall_tau == pytest.approx(true.kendall_tau, abs=0.06)


def test_a_learned_predictor_learns(tmp_path, chain, meter, unseen):
    predictor = of_table(tmp_path / "learned.jsonl", chain, meter, blocks=False, subnets=60)
    assert isinstance(predictor, LearnedLatency)
    assert PredictionErrors.of(predictor.predict(unseen), wanted(unseen)).kendall_tau > 0.85


def test_too_few_sub_networks_to_learn_from_are_refused(tmp_path, chain, meter):
    with pytest.raises(ConfigError, match=r"learned.jsonl: the latency table holds 9 sub-networks; wants 10"):
        of_table(tmp_path / "learned.jsonl", chain, meter, blocks=False, subnets=9)


def test_a_table_of_another_network_is_refused(tmp_path, chain, meter):
    of_table(tmp_path / "lut.jsonl", chain, meter)
    with pytest.raises(ConfigError, match=r"lut.jsonl: .* of another super-network .classes: 3 there, 4 now"):
        load_predictor(tmp_path / "lut.jsonl", Chain(classes=4))


def test_an_architecture_outside_of_the_table_is_refused(tmp_path, chain, meter):
    path = tmp_path / "lut.jsonl"
    part = chain.space.restrict({"w": (2, 4)})
    build_table(path, chain, part, meter, subnets=6, sweeps=1)
    predictor = load_predictor(path, chain)
    assert len(predictor.predict([part.largest()])) == 1
    with pytest.raises(ConfigError, match=r"lacks the block 'linear in=5 out=8'"):
        predictor.predict([chain.space.largest()])


@pytest.mark.parametrize("blocks", [False, True])
def test_gene_values_that_no_sub_network_was_measured_with_are_refused(tmp_path, chain, meter, blocks):
    path = tmp_path / "lut.jsonl"
    part = chain.space.restrict({"d": (1, 2), "w[0]": (2, 8)})
    build_table(path, chain, chain.space, meter, subnets=0, sweeps=1)
    build_table(path, chain, part, meter, blocks=blocks, subnets=12, sweeps=1)
    predictor = load_predictor(path, chain)
    inside = part.sample(np.random.default_rng(0), 50)
    assert len(predictor.predict(inside)) == 50
    for architecture, gene in ((chain.space.largest(), "d[0] = 1, 2, not 3"), (middle(part), "w[0] = 2, 8, not 4")):
        with pytest.raises(ConfigError, match=re.escape(f"measured on sub-networks with {gene}")):
            predictor.predict([*inside, architecture])


def middle(space):
    """Return an architecture of a space with another first width."""
    genes = space.largest().to_dict()
    return Architecture({**genes, "w": [4, *genes["w"][1:]]})


def test_values_of_genes_that_are_not_used_do_not_matter(tmp_path, chain, meter):
    part = chain.space.restrict({"d": 1, "w[0]": (4, 8)})
    build_table(tmp_path / "lut.jsonl", chain, part, meter, subnets=12, sweeps=1)
    genes = {**part.largest().to_dict(), "w": [8, 2, 2, 8, 4, 4]}
    assert len(load_predictor(tmp_path / "lut.jsonl", chain).predict([Architecture(genes)])) == 1


def test_errors_are_those_of_the_predictions():
    errors = PredictionErrors.of(np.array([1.1, 1.8, 3.3]), np.array([1.0, 2.0, 3.0]))
    assert errors.mape == pytest.approx(10) and errors.kendall_tau == 1
    assert errors.std == pytest.approx(np.std([0.1, -0.1, 0.1], ddof=1))
    assert "Kendall tau 1.000, mean error 10 %" in str(errors)


def test_what_blocks_cost_together_is_learned_from_whole_sub_networks(tmp_path, chain, meter, unseen):
    """Deep second stages take longer than their parts: the straight line cannot know, the correction can."""

    def together(architecture):
        return 1 + 0.15 * (architecture["d"][1] - 1)

    table = build_table(tmp_path / "lut.jsonl", chain, chain.space, meter, subnets=60, sweeps=1)
    table = replace(table, subnets={a: ms * together(a) for a, ms in table.subnets.items()})
    true = wanted(unseen) * np.array([together(a) for a in unseen])
    predictor = LookupTable(chain, table)
    millions = chain.encoded_cost("params", chain.space, chain.space.encode(unseen)) / 1e6
    line = PredictionErrors.of(predictor.plane(predictor.sums(unseen), millions), true)
    corrected = PredictionErrors.of(predictor.predict(unseen), true)
    assert corrected.mape < line.mape / 3
    assert predictor.errors.mape < line.mape
