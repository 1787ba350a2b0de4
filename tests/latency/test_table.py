"""Latency tables: built in sweeps, resumed after a kill, refused for other conditions."""

import json

import numpy as np
import pytest
from latency_chain import Chain, Meter

from nas_compress.archive import Archive
from nas_compress.errors import ArchiveError, ConfigError, EvaluationError
from nas_compress.latency import blocks, build
from nas_compress.latency.build import build_table, random_subnets
from nas_compress.latency.table import read_conditions, read_table
from nas_compress.space import Dimension, SearchSpace


def table_of(path, chain, meter, **options):
    return build_table(path, chain, chain.space, meter, **{"subnets": 6, "sweeps": 2, **options})


def test_every_block_and_the_sub_networks_are_in_it(tmp_path, chain, meter):
    table = table_of(tmp_path / "lut.jsonl", chain, meter)
    assert table.empty_ms == meter.call
    assert table.blocks["linear in=8 out=4"] == pytest.approx(meter.call + meter.each * 32)
    assert len(table.subnets) == 6 and chain.space.largest() in table.subnets
    for architecture, ms in table.subnets.items():
        assert ms == pytest.approx(meter.of(chain.extract(architecture)))
    assert table.conditions["threads"] == 1 and table.conditions["supernet"] == chain.describe()
    assert len(meter.measured) == 2 * (1 + len(table.blocks) + 6)


def test_networks_are_built_once_for_all_sweeps_if_there_is_room(tmp_path, chain, meter, monkeypatch):
    table_of(tmp_path / "a.jsonl", chain, meter, sweeps=3)
    assert len(meter.measured) == 3 * len({id(module) for module in meter.measured})
    monkeypatch.setattr(build, "KEPT_BYTES", 0)
    poor = Meter()
    table_of(tmp_path / "b.jsonl", chain, poor, sweeps=3)
    with_weights = [module for module in poor.measured if list(module.parameters())]
    assert len(with_weights) == len({id(module) for module in with_weights})


@pytest.mark.parametrize("killed_after", [0, 1, 17, 31])
def test_an_interrupted_table_goes_on_and_ends_as_one_that_was_not(tmp_path, chain, killed_after):
    whole = table_of(tmp_path / "whole.jsonl", chain, Meter())
    interrupted = Meter(fails_after=killed_after)
    interrupted.failure = KeyboardInterrupt()
    path = tmp_path / "lut.jsonl"
    with pytest.raises(KeyboardInterrupt):
        table_of(path, chain, interrupted)
    with path.open("a") as file:
        file.write('{"architecture": {"block": ["torn')
    rest = Meter()
    seen = []
    table = table_of(path, chain, rest, progress=lambda done, total, note: seen.append((done, total)))
    assert len(interrupted.measured) + len(rest.measured) == 2 * (1 + len(whole.blocks) + 6)
    assert (table.blocks, table.subnets, table.fingerprint) == (whole.blocks, whole.subnets, whole.fingerprint)
    assert seen[-1][0] == seen[-1][1] == len(seen) - 1


def test_more_can_be_added_to_a_table(tmp_path, chain, meter):
    path = tmp_path / "lut.jsonl"
    part = chain.space.restrict({"w": (2, 4)})
    small = build_table(path, chain, part, meter, subnets=4, sweeps=1)
    before = len(meter.measured)
    table = table_of(path, chain, meter, sweeps=1)
    assert set(small.blocks) < set(table.blocks) and len(table.subnets) > 6
    assert len(meter.measured) - before < 1 + len(table.blocks) + 6


def test_without_blocks_there_are_sub_networks_alone(tmp_path, chain, meter):
    table = table_of(tmp_path / "lut.jsonl", chain, meter, blocks=False, subnets=12)
    assert not table.blocks and len(table.subnets) == 12
    with pytest.raises(ConfigError, match="wants blocks or sub-networks"):
        table_of(tmp_path / "none.jsonl", chain, meter, blocks=False, subnets=0)


def test_a_block_that_cannot_be_measured_is_named(tmp_path, chain):
    with pytest.raises(EvaluationError, match=r"(linear in=\d|sub-network).*: cannot take it"):
        table_of(tmp_path / "lut.jsonl", chain, Meter(fails_after=3))


def test_a_table_of_other_conditions_is_refused_and_left_alone(tmp_path, chain, meter):
    path = tmp_path / "lut.jsonl"
    table_of(path, chain, meter)
    before = path.read_bytes()
    with pytest.raises(ArchiveError, match="measured on something else .threads: 1 there, 2 now"):
        table_of(path, chain, Meter(threads=2))
    with pytest.raises(ArchiveError, match="supernet.classes: 3 there, 4 now"):
        table_of(path, Chain(classes=4), meter)
    assert path.read_bytes() == before


def test_other_files_are_refused(tmp_path, chain, meter):
    other = tmp_path / "text.jsonl"
    other.write_text("hello\n")
    with pytest.raises(ArchiveError, match="latency table is wanted"):
        table_of(other, chain, meter)
    with Archive.open(tmp_path / "search.jsonl", {"approach": "dynas"}) as archive:
        archive.add_context({})
    with pytest.raises(ConfigError, match="is the archive of a search"):
        read_conditions(tmp_path / "search.jsonl")
    with pytest.raises(ConfigError, match="cannot read the latency table"):
        read_table(tmp_path / "absent.jsonl")


def test_a_table_without_measurements_says_so(tmp_path, chain):
    path = tmp_path / "lut.jsonl"
    with pytest.raises(EvaluationError):
        table_of(path, chain, Meter(fails_after=0))
    with pytest.raises(ConfigError, match="holds no measurement yet"):
        read_table(path)


def test_lines_are_plain_json(tmp_path, chain, meter):
    path = tmp_path / "lut.jsonl"
    table_of(path, chain, meter)
    header, context, *rows = map(json.loads, path.read_text().splitlines())
    assert header["search"]["kind"] == "latency table" and "measured_on" in context
    assert {"architecture", "objective", "value", "date"} <= set(rows[0])


def test_drift_is_taken_out_of_a_table(tmp_path, chain):
    table = table_of(tmp_path / "lut.jsonl", chain, Meter(drift=0.2, noise=0.01), sweeps=5)
    ratios = np.array([ms / Meter().of(block.build()) for (_, ms), block in zip(*blocks_of(table, chain), strict=True)])
    assert np.std(ratios / np.median(ratios)) < 0.03
    assert 0.005 < table.noise < 0.05


def blocks_of(table, chain):
    known = {b.key: b for a in chain.space.sample(np.random.default_rng(0), 3000) for b in chain.blocks(a)}
    return list(table.blocks.items()), [known[key] for key in table.blocks]


def test_random_sub_networks_are_distinct_and_no_more_than_there_are():
    space = SearchSpace("small", (Dimension.uniform("g", (1, 2), 2),))
    assert len(random_subnets(space, 10, 0)) == 4
    first = random_subnets(space, 3, 0)
    assert len(set(first)) == 3 and first[:2] == [space.largest(), space.smallest()] == random_subnets(space, 2, 1)
    assert random_subnets(space, 1, 0) == [space.largest()] and random_subnets(space, 0, 0) == []


@pytest.mark.parametrize("wrong", [{"subnets": -1}, {"sweeps": 0}, {"sweeps": -2}])
def test_numbers_out_of_range_are_refused(tmp_path, chain, meter, wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ConfigError, match=f"{name} = {value} is out of range"):
        table_of(tmp_path / "lut.jsonl", chain, meter, **wrong)
    assert not (tmp_path / "lut.jsonl").exists()


def test_the_number_of_measurements_is_told_before_the_first(tmp_path, chain, meter):
    told = []
    table = table_of(tmp_path / "lut.jsonl", chain, meter, progress=lambda *each: told.append(each))
    count = 1 + len(table.blocks) + 6
    assert told[0] == (0, 2 * count, f"{len(table.blocks)} blocks, 6 sub-networks, 2 sweeps: at least 2 s to measure")
    table_of(tmp_path / "lut.jsonl", chain, meter, progress=lambda *each: told.append(each))
    assert told[2 * count + 1][2].endswith("2 sweeps: all is measured")


def test_conditions_are_compared_before_blocks_are_looked_for(tmp_path, chain, meter, monkeypatch):
    table_of(tmp_path / "lut.jsonl", chain, meter)
    monkeypatch.setattr(chain, "blocks", None)
    with pytest.raises(ArchiveError, match="measured on something else"):
        table_of(tmp_path / "lut.jsonl", chain, Meter(threads=2))


def test_too_many_blocks_are_refused_before_any_file_is_made(tmp_path, chain, meter, monkeypatch):
    monkeypatch.setattr(blocks, "MOST_BLOCKS", 10)
    with pytest.raises(ConfigError, match=r"'chain' has more than 10 distinct blocks.*restrict the space.*--learned"):
        table_of(tmp_path / "lut.jsonl", chain, meter)
    assert not (tmp_path / "lut.jsonl").exists()
